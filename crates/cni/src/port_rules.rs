//! The rules that lead ports of the host to containers: a table per network, in which a container is a few elements.

use std::net::IpAddr;

use netlink::nft::{
    self, BaseChain, Batch, ChainKind, CmpOp, CtKey, DataType, Element, ElementData, Expr, Family, Hook,
    MetaKey, NatKind, PayloadBase, Reg, Rule, SetRef, SetSpec, Verdict,
};

use crate::addr::octets;
use crate::masquerade::{Side, in_network, remove_table};
use crate::{Cidr, Error};

/// From any address of the host.
const ANY: &str = "ports";
/// From one address of the host.
const ONE: &str = "address-ports";
/// The networks for which there are rules.
const NETWORKS: &str = "networks";
/// `nft`'s `dstnat` and `srcnat`.
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// `RTN_LOCAL`: an address of this machine.
const LOCAL: u32 = 2;
/// `IPS_DST_NAT`.
const TRANSLATED: u32 = 0x20;

/// A port of the host that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Of all of the host's addresses if none.
    pub(crate) host_ip: Option<IpAddr>,
    /// `IPPROTO_…`.
    pub(crate) protocol: u8,
    pub(crate) host_port: u16,
    pub(crate) to: (Cidr, u16),
}

fn table(network: &str) -> String {
    format!("cni-hostport-{network}")
}

