//! What Services and EndpointSlices say, as far as a proxy cares.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{self, EndpointSlice};

use crate::{Cidr, Config};

/// Set on services that another proxy serves.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client stays with its endpoint if the service does not say (upstream's default).
const DEFAULT_AFFINITY_S: i32 = 10_800;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// `IPPROTO_…`.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP" | "") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// Which endpoints traffic may go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// All.
    #[default]
    Cluster,
    /// Those of this node.
    Local,
}

impl Policy {
    fn parse(text: Option<&str>) -> Self {
        if text == Some("Local") { Self::Local } else { Self::Cluster }
    }
}

/// One address behind a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// On this node.
    pub local: bool,
    /// Takes traffic.
    pub ready: bool,
    /// Takes traffic if no other does: it is on its way out, but not yet gone.
    pub serving_terminating: bool,
    /// Whether hints keep it for others: none without hints.
    pub hinted: Option<bool>,
}

/// One port of a service, with the endpoints of both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name`.
    pub service: String,
    /// The port's name, empty for the only one of a service.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port of its addresses.
    pub port: u16,
    /// The port of nodes, or zero.
    pub node_port: u16,
    /// Addresses within the cluster.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses that somebody else leads to nodes.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of its load balancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may come through the load balancer's addresses. Empty: all.
    pub source_ranges: Vec<Cidr>,
    /// For traffic to cluster addresses.
    pub internal_policy: Policy,
    /// For traffic to all other addresses and node ports.
    pub external_policy: Policy,
    /// How long a client stays with its endpoint, in seconds.
    pub affinity_s: Option<u32>,
    /// In order.
    pub endpoints: Vec<Endpoint>,
}

/// The ports of a service.
pub type ServicePorts = Vec<ServicePort>;

impl ServicePort {
    /// Whether it can be reached by more than cluster addresses.
    pub(crate) fn is_external(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// The ports of a service as `config`'s node in `zone` sees them; none for services without an address of their own.
    pub fn read(
        config: &Config,
        zone: Option<&str>,
        service: &Service,
        slices: &[Arc<EndpointSlice>],
    ) -> ServicePorts {
        let Some(spec) = service.spec.as_ref().filter(|spec| is_proxied(service, spec)) else {
            return Vec::new();
        };
        let metadata = &service.metadata;
        let key = format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        );
        let ports = spec.ports.iter().flatten();
        ports
            .filter_map(|port| {
                let name = port.name.clone().unwrap_or_default();
                let protocol = Protocol::parse(port.protocol.as_deref())?;
                let endpoints = read_endpoints(config, zone, slices, &name, protocol);
                Some(Self {
                    service: key.clone(),
                    protocol,
                    port: u16::try_from(port.port).ok()?,
                    node_port: port.node_port.and_then(|port| port.try_into().ok()).unwrap_or_default(),
                    cluster_ips: parse_ips(spec.cluster_ips.iter().flatten().chain(cluster_ip_alone(spec))),
                    external_ips: parse_ips(spec.external_ips.iter().flatten()),
                    load_balancer_ips: load_balancer_ips(service),
                    source_ranges: source_ranges(spec),
                    internal_policy: Policy::parse(spec.internal_traffic_policy.as_deref()),
                    external_policy: Policy::parse(spec.external_traffic_policy.as_deref()),
                    affinity_s: affinity(spec),
                    name,
                    endpoints,
                })
            })
            .collect()
    }
}

fn is_proxied(service: &Service, spec: &ServiceSpec) -> bool {
    let has_other_proxy = service.metadata.labels.iter().flatten().any(|(name, _)| name == PROXY_NAME_LABEL);
    let cluster_ip = spec.cluster_ip.as_deref().unwrap_or_default();
    !has_other_proxy && spec.type_.as_deref() != Some("ExternalName") && !matches!(cluster_ip, "" | "None")
}

/// Servers set both fields; other writers of tests and old objects only the older one.
fn cluster_ip_alone(spec: &ServiceSpec) -> Option<&String> {
    spec.cluster_ips.as_ref().is_none_or(Vec::is_empty).then_some(spec.cluster_ip.as_ref()).flatten()
}

fn parse_ips<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    // In mode `Proxy` the load balancer wants to see the traffic itself.
    let ours = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    parse_ips(ours.filter_map(|ingress| ingress.ip.as_ref()))
}

fn source_ranges(spec: &ServiceSpec) -> Vec<Cidr> {
    spec.load_balancer_source_ranges.iter().flatten().filter_map(|range| range.parse().ok()).collect()
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|client| client.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_S);
        u32::try_from(seconds).unwrap_or_default().max(1)
    })
}

fn read_endpoints(
    config: &Config,
    zone: Option<&str>,
    slices: &[Arc<EndpointSlice>],
    port_name: &str,
    protocol: Protocol,
) -> Vec<Endpoint> {
    // An address may be in two slices while it moves from one to the other; the ready one counts.
    let mut found: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten().filter(|port| {
            port.name.as_deref().unwrap_or_default() == port_name
                && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
        });
        for port in ports.filter_map(|port| u16::try_from(port.port?).ok()) {
            for endpoint in slice.endpoints.iter().flatten() {
                if let Some(endpoint) = read_endpoint(config, zone, endpoint, port) {
                    let kept = found.entry(endpoint.address).or_insert(endpoint);
                    if endpoint.ready && !kept.ready {
                        *kept = endpoint;
                    }
                }
            }
        }
    }
    found.into_values().collect()
}

fn read_endpoint(
    config: &Config,
    zone: Option<&str>,
    endpoint: &v1::Endpoint,
    port: u16,
) -> Option<Endpoint> {
    // All addresses of an endpoint are the same; consumers use the first.
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    Some(Endpoint {
        address: SocketAddr::new(ip, port),
        local: endpoint.node_name.as_deref() == Some(&config.node_name),
        ready,
        serving_terminating: serving && conditions.terminating.unwrap_or(false),
        hinted: hinted(config, zone, endpoint),
    })
}

/// Whether the endpoint's hints name this node, or else its zone. Hints for nodes win (KEP-3015).
fn hinted(config: &Config, zone: Option<&str>, endpoint: &v1::Endpoint) -> Option<bool> {
    let hints = endpoint.hints.as_ref()?;
    if let Some(nodes) = hints.for_nodes.as_ref().filter(|nodes| !nodes.is_empty()) {
        return Some(nodes.iter().any(|node| node.name == config.node_name));
    }
    let zones = hints.for_zones.as_ref().filter(|zones| !zones.is_empty())?;
    Some(zones.iter().any(|hint| Some(hint.name.as_str()) == zone))
}
