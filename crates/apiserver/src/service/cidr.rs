//! Ranges of service addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Most addresses of one range that are searched for a free one (upstream goes through more of large IPv6 ranges).
const MAX_ADDRESSES: u128 = 1 << 20;
/// Bounds of the part at the start that is given only to those who ask for an address (KEP-3070).
const MIN_STATIC: u128 = 16;
const MAX_STATIC: u128 = 256;

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid CIDR address: {text}");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Self { base: from_number(number(base) & mask(prefix, bits), base.is_ipv4()), prefix })
    }
}

fn mask(prefix: u8, bits: u8) -> u128 {
    let host = u32::from(bits - prefix);
    if host >= 128 { 0 } else { u128::MAX << host }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

impl Cidr {
    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn host_bits(&self) -> u32 {
        u32::from(if self.base.is_ipv4() { 32 } else { 128 } - self.prefix)
    }

    /// Addresses that are searched: neither the network's own nor, for IPv4, the broadcast address.
    fn usable(&self) -> u128 {
        let host = self.host_bits();
        let all = if host >= 64 { MAX_ADDRESSES } else { (1_u128 << host).min(MAX_ADDRESSES) };
        all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 })
    }

    /// The address at `offset` from the first that can be given.
    pub fn nth(&self, offset: u128) -> IpAddr {
        from_number(number(self.base) + 1 + offset, self.base.is_ipv4())
    }

    /// Whether `ip` can be given out of this range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() != self.base.is_ipv4() {
            return false;
        }
        let (ip, base) = (number(ip), number(self.base));
        let host = self.host_bits();
        let last = if host >= 128 { u128::MAX } else { base | ((1_u128 << host) - 1) };
        ip > base && if self.base.is_ipv4() { ip < last } else { ip <= last }
    }

    /// A free address, from the upper part as long as there is one, beginning at a random one.
    pub fn find_free<E>(
        &self,
        mut is_free: impl FnMut(IpAddr) -> Result<bool, E>,
    ) -> Result<Option<IpAddr>, E> {
        let usable = self.usable();
        let reserved =
            if usable < MIN_STATIC { 0 } else { (usable / 16).clamp(MIN_STATIC, MAX_STATIC).min(usable) };
        for (first, count) in [(reserved, usable - reserved), (0, reserved)] {
            if count == 0 {
                continue;
            }
            let start = random() % count;
            for i in 0..count {
                let ip = self.nth(first + (start + i) % count);
                if is_free(ip)? {
                    return Ok(Some(ip));
                }
            }
        }
        Ok(None)
    }
}

/// A random number below `bound`; zero if that is zero.
pub fn random_below(bound: usize) -> usize {
    (random() % (bound.max(1) as u128)) as usize
}

/// A random number.
pub(super) fn random() -> u128 {
    let mut bytes = [0_u8; 16];
    // Without randomness the search begins at the first address, which is as good.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use super::*;

    fn free(cidr: Cidr, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        cidr.find_free(|ip| Ok::<_, Infallible>(!taken.contains(&ip))).unwrap()
    }

    #[test]
    fn every_address_is_found_once() {
        let cidr: Cidr = "10.96.0.0/28".parse().unwrap();
        let mut taken = BTreeSet::new();
        while let Some(ip) = free(cidr, &taken) {
            assert!(cidr.contains(ip));
            assert!(taken.insert(ip));
        }
        assert_eq!(taken.len(), 14);
        for outside in ["10.96.0.0", "10.96.0.15", "10.96.0.16", "fd00::1"] {
            assert!(!cidr.contains(outside.parse().unwrap()), "{outside}");
        }
        let six: Cidr = "fd00::/112".parse().unwrap();
        assert!(six.contains("fd00::ffff".parse().unwrap()));
        assert!(!six.contains("fd00::".parse().unwrap()));
    }

    #[test]
    fn the_first_part_is_left_to_those_who_ask() {
        let cidr: Cidr = "10.0.0.0/24".parse().unwrap();
        let first_sixteen = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.octets()[3] <= 16,
            IpAddr::V6(_) => false,
        };
        assert!((0..50).all(|_| !first_sixteen(free(cidr, &BTreeSet::new()).unwrap())));
    }
}
