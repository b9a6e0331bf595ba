//! Masquerading of what pods send out of the cluster: a table per network, the same for all of its pods.
//!
//! A pod that comes or goes changes nothing here, which keeps its way short; the table is written when it is not yet
//! as it should be.

use netlink::nft::{
    self, BaseChain, Batch, ChainKind, CmpOp, DataType, Element, Expr, Family, Hook, PayloadBase, Reg, Rule,
    SetSpec, Verdict,
};

use crate::addr::octets;
use crate::{Cidr, Error};

/// The set that says for which networks the table was written, and with which exemptions.
const WRITTEN: &str = "networks";
/// `nft`'s `srcnat`.
const SOURCE_NAT: i32 = 100;

fn table(network: &str) -> String {
    format!("cni-masq-{network}")
}

fn family(cidr: &Cidr) -> Family {
    if cidr.ip.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

/// Sees to it that what is sent from `subnet` to anywhere else, but to the exempt networks, has the host's address.
pub(crate) fn ensure(network: &str, subnet: Cidr, exempt: &[Cidr]) -> Result<(), Error> {
    let subnet = subnet.as_network();
    let (family, table) = (family(&subnet), table(network));
    let exempt: Vec<Cidr> =
        exempt.iter().filter(|other| other.ip.is_ipv4() == subnet.ip.is_ipv4()).copied().collect();
    let record = |cidr: &Cidr| {
        let comment = exempt.iter().map(Cidr::to_string).collect::<Vec<_>>().join(",");
        let len = u32::from(cidr.prefix_len).to_be_bytes();
        Element { comment, ..Element::of_set(nft::key([&octets(cidr.ip)[..], &len])) }
    };
    let written = nft::elements(family, &table, WRITTEN)?;
    let wanted = record(&subnet);
    if written.contains(&wanted) {
        return Ok(());
    }
    let kept =
        written.iter().filter(|element| element.key != wanted.key && element.comment == wanted.comment);
    let mut subnets: Vec<Cidr> = kept.filter_map(|element| parse(&element.key)).collect();
    subnets.push(subnet);
    let mut batch = Batch::new();
    batch.reset_table(family, &table);
    let address = if subnet.ip.is_ipv4() { DataType::Ipv4 } else { DataType::Ipv6 };
    let key = vec![address, DataType::Integer];
    batch.add_set(
        family,
        &table,
        &SetSpec { name: WRITTEN.to_owned(), key, data: Vec::new(), timeout_ms: None },
    );
    let records: Vec<Element> = subnets.iter().map(record).collect();
    batch.add_elements(family, &table, WRITTEN, &records);
    let base = BaseChain { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: SOURCE_NAT };
    batch.add_chain(family, &table, "postrouting", Some(base));
    for rule in rules(&subnets, &exempt) {
        batch.add_rule(family, &table, "postrouting", &rule);
    }
    Ok(batch.commit()?)
}

fn parse(key: &[u8]) -> Option<Cidr> {
    let (address, len) = key.split_at_checked(key.len().checked_sub(4)?)?;
    let ip = match address.len() {
        4 => <[u8; 4]>::try_from(address).ok()?.into(),
        _ => <[u8; 16]>::try_from(address).ok()?.into(),
    };
    Some(Cidr { ip, prefix_len: *len.last()? })
}

fn rules(subnets: &[Cidr], exempt: &[Cidr]) -> Vec<Rule> {
    let multicast = match subnets.first() {
        Some(Cidr { ip: std::net::IpAddr::V6(_), .. }) => {
            Cidr { ip: std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), prefix_len: 8 }
        }
        _ => Cidr { ip: std::net::Ipv4Addr::new(224, 0, 0, 0).into(), prefix_len: 4 },
    };
    let mut rules = Vec::new();
    for to in exempt.iter().chain([&multicast]) {
        let mut exprs = in_network(Side::Destination, to, CmpOp::Equal);
        exprs.push(Expr::Verdict(Verdict::Return));
        rules.push(Rule::new(exprs));
    }
    for subnet in subnets {
        let mut exprs = in_network(Side::Source, subnet, CmpOp::Equal);
        exprs.extend(in_network(Side::Destination, subnet, CmpOp::NotEqual));
        exprs.push(Expr::Masquerade);
        rules.push(Rule::new(exprs));
    }
    rules
}

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Goes on if the packet's address is in the network, or is not.
pub(crate) fn in_network(side: Side, network: &Cidr, op: CmpOp) -> Vec<Expr> {
    let (source, destination, length) = if network.ip.is_ipv4() { (12, 16, 4) } else { (8, 24, 16) };
    let offset = match side {
        Side::Source => source,
        Side::Destination => destination,
    };
    let zeros = vec![0; length as usize];
    vec![
        Expr::Payload(PayloadBase::Network, offset, length, Reg(0)),
        Expr::Bitwise(Reg(0), network.mask(), zeros),
        Expr::Cmp(Reg(0), op, octets(network.network())),
    ]
}

/// Removes the tables of a network.
pub(crate) fn remove(network: &str) -> Result<(), Error> {
    remove_table(&table(network))
}

pub(crate) fn remove_table(table: &str) -> Result<(), Error> {
    for family in [Family::Ip, Family::Ip6] {
        if nft::table_names(family)?.iter().any(|name| name == table) {
            let mut batch = Batch::new();
            batch.delete_table(family, table);
            match batch.commit() {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}
