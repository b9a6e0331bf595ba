//! What DNS knows of the cluster.

use std::net::IpAddr;

use client::{Cache, Informer, Informers};
use k8s_openapi::api::core::v1::{Namespace, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const BY_SERVICE: &str = "dns-service";
const SERVICE_BY_IP: &str = "dns-cluster-ip";
const SLICE_BY_IP: &str = "dns-endpoint-ip";

/// A port of a service or endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, empty for a nameless one.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub number: u16,
}

/// A pod behind a headless service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its name below the service, if it has one.
    pub hostname: Option<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

impl Endpoint {
    /// Its label below the service: its name, or its address with dashes.
    pub fn label(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| self.address.to_string().replace(['.', ':'], "-"))
    }
}

/// A service as DNS sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Its virtual addresses; empty for a headless one.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its endpoints that may be named; looked up for headless services only.
    pub endpoints: Vec<Endpoint>,
    /// The name it stands for, of type ExternalName.
    pub external: Option<String>,
}

impl ServiceView {
    /// True for one without a virtual address that has endpoints of its own.
    pub fn is_headless(&self) -> bool {
        self.addresses.is_empty() && self.external.is_none()
    }
}

/// Looks things up.
pub trait View: Send + Sync + 'static {
    /// True once there is something to look up in.
    fn is_ready(&self) -> bool;
    /// True for a namespace that exists.
    fn has_namespace(&self, name: &str) -> bool;
    /// A service.
    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView>;
    /// The service that has a virtual address: namespace and name.
    fn service_of(&self, address: IpAddr) -> Option<(String, String)>;
    /// The endpoint of a headless service at an address: namespace, service and label.
    fn endpoint_of(&self, address: IpAddr) -> Option<(String, String, String)>;
}

/// The view of informers.
pub struct Live {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
    /// Their watches end when the last handle is dropped.
    _informers: Informers,
}

impl Live {
    /// Follows services, their endpoints and namespaces.
    pub fn new(informers: &Informers) -> Self {
        let services = informers.get::<Service>();
        services
            .add_index(SERVICE_BY_IP, |service| addresses(service).iter().map(IpAddr::to_string).collect());
        let slices = informers.get::<EndpointSlice>();
        slices.add_index(BY_SERVICE, |slice| service_key(slice).into_iter().collect());
        slices.add_index(SLICE_BY_IP, |slice| {
            slice.endpoints.iter().flatten().flat_map(|e| e.addresses.clone()).collect()
        });
        Self { services, slices, namespaces: informers.get::<Namespace>(), _informers: informers.clone() }
    }
}

fn service_key(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref()?))
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|s| s.cluster_ips.as_ref()).into_iter().flatten();
    let one = spec.and_then(|s| s.cluster_ip.as_ref());
    let mut parsed: Vec<IpAddr> = Vec::new();
    for address in all.chain(one).filter_map(|text| text.parse().ok()) {
        // The first of the list is in the single field, too.
        if !parsed.contains(&address) {
            parsed.push(address);
        }
    }
    parsed
}

fn service_port(port: &ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
        number: u16::try_from(port.port).ok()?,
    })
}

fn endpoints_of(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                protocol: port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
                number: u16::try_from(port.port?).ok()?,
            })
        })
        .collect();
    let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
    };
    let endpoints = slice.endpoints.iter().flatten().filter(ready);
    endpoints
        .flat_map(|endpoint| {
            let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
            let ports = ports.clone();
            endpoint.addresses.iter().filter_map(|text| text.parse().ok()).map(move |address| Endpoint {
                address,
                hostname: hostname.clone(),
                ports: ports.clone(),
            })
        })
        .collect()
}

fn of_service(slices: &Cache<EndpointSlice>, key: &str) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = Vec::new();
    for endpoint in slices.by_index(BY_SERVICE, key).iter().flat_map(|slice| endpoints_of(slice)) {
        // While an endpoint moves from one slice to another it is in both.
        if !all.contains(&endpoint) {
            all.push(endpoint);
        }
    }
    all
}

impl View for Live {
    fn is_ready(&self) -> bool {
        self.services.has_synced() && self.slices.has_synced() && self.namespaces.has_synced()
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.cache().get(None, name).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView> {
        let service = self.services.cache().get(Some(namespace), name)?;
        let spec = service.spec.as_ref()?;
        let external =
            (spec.type_.as_deref() == Some("ExternalName")).then(|| spec.external_name.clone()).flatten();
        let addresses = if external.is_some() { Vec::new() } else { addresses(&service) };
        let headless = addresses.is_empty() && external.is_none();
        let endpoints = if headless {
            of_service(&self.slices.cache(), &format!("{namespace}/{name}"))
        } else {
            Vec::new()
        };
        let ports = spec.ports.iter().flatten().filter_map(service_port).collect();
        Some(ServiceView { addresses, ports, endpoints, external })
    }

    fn service_of(&self, address: IpAddr) -> Option<(String, String)> {
        let found = self.services.cache().by_index(SERVICE_BY_IP, &address.to_string());
        let meta = &found.first()?.metadata;
        Some((meta.namespace.clone()?, meta.name.clone()?))
    }

    fn endpoint_of(&self, address: IpAddr) -> Option<(String, String, String)> {
        for slice in self.slices.cache().by_index(SLICE_BY_IP, &address.to_string()) {
            let Some(key) = service_key(&slice) else { continue };
            let Some((namespace, name)) = key.split_once('/') else { continue };
            let headless = self.service(namespace, name).is_some_and(|service| service.is_headless());
            let endpoint =
                endpoints_of(&slice).into_iter().find(|e| e.address == address && e.hostname.is_some());
            if let (true, Some(endpoint)) = (headless, endpoint) {
                return Some((namespace.to_owned(), name.to_owned(), endpoint.label()));
            }
        }
        None
    }
}
