//! From one port of a service to the rules that serve it. Pure.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use netlink::nft::{CmpOp, Element, ElementData, Expr, Family, Reg, Rule, SetSpec, Verdict, key};

use crate::cidr::octets;
use crate::rules::{
    Side, address_type, dnat, from_local, goto, in_network, jump, load_address, named, protocol_is, rule,
    spread,
};
use crate::service::{Endpoint, Policy, ServicePort};
use crate::skeleton::{
    CLUSTER_IPS, FIREWALL_IPS, HAIRPIN, MARK_FOR_MASQUERADE, NO_ENDPOINT_IPS, NO_ENDPOINT_NODE_PORTS,
    NODE_PORTS, REJECT, SERVICE_IPS,
};
use crate::{Chain, Config, Fragment, is_of};

/// The longest chain or set name that we make; the kernel takes 255 bytes.
const MAX_NAME: usize = 200;
/// The longest remark on an element.
const MAX_COMMENT: usize = 127;

/// The rules of a service's ports in one family.
pub fn plan(config: &Config, family: Family, ports: &[ServicePort]) -> Fragment {
    let mut fragment = Fragment::default();
    for port in ports {
        PortPlan::new(config, family, port).write(&mut fragment);
    }
    fragment
}

/// Where traffic of a kind goes.
enum Way {
    /// To this chain.
    Chain(String),
    /// Nowhere: nobody would answer on any node.
    Reject,
    /// Nowhere: somebody would, but on another node.
    Drop,
}

struct PortPlan<'a> {
    config: &'a Config,
    family: Family,
    port: &'a ServicePort,
    /// Whom traffic goes to by policy.
    cluster: Vec<&'a Endpoint>,
    local: Vec<&'a Endpoint>,
}

impl<'a> PortPlan<'a> {
    fn new(config: &'a Config, family: Family, port: &'a ServicePort) -> Self {
        let endpoints: Vec<&Endpoint> =
            port.endpoints.iter().filter(|e| is_of(family, e.address.ip())).collect();
        let local = usable(endpoints.iter().copied().filter(|endpoint| endpoint.local));
        Self { config, family, port, cluster: usable(by_hints(&endpoints)), local }
    }

    fn write(&self, fragment: &mut Fragment) {
        let port = self.port;
        let ips = |ips: &[IpAddr]| -> Vec<IpAddr> {
            ips.iter().filter(|ip| is_of(self.family, **ip)).copied().collect()
        };
        let cluster_ips = ips(&port.cluster_ips);
        // A single-stack service has nothing in the other family, not even node ports.
        if cluster_ips.is_empty() {
            return;
        }
        let uses_cluster = port.internal_policy == Policy::Cluster || port.is_external();
        if uses_cluster && !self.cluster.is_empty() {
            self.write_endpoints(fragment, "service", &self.cluster);
        }
        let uses_local = port.internal_policy == Policy::Local
            || (port.is_external() && port.external_policy == Policy::Local);
        if uses_local && !self.local.is_empty() {
            self.write_endpoints(fragment, "local", &self.local);
        }
        self.write_hairpin(fragment);
        let internal = self.write_internal(fragment);
        for ip in cluster_ips {
            fragment.add_element(CLUSTER_IPS, Element::of_set(key([&octets(ip)[..]])));
            self.add_ip(fragment, ip, &internal);
        }
        if port.is_external() {
            let external = self.write_external(fragment);
            let balancer = ips(&port.load_balancer_ips);
            for ip in ips(&port.external_ips).into_iter().chain(balancer.iter().copied()) {
                self.add_ip(fragment, ip, &external);
            }
            self.write_firewall(fragment, &balancer);
            if port.node_port != 0 {
                self.add_node_port(fragment, &external);
            }
        }
    }

    /// A name that says whose it is, and is unlike all others even where it had to be cut.
    fn name(&self, kind: &str, detail: &str) -> String {
        let ServicePort { service, name, protocol, .. } = self.port;
        let readable = format!("{service}/{}/{name}{detail}", protocol.name());
        let mut hasher = DefaultHasher::new();
        (kind, &readable, self.port.affinity_s).hash(&mut hasher);
        cut(format!("{kind}-{:08X}-{readable}", hasher.finish() as u32), MAX_NAME)
    }

    fn add_ip(&self, fragment: &mut Fragment, ip: IpAddr, way: &Way) {
        let parts = [&octets(ip)[..], &[self.port.protocol.number()], &self.port.port.to_be_bytes()];
        let (map, verdict) = way.verdict(SERVICE_IPS, NO_ENDPOINT_IPS);
        fragment.add_element(map, self.element(key(parts), verdict));
    }

