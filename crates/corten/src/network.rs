//! Blocks of IPv4 addresses, and which the machine uses already.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Block {
    base: Ipv4Addr,
    prefix: u8,
}

impl Block {
    /// The block of the first `prefix` bits (at most 32) of `base`.
    pub fn new(base: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { base: Ipv4Addr::from(u32::from(base) & mask(prefix)), prefix }
    }

    /// The address `offset` places after the first.
    pub fn address(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base).wrapping_add(offset))
    }

    /// The first block of `prefix` bits in this one: the share of the first node.
    pub fn first(self, prefix: u8) -> Self {
        Self { base: self.base, prefix: prefix.max(self.prefix) }
    }

    /// How many bits are fixed.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// True if the blocks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let mask = mask(self.prefix.min(other.prefix));
        u32::from(self.base) & mask == u32::from(other.base) & mask
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no block of IPv4 addresses such as 10.244.0.0/16");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=28).contains(&prefix) {
            return Err(format!("{text:?}: a block has 8 to 28 fixed bits"));
        }
        Ok(Self::new(base.parse().map_err(|_| wrong())?, prefix))
    }
}

impl TryFrom<String> for Block {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Block> for String {
    fn from(block: Block) -> Self {
        block.to_string()
    }
}

/// The blocks that the machine's routes lead to, the default route aside, and those of other clusters on it.
pub fn taken_blocks() -> Vec<Block> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut taken = parse_routes(&routes);
    taken.extend(crate::clusters::all().iter().flat_map(|c| [c.pod_block, c.service_block]));
    taken
}

/// Reads the kernel's table: addresses and masks are hexadecimal words in network order.
fn parse_routes(text: &str) -> Vec<Block> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (target, mask) = (word(fields.get(1)?)?, word(fields.get(7)?)?);
        (mask != 0).then(|| Block::new(Ipv4Addr::from(target), mask.leading_ones() as u8))
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_parse_print_and_overlap() {
        let block: Block = "10.244.3.7/16".parse().unwrap();
        assert_eq!(block.to_string(), "10.244.0.0/16");
        assert_eq!(block.address(10).to_string(), "10.244.0.10");
        assert_eq!(block.first(24).to_string(), "10.244.0.0/24");
        assert!(block.overlaps("10.0.0.0/8".parse().unwrap()));
        assert!(!block.overlaps("10.245.0.0/16".parse().unwrap()));
        assert!("10.244.0.0".parse::<Block>().is_err() && "10.244.0.0/33".parse::<Block>().is_err());
    }

    #[test]
    fn routes_of_the_kernel_are_read() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(parse_routes(table), ["192.0.2.0/24".parse().unwrap()]);
    }
}
