//! nf_tables: tables, chains, rules, sets and maps, changed in batches that happen whole or not at all.

mod batch;
mod expr;
mod list;

pub use batch::Batch;
pub use expr::{CmpOp, CtKey, Expr, MetaKey, NatKind, PayloadBase, Reg, Reject, Rule, SetRef, Verdict};
pub use list::{elements, table_names};

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;

/// The packets that a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    /// As `nft` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// Where in a packet's way a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
    /// After routing.
    Postrouting,
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Letting through or not.
    Filter,
    /// Address translation: sees the first packet of a connection.
    Nat,
}

/// What makes a chain a base chain. Its policy is to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// What it is for.
    pub kind: ChainKind,
    /// Where it stands.
    pub hook: Hook,
    /// Lower ones come first. `nft`'s `dstnat` is -100, `srcnat` 100, `filter` 0.
    pub priority: i32,
}

/// The type of a part of a key or of data, as `nft` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// A number in the machine's order.
    Integer,
    /// `ipv4_addr`.
    Ipv4,
    /// `ipv6_addr`.
    Ipv6,
    /// `inet_proto`.
    Protocol,
    /// `inet_service`: a port.
    Port,
    /// What to do with the packet; as data only.
    Verdict,
}

impl DataType {
    fn number(self) -> u32 {
        match self {
            Self::Verdict => 1,
            Self::Integer => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }

    fn len(self) -> u32 {
        match self {
            Self::Integer | Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Verdict => 0,
        }
    }
}

/// A set, or a map if it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// Its name.
    pub name: String,
    /// The parts of a key.
    pub key: Vec<DataType>,
    /// The parts of an element's data; empty for a set.
    pub data: Vec<DataType>,
    /// Elements come from rules, and end after this long without an update.
    pub timeout_ms: Option<u64>,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The key: its parts one after the other, each padded to four bytes; see [`key`].
    pub key: Vec<u8>,
    /// What is found under it.
    pub data: ElementData,
    /// A remark, of at most 127 bytes.
    pub comment: String,
}

impl Element {
    /// An element of a set.
    pub fn of_set(key: Vec<u8>) -> Self {
        Self { key, data: ElementData::None, comment: String::new() }
    }

    /// An element of a map.
    pub fn of_map(key: Vec<u8>, data: ElementData) -> Self {
        Self { key, data, comment: String::new() }
    }
}

/// What a map says to a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElementData {
    /// Nothing: the element is one of a set.
    None,
    /// A value, laid out as a key.
    Value(Vec<u8>),
    /// What to do.
    Verdict(Verdict),
}

/// Parts of a key, each padded to four bytes.
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    for part in parts {
        key.extend_from_slice(part);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}
