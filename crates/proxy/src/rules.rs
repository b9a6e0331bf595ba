//! Rules in pieces that say what they match and do.

use std::net::SocketAddr;

use netlink::nft::{
    CmpOp, CtKey, DataType, Element, ElementData, Expr, Family, MetaKey, NatKind, PayloadBase, Reg, Rule,
    SetRef, SetSpec, Verdict, key,
};

use crate::Cidr;
use crate::cidr::octets;
use crate::service::Protocol;

/// `RTN_LOCAL`: an address of this machine.
const LOCAL: u32 = 2;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 8;

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Source,
    Destination,
}

pub(crate) fn address_type(family: Family) -> DataType {
    if family == Family::Ip6 { DataType::Ipv6 } else { DataType::Ipv4 }
}

/// Registers that an address takes.
pub(crate) fn width(family: Family) -> u8 {
    if family == Family::Ip6 { 4 } else { 1 }
}

pub(crate) fn load_address(family: Family, side: Side, to: Reg) -> Expr {
    let (source, destination, length) = if family == Family::Ip6 { (8, 24, 16) } else { (12, 16, 4) };
    let offset = match side {
        Side::Source => source,
        Side::Destination => destination,
    };
    Expr::Payload(PayloadBase::Network, offset, length, to)
}

/// Loads protocol and destination port.
pub(crate) fn load_port(to: Reg) -> [Expr; 2] {
    [Expr::Meta(MetaKey::L4Proto, to), Expr::Payload(PayloadBase::Transport, 2, 2, Reg(to.0 + 1))]
}

/// Loads destination address, protocol and destination port.
pub(crate) fn load_destination(family: Family) -> Vec<Expr> {
    let mut exprs = vec![load_address(family, Side::Destination, Reg(0))];
    exprs.extend(load_port(Reg(width(family))));
    exprs
}

pub(crate) fn in_network(family: Family, side: Side, network: &Cidr, op: CmpOp) -> Vec<Expr> {
    let mask = network.mask();
    let zeros = vec![0; mask.len()];
    vec![
        load_address(family, side, Reg(0)),
        Expr::Bitwise(Reg(0), mask, zeros),
        Expr::Cmp(Reg(0), op, network.network()),
    ]
}

pub(crate) fn protocol_is(protocol: Protocol) -> [Expr; 2] {
    [Expr::Meta(MetaKey::L4Proto, Reg(0)), Expr::Cmp(Reg(0), CmpOp::Equal, vec![protocol.number()])]
}

/// Goes on for the first packet of a connection.
pub(crate) fn is_new() -> [Expr; 3] {
    [
        Expr::Ct(CtKey::State, Reg(0)),
        Expr::Bitwise(Reg(0), NEW.to_ne_bytes().to_vec(), vec![0; 4]),
        Expr::Cmp(Reg(0), CmpOp::NotEqual, vec![0; 4]),
    ]
}

/// Goes on if the packet is for this machine.
pub(crate) fn to_local() -> [Expr; 2] {
    [Expr::FibDestinationType(Reg(0)), Expr::Cmp(Reg(0), CmpOp::Equal, LOCAL.to_ne_bytes().to_vec())]
}

/// Goes on if the packet is from this machine.
pub(crate) fn from_local() -> [Expr; 2] {
    [Expr::FibSourceType(Reg(0)), Expr::Cmp(Reg(0), CmpOp::Equal, LOCAL.to_ne_bytes().to_vec())]
}

pub(crate) fn mark_is(mark: u32, op: CmpOp) -> [Expr; 3] {
    let mark = mark.to_ne_bytes().to_vec();
    [
        Expr::Meta(MetaKey::Mark, Reg(0)),
        Expr::Bitwise(Reg(0), mark.clone(), vec![0; 4]),
        Expr::Cmp(Reg(0), op, mark),
    ]
}

/// Sets or clears the bits of the mark.
pub(crate) fn set_mark(mark: u32, on: bool) -> [Expr; 3] {
    let (keep, bits) = ((!mark).to_ne_bytes().to_vec(), if on { mark } else { 0 });
    [
        Expr::Meta(MetaKey::Mark, Reg(0)),
        Expr::Bitwise(Reg(0), keep, bits.to_ne_bytes().to_vec()),
        Expr::SetMark(Reg(0)),
    ]
}

pub(crate) fn jump(chain: impl Into<String>) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

pub(crate) fn goto(chain: impl Into<String>) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}

pub(crate) fn named(set: &str) -> SetRef {
    SetRef::Named(set.to_owned())
}

pub(crate) fn rule(parts: impl IntoIterator<Item = Expr>) -> Rule {
    Rule::new(parts.into_iter().collect::<Vec<_>>())
}

fn target(endpoint: SocketAddr) -> Vec<u8> {
    key([&octets(endpoint.ip())[..], &endpoint.port().to_be_bytes()])
}

/// Leads to one of the endpoints, each as likely as the others.
pub(crate) fn dnat(family: Family, protocol: Protocol, endpoints: &[SocketAddr]) -> Rule {
    let mut exprs = protocol_is(protocol).to_vec();
    let (address, port) = (Reg(1), Reg(1 + width(family)));
    if let [one] = endpoints {
        exprs.push(Expr::Load(address, octets(one.ip())));
        exprs.push(Expr::Load(port, one.port().to_be_bytes().to_vec()));
    } else {
        let spec = SetSpec {
            name: String::new(),
            key: vec![DataType::Integer],
            data: vec![address_type(family), DataType::Port],
            timeout_ms: None,
        };
        let element = |(number, endpoint): (usize, &SocketAddr)| {
            Element::of_map((number as u32).to_ne_bytes().to_vec(), ElementData::Value(target(*endpoint)))
        };
        let elements = endpoints.iter().enumerate().map(element).collect();
        exprs.push(Expr::Random(endpoints.len() as u32, Reg(0)));
        exprs.push(Expr::Map(SetRef::Own(Box::new((spec, elements))), Reg(0), address));
    }
    exprs.push(Expr::Nat(NatKind::Destination, family, address, Some(port)));
    Rule::new(exprs)
}

/// Goes on in one of the chains, each as likely as the others.
pub(crate) fn spread(chains: &[String]) -> Rule {
    if let [one] = chains {
        return rule([goto(one)]);
    }
    let spec = SetSpec {
        name: String::new(),
        key: vec![DataType::Integer],
        data: vec![DataType::Verdict],
        timeout_ms: None,
    };
    let element = |(number, chain): (usize, &String)| {
        let verdict = ElementData::Verdict(Verdict::Goto(chain.clone()));
        Element::of_map((number as u32).to_ne_bytes().to_vec(), verdict)
    };
    let elements = chains.iter().enumerate().map(element).collect();
    rule([
        Expr::Random(chains.len() as u32, Reg(0)),
        Expr::VerdictMap(SetRef::Own(Box::new((spec, elements))), Reg(0)),
    ])
}