fn family(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

fn address_type(family: Family) -> DataType {
    if family == Family::Ip { DataType::Ipv4 } else { DataType::Ipv6 }
}

/// Registers that an address takes.
fn address_registers(family: Family) -> u8 {
    if family == Family::Ip { 1 } else { 4 }
}

impl Forward {
    fn element(&self, owner: &str) -> (&'static str, Element) {
        let (protocol, port) = ([self.protocol], self.host_port.to_be_bytes());
        let host = self.host_ip.map(octets);
        let parts = host.iter().map(Vec::as_slice).chain([&protocol[..], &port]);
        let value = nft::key([&octets(self.to.0.ip)[..], &self.to.1.to_be_bytes()]);
        let mut element = Element::of_map(nft::key(parts), ElementData::Value(value));
        owner.clone_into(&mut element.comment);
        (if host.is_some() { ONE } else { ANY }, element)
    }
}

/// Adds the ports of a container, which `owner` names.
pub(crate) fn add(network: &str, owner: &str, forwards: &[Forward]) -> Result<(), Error> {
    let table = table(network);
    for family in [Family::Ip, Family::Ip6] {
        let mine: Vec<&Forward> = forwards.iter().filter(|f| self::family(f.to.0.ip) == family).collect();
        let Some(first) = mine.first() else { continue };
        let mut batch = Batch::new();
        write_table(&mut batch, family, &table, first.to.0.as_network())?;
        for set in [ANY, ONE] {
            let wanted: Vec<Element> = mine
                .iter()
                .map(|f| f.element(owner))
                .filter(|(in_set, _)| *in_set == set)
                .map(|(_, e)| e)
                .collect();
            // What an earlier try left, or a container whose end nobody told.
            let old = nft::elements(family, &table, set)?;
            let old: Vec<Element> =
                old.into_iter().filter(|old| wanted.iter().any(|new| new.key == old.key)).collect();
            batch.delete_elements(family, &table, set, &old);
            batch.add_elements(family, &table, set, &wanted);
        }
        batch.commit()?;
    }
    Ok(())
}

/// Removes the ports of all containers for which `gone` holds; gives the UDP ports of the host among them.
pub(crate) fn release(network: &str, gone: impl Fn(&str) -> bool) -> Result<Vec<u16>, Error> {
    let table = table(network);
    let mut udp_ports = Vec::new();
    for family in [Family::Ip, Family::Ip6] {
        let mut batch = Batch::new();
        for set in [ANY, ONE] {
            let mut old = nft::elements(family, &table, set)?;
            old.retain(|element| gone(&element.comment));
            udp_ports.extend(old.iter().filter_map(|element| udp_port(&element.key)));
            batch.delete_elements(family, &table, set, &old);
        }
        batch.commit()?;
    }
    Ok(udp_ports)
}

/// The port of a key that ends in protocol and port, if the protocol is UDP.
fn udp_port(key: &[u8]) -> Option<u16> {
    let tail = key.get(key.len().checked_sub(8)?..)?;
    (tail[0] == libc::IPPROTO_UDP as u8).then(|| u16::from_be_bytes([tail[4], tail[5]]))
}

/// Makes what the table lacks.
fn write_table(batch: &mut Batch, family: Family, table: &str, subnet: Cidr) -> Result<(), Error> {
    let len = u32::from(subnet.prefix_len).to_be_bytes();
    let record = Element::of_set(nft::key([&octets(subnet.ip)[..], &len]));
    let networks = nft::elements(family, table, NETWORKS)?;
    if networks.contains(&record) {
        return Ok(());
    }
    let address = address_type(family);
    if networks.is_empty() {
        let set = |name: &str, key: Vec<DataType>, data: Vec<DataType>| SetSpec {
            name: name.to_owned(),
            key,
            data,
            timeout_ms: None,
        };
        let target = vec![address, DataType::Port];
        batch.reset_table(family, table);
        batch.add_set(family, table, &set(NETWORKS, vec![address, DataType::Integer], Vec::new()));
        batch.add_set(family, table, &set(ANY, vec![DataType::Protocol, DataType::Port], target.clone()));
        batch.add_set(family, table, &set(ONE, vec![address, DataType::Protocol, DataType::Port], target));
        write_chains(batch, family, table);
    }
    batch.add_elements(family, table, NETWORKS, &[record]);
    // From one of the network's pods to another, answers must come back this way to be translated back.
    let mut exprs = translated();
    exprs.extend(in_network(Side::Source, &subnet, CmpOp::Equal));
    exprs.extend(in_network(Side::Destination, &subnet, CmpOp::Equal));
    exprs.push(Expr::Masquerade);
    batch.add_rule(family, table, "postrouting", &Rule::new(exprs));
    Ok(())
}

fn translated() -> Vec<Expr> {
    vec![
        Expr::Ct(CtKey::Status, Reg(0)),
        Expr::Bitwise(Reg(0), TRANSLATED.to_ne_bytes().to_vec(), vec![0; 4]),
        Expr::Cmp(Reg(0), CmpOp::NotEqual, vec![0; 4]),
    ]
}

fn write_chains(batch: &mut Batch, family: Family, table: &str) {
    let base = |hook, priority| Some(BaseChain { kind: ChainKind::Nat, hook, priority });
    batch.add_chain(family, table, "ports", None);
    batch.add_chain(family, table, "prerouting", base(Hook::Prerouting, DESTINATION_NAT));
    batch.add_chain(family, table, "output", base(Hook::Output, DESTINATION_NAT));
    batch.add_chain(family, table, "postrouting", base(Hook::Postrouting, SOURCE_NAT));
    let to_host = [
        Expr::FibDestinationType(Reg(0)),
        Expr::Cmp(Reg(0), CmpOp::Equal, LOCAL.to_ne_bytes().to_vec()),
        Expr::Verdict(Verdict::Jump("ports".to_owned())),
    ];
    batch.add_rule(family, table, "prerouting", &Rule::new(to_host.clone()));
    batch.add_rule(family, table, "output", &Rule::new(to_host));
    let (offset, length, width) = if family == Family::Ip { (16, 4, 1) } else { (24, 16, 4) };
    let port_key = |at: u8| {
        [Expr::Meta(MetaKey::L4Proto, Reg(at)), Expr::Payload(PayloadBase::Transport, 2, 2, Reg(at + 1))]
    };
    // Data is loaded behind the key: the registers of both must not overlap.
    let target = Reg(width + 2);
    let target_port = Reg(width + 2 + address_registers(family));
    let nat = Expr::Nat(NatKind::Destination, family, target, Some(target_port));
    let mut one = vec![Expr::Payload(PayloadBase::Network, offset, length, Reg(0))];
    one.extend(port_key(width));
    one.extend([Expr::Map(SetRef::Named(ONE.to_owned()), Reg(0), target), nat.clone()]);
    batch.add_rule(family, table, "ports", &Rule::new(one));
    let mut any = port_key(0).to_vec();
    any.extend([Expr::Map(SetRef::Named(ANY.to_owned()), Reg(0), target), nat]);
    batch.add_rule(family, table, "ports", &Rule::new(any));
    if family == Family::Ip {
        // The container could not answer to the host's loopback.
        let loopback = Cidr { ip: std::net::Ipv4Addr::new(127, 0, 0, 0).into(), prefix_len: 8 };
        let mut exprs = translated();
        exprs.extend(in_network(Side::Source, &loopback, CmpOp::Equal));
        exprs.push(Expr::Masquerade);
        batch.add_rule(family, table, "postrouting", &Rule::new(exprs));
    }
}

/// Removes the tables of a network.
pub(crate) fn remove(network: &str) -> Result<(), Error> {
    remove_table(&table(network))
}
