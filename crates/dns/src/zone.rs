//! The cluster's zone: which records a name has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::view::{Endpoint, Port, ServiceView, View};

/// How long answers may be kept, in seconds (CoreDNS in kubeadm's clusters: 30; the plugin's default: 5).
const TTL_S: u32 = 5;
/// Version of the DNS specification, as `dns-version` tells it.
const VERSION: &str = "1.1.0";
const SRV_PRIORITY: u16 = 0;
const SRV_WEIGHT: u16 = 100;

/// What a question comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Another server's to say.
    NotOurs,
    /// Records.
    Found {
        /// What was asked for.
        answers: Vec<Record>,
        /// What will be asked next.
        additionals: Vec<Record>,
    },
    /// No record of that type; the name exists, or it does not.
    Nothing {
        /// Whether it exists with another type, or something exists below it.
        exists: bool,
    },
}

/// The cluster's domain.
#[derive(Debug, Clone)]
pub struct Zone {
    origin: Name,
    labels: usize,
}

impl Zone {
    /// The zone of `domain`; None if it is no name.
    pub fn new(domain: &str) -> Option<Self> {
        let mut origin = Name::from_ascii(domain.trim_end_matches('.')).ok()?.to_lowercase();
        origin.set_fqdn(true);
        let labels = usize::from(origin.num_labels());
        (labels > 0).then_some(Self { origin, labels })
    }

    /// True for names at or below the domain.
    pub fn holds(&self, name: &Name) -> bool {
        self.origin.zone_of(name)
    }

    /// The zone's SOA record, for answers that say no.
    pub fn soa(&self) -> Record {
        let soa = SOA::new(self.below("ns.dns"), self.below("hostmaster"), 1, 7200, 1800, 86400, TTL_S);
        Record::from_rdata(self.origin.clone(), TTL_S, RData::SOA(soa))
    }

    /// Answers from what `view` knows.
    pub fn answer(&self, query: &Query, view: &dyn View) -> Answer {
        let name = query.name();
        if let Some(address) = reverse(name) {
            return self.reverse_answer(query, address, view);
        }
        if !self.holds(name) {
            return Answer::NotOurs;
        }
        let all: Vec<String> =
            name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
        let labels: Vec<&str> = all[..all.len() - self.labels].iter().map(String::as_str).collect();
        let of_type = Finder { zone: self, query };
        match labels.as_slice() {
            [] => self.origin_answer(query),
            ["dns-version"] => of_type.records(vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
            ["svc"] | ["pod"] => Answer::Nothing { exists: true },
            [namespace, "svc" | "pod"] => Answer::Nothing { exists: view.has_namespace(namespace) },
            [address, namespace, "pod"] => match dashed(address).filter(|_| view.has_namespace(namespace)) {
                Some(address) => of_type.addresses(&[address]),
                None => Answer::Nothing { exists: false },
            },
            [rest @ .., service, namespace, "svc"] => match view.service(namespace, service) {
                Some(found) => {
                    of_type.service(rest, &found, &self.below(&format!("{service}.{namespace}.svc")))
                }
                None => Answer::Nothing { exists: false },
            },
            _ => Answer::Nothing { exists: false },
        }
    }

    /// A name below the origin. What is too long for a name becomes the origin.
    fn below(&self, labels: &str) -> Name {
        let relative = Name::from_ascii(labels).and_then(|name| name.append_domain(&self.origin));
        relative.unwrap_or_else(|_| self.origin.clone())
    }

    fn origin_answer(&self, query: &Query) -> Answer {
        match query.query_type() {
            RecordType::SOA => Answer::Found { answers: vec![self.soa()], additionals: Vec::new() },
            RecordType::NS => {
                let of_type = Finder { zone: self, query };
                of_type.records(vec![RData::NS(NS(self.below("ns.dns")))])
            }
            _ => Answer::Nothing { exists: true },
        }
    }

    fn reverse_answer(&self, query: &Query, address: IpAddr, view: &dyn View) -> Answer {
        let target = match view.service_of(address) {
            Some((namespace, service)) => Some(format!("{service}.{namespace}.svc")),
            None => {
                view.endpoint_of(address).map(|(ns, service, label)| format!("{label}.{service}.{ns}.svc"))
            }
        };
        match target {
            None => Answer::NotOurs,
            Some(labels) => {
                let of_type = Finder { zone: self, query };
                of_type.records(vec![RData::PTR(PTR(self.below(&labels)))])
            }
        }
    }
}

/// Makes records of the type that was asked for.
struct Finder<'a> {
    zone: &'a Zone,
    query: &'a Query,
}

