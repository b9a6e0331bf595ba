//! Addresses with the size of their network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `10.244.0.5/24`: an address and how many of its bits name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub prefix_len: u8,
}

impl Cidr {
    /// Bits of an address of this family.
    pub fn bits(ip: IpAddr) -> u8 {
        if ip.is_ipv4() { 32 } else { 128 }
    }

    fn host_mask(&self) -> u128 {
        let host_bits = u32::from(Self::bits(self.ip) - self.prefix_len);
        if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 }
    }

    /// The first address of the network.
    pub fn network(&self) -> IpAddr {
        from_number(to_number(self.ip) & !self.host_mask(), self.ip.is_ipv4())
    }

    /// The last address of the network: for IPv4 its broadcast address.
    pub fn last(&self) -> IpAddr {
        from_number(to_number(self.ip) | self.host_mask(), self.ip.is_ipv4())
    }

    /// The same network with its first address.
    pub fn as_network(&self) -> Self {
        Self { ip: self.network(), ..*self }
    }

    /// Whether `ip` lies in the network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.ip.is_ipv4() && to_number(ip) & !self.host_mask() == to_number(self.network())
    }

    /// The network's mask, as bytes of the address.
    pub fn mask(&self) -> Vec<u8> {
        octets(from_number(!self.host_mask(), self.ip.is_ipv4()))
    }
}

/// The address as a number.
pub fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address of a number; of IPv4 the lower 32 bits.
pub fn from_number(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 { IpAddr::V4(Ipv4Addr::from(number as u32)) } else { IpAddr::V6(Ipv6Addr::from(number)) }
}

/// The bytes of an address.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid CIDR address: {text}");
        let (ip, prefix_len) = text.split_once('/').ok_or_else(invalid)?;
        let ip: IpAddr = ip.parse().map_err(|_| invalid())?;
        let prefix_len = prefix_len.parse().map_err(|_| invalid())?;
        if prefix_len > Self::bits(ip) { Err(invalid()) } else { Ok(Self { ip, prefix_len }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_begin_and_end_where_they_should() {
        let cases = [
            ("10.1.2.3/24", "10.1.2.0", "10.1.2.255"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("fd00::1:5/112", "fd00::1:0", "fd00::1:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ];
        for (text, first, last) in cases {
            let cidr: Cidr = text.parse().unwrap();
            assert_eq!(
                (cidr.network().to_string(), cidr.last().to_string()),
                (first.to_owned(), last.to_owned())
            );
            assert!(cidr.contains(cidr.ip) && cidr.contains(cidr.last()));
            assert_eq!(cidr.to_string(), text);
        }
        assert!(!"10.1.2.0/24".parse::<Cidr>().unwrap().contains("10.1.3.0".parse().unwrap()));
        assert!(!"::/0".parse::<Cidr>().unwrap().contains("10.1.3.0".parse().unwrap()));
        assert!("10.1.2.0/33".parse::<Cidr>().is_err() && "10.1.2.0".parse::<Cidr>().is_err());
    }
}
