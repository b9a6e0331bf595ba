//! Rules as the expressions that the kernel runs one after the other.

use crate::Encoder;

use super::{Element, Family, SetSpec};

/// A register of four bytes; longer values take those after it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// `NFT_REG32_00`.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// What is known about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The packet's mark.
    Mark,
    /// The name of the link it came in by, padded to 16 bytes.
    InputName,
    /// The name of the link it leaves by, padded to 16 bytes.
    OutputName,
    /// The protocol within IP, one byte.
    L4Proto,
    /// `NFPROTO_…`, one byte.
    NfProto,
}

/// What is known about a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    /// Bits: established 2, related 4, new 8.
    State,
    /// Bits: source translated 0x10, destination translated 0x20.
    Status,
}

/// Which header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// IP.
    Network,
    /// TCP, UDP, …
    Transport,
}

/// How a register must stand to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmpOp {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
}

/// What to do with a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Drop it.
    Drop,
    /// Let it through this hook.
    Accept,
    /// Back to the chain that jumped here.
    Return,
    /// Go on in that chain, then here.
    Jump(String),
    /// Go on in that chain.
    Goto(String),
}

/// Which address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// How a packet is turned down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// ICMP or ICMPv6, of this code.
    Icmp(u8),
    /// A TCP reset.
    TcpReset,
}

/// A set or map that a rule looks into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRef {
    /// One of the table.
    Named(String),
    /// One of the rule's own, which comes and goes with it.
    Own(Box<(SetSpec, Vec<Element>)>),
}

/// One step of a rule. A comparison that fails ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads what is known about the packet.
    Meta(MetaKey, Reg),
    /// Sets the packet's mark from a register.
    SetMark(Reg),
    /// Loads from the packet: header, offset and length in bytes.
    Payload(PayloadBase, u32, u32, Reg),
    /// Compares.
    Cmp(Reg, CmpOp, Vec<u8>),
    /// `register = (register & mask) ^ xor`.
    Bitwise(Reg, Vec<u8>, Vec<u8>),
    /// Loads a value.
    Load(Reg, Vec<u8>),
    /// Ends with a verdict.
    Verdict(Verdict),
    /// Goes on if the key in the register is in the set (or, inverted, if it is not).
    Lookup(SetRef, Reg, bool),
    /// Loads what the map says to the key in the first register into the second; goes on if it says something.
    Map(SetRef, Reg, Reg),
    /// Does what the map says to the key in the register, if it says something.
    VerdictMap(SetRef, Reg),
    /// Loads what is known about the connection.
    Ct(CtKey, Reg),
    /// Loads the type of the destination address (`RTN_…`) as the routing tables have it.
    FibDestinationType(Reg),
    /// Loads the type of the source address (`RTN_…`) as the routing tables have it.
    FibSourceType(Reg),
    /// A random number below the modulus.
    Random(u32, Reg),
    /// Translates to the address, and the port if there is one, in the registers.
    Nat(NatKind, Family, Reg, Option<Reg>),
    /// Translates the source to the address of the link that the packet leaves by, with random ports.
    Masquerade,
    /// Turns the packet down.
    Reject(Reject),
    /// Adds the key in the register to the set, or starts its time anew.
    Update(String, Reg, u64),
    /// Counts.
    Counter,
}

/// A rule with a remark of at most 127 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// What it does, step by step.
    pub exprs: Vec<Expr>,
    /// A remark.
    pub comment: String,
}

impl Rule {
    /// A rule without a remark.
    pub fn new(exprs: impl Into<Vec<Expr>>) -> Self {
        Self { exprs: exprs.into(), comment: String::new() }
    }
}

const NAME: u16 = 1;
const DATA: u16 = 2;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

impl Verdict {
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        let (code, chain): (i32, _) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        encoder.nest(DATA_VERDICT, |verdict| {
            verdict.attr_be32(VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                verdict.attr_str(VERDICT_CHAIN, chain);
            }
        });
    }

    pub(super) fn decode(attrs: &crate::Attrs<'_>) -> Option<Self> {
        let verdict = attrs.nested(DATA_VERDICT);
        let chain = || verdict.str(VERDICT_CHAIN).unwrap_or_default().to_owned();
        Some(match verdict.be32(VERDICT_CODE)? as i32 {
            0 => Self::Drop,
            1 => Self::Accept,
            -3 => Self::Jump(chain()),
            -4 => Self::Goto(chain()),
            -5 => Self::Return,
            _ => return None,
        })
    }
}

impl Expr {
    /// Appends the expression to a rule's list; `own` says name and id of the rule's own sets, in order.
    pub(super) fn encode(&self, list: &mut Encoder, own: &mut impl Iterator<Item = (String, u32)>) {
        list.nest(LIST_ELEM, |expr| {
            expr.attr_str(NAME, self.name());
            expr.nest(DATA, |data| self.encode_data(data, own));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) | Self::SetMark(_) => "meta",
            Self::Payload(..) => "payload",
            Self::Cmp(..) => "cmp",
            Self::Bitwise(..) => "bitwise",
            Self::Load(..) | Self::Verdict(_) => "immediate",
            Self::Lookup(..) | Self::Map(..) | Self::VerdictMap(..) => "lookup",
            Self::Ct(..) => "ct",
            Self::FibDestinationType(_) | Self::FibSourceType(_) => "fib",
            Self::Random(..) => "numgen",
            Self::Nat(..) => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Update(..) => "dynset",
            Self::Counter => "counter",
        }
    }

