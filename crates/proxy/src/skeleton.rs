//! What a table holds whatever services there are: the chains that the kernel enters, and the maps that they look into.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::nft::{
    BaseChain, ChainKind, CmpOp, DataType, Element, Expr, Family, Hook, Reg, Reject, Rule, SetSpec, Verdict,
    key,
};

use crate::cidr::octets;
use crate::rules::{
    Side, address_type, goto, in_network, is_new, jump, load_address, load_destination, load_port, mark_is,
    named, rule, set_mark, to_local, width,
};
use crate::{Chain, Cidr, Config, Fragment, is_of};

/// Address, protocol and port of a service → its chain.
pub(crate) const SERVICE_IPS: &str = "service-ips";
/// The same for services that have nobody to lead to → reject or drop.
pub(crate) const NO_ENDPOINT_IPS: &str = "no-endpoint-services";
/// Protocol and node port → chain.
pub(crate) const NODE_PORTS: &str = "service-nodeports";
/// The same for services that have nobody to lead to.
pub(crate) const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
/// Load balancers' addresses with restrictions → chain that checks them.
pub(crate) const FIREWALL_IPS: &str = "firewall-ips";
/// All cluster addresses.
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
/// Local endpoints, twice each: source and destination of one that was led to itself.
pub(crate) const HAIRPIN: &str = "hairpin-connections";
/// The node's addresses that node ports are served on, if not all.
const NODE_PORT_IPS: &str = "nodeport-ips";

/// Marks for masquerading.
pub(crate) const MARK_FOR_MASQUERADE: &str = "mark-for-masquerade";
/// Turns down.
pub(crate) const REJECT: &str = "reject-chain";

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const SERVICE_CHECK: &str = "service-endpoints-check";
const NODE_PORT_CHECK: &str = "nodeport-endpoints-check";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
const FIREWALL_CHECK: &str = "firewall-check";

/// `nft`'s `dstnat` and `srcnat`.
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// Close before and after [`DESTINATION_NAT`].
const BEFORE_NAT: i32 = -110;
const AFTER_NAT: i32 = -90;
/// ICMP and ICMPv6 "port unreachable".
const PORT_UNREACHABLE: (u8, u8) = (3, 4);

/// The fixed part of a family's table.
pub fn skeleton(config: &Config, family: Family) -> Fragment {
    let mut fragment = Fragment::default();
    sets(&mut fragment, config, family);
    let base = |kind, hook, priority| Some(BaseChain { kind, hook, priority });
    let new = |chain: &str| rule(is_new().into_iter().chain([jump(chain)]));
    let mut add = |name: &str, base, rules: Vec<Rule>| {
        fragment.chains.insert(name.to_owned(), Chain { base, rules });
    };
    let filter = ChainKind::Filter;
    add("filter-prerouting", base(filter, Hook::Prerouting, BEFORE_NAT), vec![new(FIREWALL_CHECK)]);
    let input = vec![new(NODE_PORT_CHECK), new(SERVICE_CHECK)];
    add("filter-input", base(filter, Hook::Input, 0), input);
    let forward = vec![new(SERVICE_CHECK), new(CLUSTER_IPS_CHECK)];
    add("filter-forward", base(filter, Hook::Forward, 0), forward);
    let output = vec![new(SERVICE_CHECK), new(FIREWALL_CHECK)];
    add("filter-output", base(filter, Hook::Output, BEFORE_NAT), output);
    add("filter-output-post-dnat", base(filter, Hook::Output, AFTER_NAT), vec![new(CLUSTER_IPS_CHECK)]);
    let nat = ChainKind::Nat;
    add("nat-prerouting", base(nat, Hook::Prerouting, DESTINATION_NAT), vec![rule([jump(SERVICES)])]);
    add("nat-output", base(nat, Hook::Output, DESTINATION_NAT), vec![rule([jump(SERVICES)])]);
    add("nat-postrouting", base(nat, Hook::Postrouting, SOURCE_NAT), vec![rule([jump(MASQUERADING)])]);
    add(SERVICES, None, services(config, family));
    add(MASQUERADING, None, masquerading(config, family));
    add(MARK_FOR_MASQUERADE, None, vec![rule(set_mark(config.mark(), true))]);
    add(FIREWALL_CHECK, None, vec![by_destination(family, FIREWALL_IPS)]);
    add(SERVICE_CHECK, None, vec![by_destination(family, NO_ENDPOINT_IPS)]);
    add(NODE_PORT_CHECK, None, by_node_port(config, family, NO_ENDPOINT_NODE_PORTS));
    add(CLUSTER_IPS_CHECK, None, cluster_ips_check(config, family));
    let code = if family == Family::Ip6 { PORT_UNREACHABLE.1 } else { PORT_UNREACHABLE.0 };
    add(REJECT, None, vec![rule([Expr::Reject(Reject::Icmp(code))])]);
    fragment
}

