//! What services are given: cluster addresses (KEP-1880), which IPAddress objects in the store stand for, and node
//! ports, which this server keeps in memory and follows in the store.

mod addresses;
mod cidr;
mod follow_ports;
mod ports;
pub mod repair;

use std::net::IpAddr;

use parking_lot::Mutex;
use schema::Value;

pub use addresses::{check_ip, pick_ip, rider_for, rider_to_release};
pub use cidr::{Cidr, random_below};
pub use ports::Ports;

/// Why an address or port was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Somebody has it.
    #[error("provided IP is already allocated")]
    IpTaken,
    /// Not an address of any range (`ErrMismatchedNetwork`).
    #[error("the provided network does not match the current range")]
    IpOutside(IpAddr),
    /// None is left.
    #[error("range is full")]
    Full,
    /// Somebody has it.
    #[error("provided port is already allocated")]
    PortTaken,
    /// Not a port of the range.
    #[error("provided port is not in the valid range. The range of valid ports is {0}-{1}")]
    PortOutside(u16, u16),
}

/// Node ports, and the families that services may have.
#[derive(Debug, Default)]
pub struct Addresses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cidrs: Vec<Cidr>,
    ports: Ports,
}

impl Addresses {
    /// Sets the ranges (`--service-cluster-ip-range`, `--service-node-port-range`); the first one's family is the
    /// default. Marks the ports that `services` have.
    pub fn configure<'a>(
        &self,
        cidrs: &[Cidr],
        ports: (u16, u16),
        services: impl Iterator<Item = &'a Value>,
    ) {
        let mut state = self.state.lock();
        state.cidrs = cidrs.to_vec();
        state.ports = Ports::new(ports.0, ports.1);
        for port in services.flat_map(node_ports) {
            let _ = state.ports.take(port, 0);
        }
    }

    /// The ranges of the flags.
    pub fn cidrs(&self) -> Vec<Cidr> {
        self.state.lock().cidrs.clone()
    }

    /// The families of the ranges, `IPv4` or `IPv6`, the default first.
    pub fn families(&self) -> Vec<&'static str> {
        self.state.lock().cidrs.iter().map(Cidr::family).collect()
    }

    /// Takes any free port, when the store is at `revision`.
    pub fn take_any_port(&self, revision: u64) -> Result<u16, AllocationError> {
        self.state.lock().ports.take_any(revision)
    }

    /// Takes this port, when the store is at `revision`.
    pub fn take_port(&self, port: u16, revision: u64) -> Result<(), AllocationError> {
        self.state.lock().ports.take(port, revision)
    }

    /// Gives a port back.
    pub fn release_port(&self, port: u16) {
        self.state.lock().ports.release(port);
    }

    /// Gives a port back of which is heard that it went at `revision`.
    pub fn release_port_at(&self, port: u16, revision: u64) {
        self.state.lock().ports.release_at(port, revision);
    }
}

/// The node ports of a service, that of the health check included, each once.
pub fn node_ports(service: &Value) -> Vec<u16> {
    let mut ports: Vec<u16> = service
        .items_at("spec.ports")
        .iter()
        .filter_map(|p| p.int_at("nodePort"))
        .chain(service.int_at("spec.healthCheckNodePort"))
        .filter_map(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The cluster addresses that a service has.
pub fn cluster_ips(service: &Value) -> Vec<IpAddr> {
    if service.str_at("spec.type") == Some("ExternalName") {
        return Vec::new();
    }
    let all = service.items_at("spec.clusterIPs").iter().filter_map(Value::as_str);
    all.filter_map(|text| text.parse().ok()).collect()
}