    fn encode_data(&self, data: &mut Encoder, own: &mut impl Iterator<Item = (String, u32)>) {
        match self {
            Self::Meta(key, to) => numbers(data, &[(1, to.number()), (2, key.number())]),
            Self::SetMark(from) => numbers(data, &[(2, MetaKey::Mark.number()), (3, from.number())]),
            Self::Payload(base, offset, length, to) => {
                let base = match base {
                    PayloadBase::Network => 1,
                    PayloadBase::Transport => 2,
                };
                numbers(data, &[(1, to.number()), (2, base), (3, *offset), (4, *length)]);
            }
            Self::Cmp(reg, op, value) => {
                numbers(data, &[(1, reg.number()), (2, u32::from(*op == CmpOp::NotEqual))]);
                data.nest(3, |nested| nested.attr(DATA_VALUE, value));
            }
            Self::Bitwise(reg, mask, xor) => {
                numbers(data, &[(1, reg.number()), (2, reg.number()), (3, mask.len() as u32)]);
                data.nest(4, |nested| nested.attr(DATA_VALUE, mask));
                data.nest(5, |nested| nested.attr(DATA_VALUE, xor));
            }
            Self::Load(to, value) => {
                numbers(data, &[(1, to.number())]);
                data.nest(2, |nested| nested.attr(DATA_VALUE, value));
            }
            Self::Verdict(verdict) => {
                numbers(data, &[(1, 0)]);
                data.nest(2, |nested| verdict.encode(nested));
            }
            Self::Lookup(set, from, inverted) => {
                lookup(data, set, *from, None, own);
                if *inverted {
                    data.attr_be32(5, 1);
                }
            }
            Self::Map(set, from, to) => lookup(data, set, *from, Some(to.number()), own),
            Self::VerdictMap(set, from) => lookup(data, set, *from, Some(0), own),
            Self::Ct(key, to) => {
                let key = match key {
                    CtKey::State => 0,
                    CtKey::Status => 2,
                };
                numbers(data, &[(1, to.number()), (2, key)]);
            }
            // The result is the type of the address that the flag picks.
            Self::FibDestinationType(to) => numbers(data, &[(1, to.number()), (2, 3), (3, 2)]),
            Self::FibSourceType(to) => numbers(data, &[(1, to.number()), (2, 3), (3, 1)]),
            Self::Random(modulus, to) => numbers(data, &[(1, to.number()), (2, *modulus), (3, 1), (4, 0)]),
            Self::Nat(kind, family, address, port) => {
                let kind = u32::from(*kind == NatKind::Destination);
                numbers(data, &[(1, kind), (2, u32::from(family.number())), (3, address.number())]);
                if let Some(port) = port {
                    numbers(data, &[(5, port.number())]);
                }
            }
            // NF_NAT_RANGE_PROTO_RANDOM_FULLY
            Self::Masquerade => numbers(data, &[(1, 0x10)]),
            Self::Reject(Reject::Icmp(code)) => {
                numbers(data, &[(1, 0)]);
                data.attr(2, &[*code]);
            }
            Self::Reject(Reject::TcpReset) => {
                numbers(data, &[(1, 1)]);
                data.attr(2, &[0]);
            }
            Self::Update(set, from, timeout_ms) => {
                data.attr_str(1, set);
                numbers(data, &[(3, 1), (4, from.number())]);
                data.attr_be64(6, *timeout_ms);
            }
            Self::Counter => {
                data.attr_be64(1, 0);
                data.attr_be64(2, 0);
            }
        }
    }
}

impl MetaKey {
    fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::InputName => 6,
            Self::OutputName => 7,
            Self::NfProto => 15,
            Self::L4Proto => 16,
        }
    }
}

fn numbers(data: &mut Encoder, numbers: &[(u16, u32)]) {
    numbers.iter().for_each(|(kind, number)| data.attr_be32(*kind, *number));
}

fn lookup(
    data: &mut Encoder,
    set: &SetRef,
    from: Reg,
    to: Option<u32>,
    own: &mut impl Iterator<Item = (String, u32)>,
) {
    let (name, id) = match set {
        SetRef::Named(name) => (name.clone(), None),
        SetRef::Own(_) => own.next().map_or_else(Default::default, |(name, id)| (name, Some(id))),
    };
    data.attr_str(1, &name);
    data.attr_be32(2, from.number());
    to.into_iter().for_each(|to| data.attr_be32(3, to));
    id.into_iter().for_each(|id| data.attr_be32(4, id));
}
