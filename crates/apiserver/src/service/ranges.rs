//! A range of service addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::AllocationError;

/// Most addresses of one range (upstream's limit for IPv6 ranges, and the size of an IPv4 /12).
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
    /// Addresses that can be given: neither the network's own nor, for IPv4, the broadcast address.
    fn usable(&self) -> u128 {
        let host = u32::from(if self.base.is_ipv4() { 32 } else { 128 } - self.prefix);
        let all = if host >= 64 { MAX_ADDRESSES } else { (1_u128 << host).min(MAX_ADDRESSES) };
        all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 })
    }

    /// The address at `offset` from the first that can be given.
    pub fn nth(&self, offset: u128) -> IpAddr {
        from_number(number(self.base) + 1 + offset, self.base.is_ipv4())
    }
}

/// What of a network is taken.
#[derive(Debug)]
pub struct Range {
    cidr: Cidr,
    taken: HashSet<u128>,
}

impl Range {
    /// Nothing taken.
    pub fn new(cidr: Cidr) -> Self {
        Self { cidr, taken: HashSet::new() }
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.cidr.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn offset(&self, ip: IpAddr) -> Option<u128> {
        if ip.is_ipv4() != self.cidr.base.is_ipv4() {
            return None;
        }
        number(ip).checked_sub(number(self.cidr.base) + 1).filter(|o| *o < self.cidr.usable())
    }

    /// Whether `ip` can be given.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.offset(ip).is_some()
    }

    /// Takes this one.
    pub fn take(&mut self, ip: IpAddr) -> Result<(), AllocationError> {
        let offset = self.offset(ip).ok_or_else(|| AllocationError::IpOutside(ip, self.cidr.to_string()))?;
        if self.taken.insert(offset) { Ok(()) } else { Err(AllocationError::IpTaken) }
    }

    /// Takes a free one, from the upper part as long as there is one.
    pub fn take_any(&mut self) -> Result<IpAddr, AllocationError> {
        let usable = self.cidr.usable();
        let reserved =
            if usable < MIN_STATIC { 0 } else { (usable / 16).clamp(MIN_STATIC, MAX_STATIC).min(usable) };
        for (first, count) in [(reserved, usable - reserved), (0, reserved)] {
            if count == 0 {
                continue;
            }
            let start = random() % count;
            let free = (0..count).map(|i| first + (start + i) % count).find(|o| !self.taken.contains(o));
            if let Some(offset) = free {
                self.taken.insert(offset);
                return Ok(self.cidr.nth(offset));
            }
        }
        Err(AllocationError::Full)
    }

    /// Gives one back.
    pub fn release(&mut self, ip: IpAddr) {
        if let Some(offset) = self.offset(ip) {
            self.taken.remove(&offset);
        }
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
    use super::*;

    #[test]
    fn gives_every_address_once() {
        let mut range = Range::new("10.96.0.0/28".parse().unwrap());
        let fixed: IpAddr = "10.96.0.1".parse().unwrap();
        range.take(fixed).unwrap();
        assert_eq!(range.take(fixed), Err(AllocationError::IpTaken));
        let mut all: Vec<IpAddr> = (0..13).map(|_| range.take_any().unwrap()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 13);
        assert_eq!(range.take_any(), Err(AllocationError::Full));
        range.release(fixed);
        assert_eq!(range.take_any(), Ok(fixed));
        assert!(range.take("10.96.0.0".parse().unwrap()).is_err());
        assert!(range.take("10.96.0.15".parse().unwrap()).is_err());
    }
}