impl Finder<'_> {
    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.query.name().clone(), TTL_S, data)
    }

    /// Those of `all` that are of the asked type; the name exists in any case.
    fn records(&self, all: Vec<RData>) -> Answer {
        let asked = self.query.query_type();
        let fits = |data: &RData| asked == RecordType::ANY || data.record_type() == asked;
        let answers: Vec<Record> = all.into_iter().filter(fits).map(|data| self.record(data)).collect();
        match answers.is_empty() {
            true => Answer::Nothing { exists: true },
            false => Answer::Found { answers, additionals: Vec::new() },
        }
    }

    fn addresses(&self, all: &[IpAddr]) -> Answer {
        self.records(all.iter().map(|address| address_data(*address)).collect())
    }

    /// What stands below a service's own name: nothing, an endpoint, or `_port._protocol`.
    fn service(&self, rest: &[&str], service: &ServiceView, name: &Name) -> Answer {
        if let Some(target) = &service.external {
            return match (rest, Name::from_ascii(target)) {
                ([], Ok(mut target)) => {
                    target.set_fqdn(true);
                    let answers = vec![self.record(RData::CNAME(CNAME(target)))];
                    Answer::Found { answers, additionals: Vec::new() }
                }
                _ => Answer::Nothing { exists: false },
            };
        }
        match rest {
            [] if self.query.query_type() == RecordType::SRV => self.srv(service, name, |_| true),
            [] => {
                let of_endpoints = service.endpoints.iter().map(|endpoint| endpoint.address);
                let all: Vec<IpAddr> = service.addresses.iter().copied().chain(of_endpoints).collect();
                self.addresses(&all)
            }
            [label] if service.is_headless() => {
                let named = service.endpoints.iter().filter(|endpoint| endpoint.label() == *label);
                let all: Vec<IpAddr> = named.map(|endpoint| endpoint.address).collect();
                match all.is_empty() {
                    true => Answer::Nothing { exists: false },
                    false => self.addresses(&all),
                }
            }
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => {
                    let wanted = |have: &Port| have.name == port && have.protocol == protocol;
                    let of_endpoints = service.endpoints.iter().flat_map(|endpoint| &endpoint.ports);
                    let exists = service.ports.iter().chain(of_endpoints).any(wanted);
                    match exists && self.query.query_type() == RecordType::SRV {
                        true => self.srv(service, name, wanted),
                        false => Answer::Nothing { exists },
                    }
                }
                _ => Answer::Nothing { exists: false },
            },
            _ => Answer::Nothing { exists: false },
        }
    }

    fn srv(&self, service: &ServiceView, name: &Name, wanted: impl Fn(&Port) -> bool) -> Answer {
        let srv = |port: &Port, target: &Name| {
            RData::SRV(SRV::new(SRV_PRIORITY, SRV_WEIGHT, port.number, target.clone()))
        };
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        if !service.is_headless() {
            for port in service.ports.iter().filter(|port| wanted(port)) {
                answers.push(self.record(srv(port, name)));
            }
            let known =
                service.addresses.iter().map(|ip| Record::from_rdata(name.clone(), TTL_S, address_data(*ip)));
            additionals.extend(known);
        }
        for endpoint in &service.endpoints {
            let target = self.endpoint_name(endpoint, name);
            let ports: Vec<&Port> = endpoint.ports.iter().filter(|port| wanted(port)).collect();
            if ports.is_empty() {
                continue;
            }
            answers.extend(ports.into_iter().map(|port| self.record(srv(port, &target))));
            additionals.push(Record::from_rdata(target, TTL_S, address_data(endpoint.address)));
        }
        match answers.is_empty() {
            true => Answer::Nothing { exists: true },
            false => Answer::Found { answers, additionals },
        }
    }

    fn endpoint_name(&self, endpoint: &Endpoint, service: &Name) -> Name {
        let label = Name::from_ascii(endpoint.label()).and_then(|label| label.append_domain(service));
        label.unwrap_or_else(|_| self.zone.origin.clone())
    }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// `10-244-0-7`, or with more dashes an IPv6 address.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse(name: &Name) -> Option<IpAddr> {
    let labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok(),
        [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
            let text: String = digits.iter().rev().copied().collect();
            u128::from_str_radix(&text, 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