    fn add_node_port(&self, fragment: &mut Fragment, way: &Way) {
        let parts = [&[self.port.protocol.number()][..], &self.port.node_port.to_be_bytes()];
        let (map, verdict) = way.verdict(NODE_PORTS, NO_ENDPOINT_NODE_PORTS);
        fragment.add_element(map, self.element(key(parts), verdict));
    }

    fn element(&self, key: Vec<u8>, verdict: Verdict) -> Element {
        let comment = cut(format!("{}:{}", self.port.service, self.port.name), MAX_COMMENT);
        Element { key, data: ElementData::Verdict(verdict), comment }
    }

    /// The chain for cluster addresses, if it is not the one of the endpoints itself.
    fn write_internal(&self, fragment: &mut Fragment) -> Way {
        let way = self.way(self.port.internal_policy);
        let Way::Chain(to) = &way else { return way };
        let mut rules = Vec::new();
        if self.config.masquerade_all {
            rules.push(rule([jump(MARK_FOR_MASQUERADE)]));
        } else {
            let cidrs: Vec<_> =
                self.config.cluster_cidrs.iter().filter(|cidr| is_of(self.family, cidr.ip)).collect();
            // From outside, by a route to the cluster's addresses: the answer must come back through this node.
            if !cidrs.is_empty() {
                let mut exprs: Vec<Expr> = Vec::new();
                for cidr in cidrs {
                    exprs.extend(in_network(self.family, Side::Source, cidr, CmpOp::NotEqual));
                }
                exprs.push(jump(MARK_FOR_MASQUERADE));
                rules.push(Rule::new(exprs));
            }
        }
        if rules.is_empty() {
            return way;
        }
        rules.push(rule([goto(to)]));
        let name = self.name("internal", "");
        fragment.chains.insert(name.clone(), Chain { base: None, rules });
        Way::Chain(name)
    }

    /// The chain for traffic to all other addresses.
    fn write_external(&self, fragment: &mut Fragment) -> Way {
        let way = self.way(self.port.external_policy);
        let (cluster, mut rules) = (self.name("service", ""), Vec::new());
        match self.port.external_policy {
            Policy::Cluster => {
                if !matches!(way, Way::Chain(_)) {
                    return way;
                }
                rules.push(rule([jump(MARK_FOR_MASQUERADE)]));
                rules.push(rule([goto(cluster)]));
            }
            Policy::Local => {
                if self.cluster.is_empty() {
                    return way;
                }
                // Who is in the cluster anyway is not bound to this node's endpoints (KEP-1669).
                for cidr in self.config.cluster_cidrs.iter().filter(|cidr| is_of(self.family, cidr.ip)) {
                    let pods = in_network(self.family, Side::Source, cidr, CmpOp::Equal);
                    rules.push(rule(pods.into_iter().chain([goto(&cluster)])));
                }
                let host = from_local();
                rules.push(rule(host.clone().into_iter().chain([jump(MARK_FOR_MASQUERADE)])));
                rules.push(rule(host.into_iter().chain([goto(&cluster)])));
                rules.push(match way {
                    Way::Chain(local) => rule([goto(local)]),
                    Way::Reject | Way::Drop => rule([Expr::Verdict(Verdict::Drop)]),
                });
            }
        }
        let name = self.name("external", "");
        fragment.chains.insert(name.clone(), Chain { base: None, rules });
        Way::Chain(name)
    }

    fn way(&self, policy: Policy) -> Way {
        match policy {
            Policy::Cluster if !self.cluster.is_empty() => Way::Chain(self.name("service", "")),
            Policy::Local if !self.local.is_empty() => Way::Chain(self.name("local", "")),
            Policy::Local if !self.cluster.is_empty() => Way::Drop,
            _ => Way::Reject,
        }
    }

    /// The chain that leads to the endpoints.
    fn write_endpoints(&self, fragment: &mut Fragment, kind: &str, endpoints: &[&Endpoint]) {
        let addresses: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        let rules = match self.port.affinity_s {
            None => vec![dnat(self.family, self.port.protocol, &addresses)],
            Some(seconds) => self.write_affinity(fragment, &addresses, u64::from(seconds) * 1000),
        };
        fragment.chains.insert(self.name(kind, ""), Chain { base: None, rules });
    }