fn sets(fragment: &mut Fragment, config: &Config, family: Family) {
    let address = address_type(family);
    let destination = vec![address, DataType::Protocol, DataType::Port];
    let port = vec![DataType::Protocol, DataType::Port];
    let verdict = vec![DataType::Verdict];
    let specs = [
        (SERVICE_IPS, destination.clone(), verdict.clone()),
        (NO_ENDPOINT_IPS, destination.clone(), verdict.clone()),
        (FIREWALL_IPS, destination, verdict.clone()),
        (NODE_PORTS, port.clone(), verdict.clone()),
        (NO_ENDPOINT_NODE_PORTS, port, verdict),
        (CLUSTER_IPS, vec![address], Vec::new()),
        (HAIRPIN, vec![address, address], Vec::new()),
        (NODE_PORT_IPS, vec![address], Vec::new()),
    ];
    for (name, key, data) in specs {
        let spec = SetSpec { name: name.to_owned(), key, data, timeout_ms: None };
        fragment.sets.insert(name.to_owned(), spec);
    }
    for ip in config.node_port_addresses.iter().filter(|ip| is_of(family, **ip)) {
        fragment.add_element(NODE_PORT_IPS, Element::of_set(key([&octets(*ip)[..]])));
    }
}

fn by_destination(family: Family, map: &str) -> Rule {
    let mut exprs = load_destination(family);
    exprs.push(Expr::VerdictMap(named(map), Reg(0)));
    Rule::new(exprs)
}

fn by_node_port(config: &Config, family: Family, map: &str) -> Vec<Rule> {
    let mut exprs = Vec::new();
    if config.node_port_addresses.iter().any(|ip| is_of(family, *ip)) {
        exprs.push(load_address(family, Side::Destination, Reg(0)));
        exprs.push(Expr::Lookup(named(NODE_PORT_IPS), Reg(0), false));
    } else {
        let loopback = match family {
            Family::Ip6 => Cidr { ip: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix_len: 128 },
            _ => Cidr { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix_len: 8 },
        };
        exprs.extend(to_local());
        exprs.extend(in_network(family, Side::Destination, &loopback, CmpOp::NotEqual));
    }
    exprs.extend(load_port(Reg(0)));
    exprs.push(Expr::VerdictMap(named(map), Reg(0)));
    vec![Rule::new(exprs)]
}

fn services(config: &Config, family: Family) -> Vec<Rule> {
    let mut rules = vec![by_destination(family, SERVICE_IPS)];
    rules.extend(by_node_port(config, family, NODE_PORTS));
    rules
}

fn masquerading(config: &Config, family: Family) -> Vec<Rule> {
    let hairpin = [
        load_address(family, Side::Source, Reg(0)),
        load_address(family, Side::Destination, Reg(width(family))),
        Expr::Lookup(named(HAIRPIN), Reg(0), false),
        Expr::Masquerade,
    ];
    let mark = config.mark();
    let others = mark_is(mark, CmpOp::NotEqual).into_iter().chain([Expr::Verdict(Verdict::Return)]);
    let marked = set_mark(mark, false).into_iter().chain([Expr::Masquerade]);
    vec![rule(hairpin), rule(others), rule(marked)]
}

fn cluster_ips_check(config: &Config, family: Family) -> Vec<Rule> {
    let known = [
        load_address(family, Side::Destination, Reg(0)),
        Expr::Lookup(named(CLUSTER_IPS), Reg(0), false),
        goto(REJECT),
    ];
    let mut rules = vec![rule(known)];
    for cidr in config.service_cidrs.iter().filter(|cidr| is_of(family, cidr.ip)) {
        let unknown = in_network(family, Side::Destination, cidr, CmpOp::Equal);
        rules.push(rule(unknown.into_iter().chain([Expr::Verdict(Verdict::Drop)])));
    }
    rules
}
