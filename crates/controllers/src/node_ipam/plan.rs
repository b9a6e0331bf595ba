//! Cutting ranges for nodes out of the cluster's.

use std::collections::HashSet;
use std::net::IpAddr;

/// A range of addresses: the first one, and how many leading bits are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    first: u128,
    prefix: u8,
    is_v6: bool,
}

/// A text that is no range, or a range that cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RangeError(String);

impl Range {
    /// Reads `10.244.0.0/16`.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError(format!("invalid CIDR address: {text}"));
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let (first, is_v6) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), false),
            IpAddr::V6(v6) => (u128::from(v6), true),
        };
        let range = Self { first, prefix, is_v6 };
        if prefix > range.bits() {
            return Err(wrong());
        }
        Ok(Self { first: first - first % range.size(), ..range })
    }

    /// True for IPv6.
    pub fn is_v6(&self) -> bool {
        self.is_v6
    }

    fn bits(&self) -> u8 {
        if self.is_v6 { 128 } else { 32 }
    }

    fn size(&self) -> u128 {
        1_u128.checked_shl(u32::from(self.bits() - self.prefix)).unwrap_or(u128::MAX)
    }

    /// True if they have addresses in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_v6 == other.is_v6
            && self.first < other.first.saturating_add(other.size())
            && other.first < self.first.saturating_add(self.size())
    }

    /// The first part with `prefix` fixed bits that overlaps none of `taken`.
    pub fn cut(&self, prefix: u8, taken: &HashSet<Range>) -> Result<Self, RangeError> {
        if prefix < self.prefix || prefix > self.bits() {
            return Err(RangeError(format!("mask size /{prefix} does not fit into {self}")));
        }
        let of_family: Vec<&Range> = taken.iter().filter(|t| t.is_v6 == self.is_v6).collect();
        let mut part = Self { prefix, ..*self };
        let end = self.first.saturating_add(self.size());
        loop {
            if part.first >= end {
                return Err(RangeError("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range".to_owned()));
            }
            if taken.contains(&part) {
                part.first += part.size();
                continue;
            }
            match of_family.iter().find(|t| t.overlaps(&part)) {
                None => return Ok(part),
                Some(_) => part.first += part.size(),
            }
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_v6 {
            write!(f, "{}/{}", std::net::Ipv6Addr::from(self.first), self.prefix)
        } else {
            write!(f, "{}/{}", std::net::Ipv4Addr::from(self.first as u32), self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_part_is_cut() {
        let range = |t: &str| Range::parse(t).unwrap();
        let taken = |all: &[&str]| all.iter().map(|t| range(t)).collect::<HashSet<_>>();
        let cut =
            |whole: &str, prefix, t: &[&str]| range(whole).cut(prefix, &taken(t)).map(|r| r.to_string());
        assert_eq!(cut("10.244.0.0/16", 24, &[]).unwrap(), "10.244.0.0/24");
        assert_eq!(cut("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"]).unwrap(), "10.244.1.0/24");
        assert_eq!(cut("10.244.0.0/16", 24, &["10.244.0.0/23"]).unwrap(), "10.244.2.0/24");
        assert_eq!(cut("fd00::/48", 64, &["fd00::/64"]).unwrap(), "fd00:0:0:1::/64");
        assert!(cut("10.244.0.0/24", 24, &["10.244.0.0/24"]).is_err());
        assert!(cut("10.244.0.0/24", 16, &[]).is_err());
        assert!(Range::parse("10.0.0.0").is_err());
    }
}