    /// Per endpoint a set of the clients that stay with it, and a chain that leads to it and remembers that.
    fn write_affinity(
        &self,
        fragment: &mut Fragment,
        addresses: &[SocketAddr],
        timeout_ms: u64,
    ) -> Vec<Rule> {
        let client = || load_address(self.family, Side::Source, Reg(0));
        let (mut rules, mut chains) = (Vec::new(), Vec::new());
        for address in addresses {
            let detail = format!("__{}/{}", address.ip(), address.port());
            let (set, chain) = (self.name("affinity", &detail), self.name("endpoint", &detail));
            let spec = SetSpec {
                name: set.clone(),
                key: vec![address_type(self.family)],
                data: Vec::new(),
                timeout_ms: Some(timeout_ms),
            };
            rules.push(rule([client(), Expr::Lookup(named(&set), Reg(0), false), goto(&chain)]));
            let remember = rule([client(), Expr::Update(set.clone(), Reg(0), timeout_ms)]);
            let lead = dnat(self.family, self.port.protocol, &[*address]);
            fragment.sets.insert(set, spec);
            fragment.chains.insert(chain.clone(), Chain { base: None, rules: vec![remember, lead] });
            chains.push(chain);
        }
        rules.push(spread(&chains));
        rules
    }

    /// An endpoint that is led to itself would answer itself past us; only local ones can be.
    fn write_hairpin(&self, fragment: &mut Fragment) {
        let reached = self.cluster.iter().chain(&self.local).filter(|endpoint| endpoint.local);
        let ips: BTreeSet<IpAddr> = reached.map(|endpoint| endpoint.address.ip()).collect();
        for ip in ips {
            let ip = octets(ip);
            fragment.add_element(HAIRPIN, Element::of_set(key([&ip[..], &ip])));
        }
    }

    fn write_firewall(&self, fragment: &mut Fragment, balancer_ips: &[IpAddr]) {
        if self.port.source_ranges.is_empty() || balancer_ips.is_empty() {
            return;
        }
        let chain = self.name("firewall", "");
        let ranges = self.port.source_ranges.iter().filter(|range| is_of(self.family, range.ip));
        let mut rules: Vec<Rule> = ranges
            .map(|range| {
                let within = in_network(self.family, Side::Source, range, CmpOp::Equal);
                rule(within.into_iter().chain([Expr::Verdict(Verdict::Return)]))
            })
            .collect();
        rules.push(rule(protocol_is(self.port.protocol).into_iter().chain([Expr::Verdict(Verdict::Drop)])));
        fragment.chains.insert(chain.clone(), Chain { base: None, rules });
        for ip in balancer_ips {
            let parts = [&octets(*ip)[..], &[self.port.protocol.number()], &self.port.port.to_be_bytes()];
            fragment.add_element(FIREWALL_IPS, self.element(key(parts), Verdict::Goto(chain.clone())));
        }
    }
}

fn cut(mut text: String, max: usize) -> String {
    while text.len() > max {
        text.pop();
    }
    text
}

impl Way {
    fn verdict<'m>(&self, map: &'m str, no_endpoints: &'m str) -> (&'m str, Verdict) {
        match self {
            Self::Chain(chain) => (map, Verdict::Goto(chain.clone())),
            Self::Reject => (no_endpoints, Verdict::Goto(REJECT.to_owned())),
            Self::Drop => (no_endpoints, Verdict::Drop),
        }
    }
}

/// The ready endpoints; if there are none, those that still serve on their way out (KEP-1669).
fn usable<'e>(endpoints: impl Iterator<Item = &'e Endpoint> + Clone) -> Vec<&'e Endpoint> {
    let ready: Vec<&Endpoint> = endpoints.clone().filter(|endpoint| endpoint.ready).collect();
    if ready.is_empty() { endpoints.filter(|endpoint| endpoint.serving_terminating).collect() } else { ready }
}

/// The endpoints that hints keep for this node or zone; all, if one that is ready has no hints or none is for here.
fn by_hints<'e>(endpoints: &[&'e Endpoint]) -> std::vec::IntoIter<&'e Endpoint> {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
    let all_hinted = ready().all(|endpoint| endpoint.hinted.is_some());
    let some_here = ready().any(|endpoint| endpoint.hinted == Some(true));
    let kept: Vec<&Endpoint> = if all_hinted && some_here {
        endpoints.iter().copied().filter(|endpoint| endpoint.hinted == Some(true)).collect()
    } else {
        endpoints.to_vec()
    };
    kept.into_iter()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
