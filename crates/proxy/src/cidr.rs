//! Networks of addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// `10.244.0.0/16`. What follows the network's bits does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// An address of the network.
    pub ip: IpAddr,
    /// Bits that name the network.
    pub prefix_len: u8,
}

impl Cidr {
    /// The network's mask, as bytes of an address.
    pub(crate) fn mask(&self) -> Vec<u8> {
        let bytes = if self.ip.is_ipv4() { 4 } else { 16 };
        let bits = |byte: u8| self.prefix_len.saturating_sub(byte * 8).min(8);
        (0..bytes).map(|byte| !(0xff_u16 >> bits(byte)) as u8).collect()
    }

    /// The network's first address, as bytes.
    pub(crate) fn network(&self) -> Vec<u8> {
        octets(self.ip).iter().zip(self.mask()).map(|(byte, mask)| byte & mask).collect()
    }
}

/// The bytes of an address.
pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid CIDR address: {text}");
        let (ip, prefix_len) = text.trim().split_once('/').ok_or_else(invalid)?;
        let ip: IpAddr = ip.parse().map_err(|_| invalid())?;
        let prefix_len: u8 = prefix_len.parse().map_err(|_| invalid())?;
        if prefix_len > if ip.is_ipv4() { 32 } else { 128 } {
            Err(invalid())
        } else {
            Ok(Self { ip, prefix_len })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_as_long_as_they_say() {
        let cases = [
            ("10.1.2.3/20", vec![255, 255, 240, 0], vec![10, 1, 0, 0]),
            ("10.1.2.3/0", vec![0; 4], vec![0; 4]),
            ("10.1.2.3/32", vec![255; 4], vec![10, 1, 2, 3]),
        ];
        for (text, mask, network) in cases {
            let cidr: Cidr = text.parse().unwrap();
            assert_eq!((cidr.mask(), cidr.network()), (mask, network), "{text}");
        }
        assert_eq!("fd00::1/9".parse::<Cidr>().unwrap().mask()[..3], [255, 128, 0]);
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
    }
}
