//! Addresses and ports of services: what is taken, in memory, rebuilt from the services at start.

mod ports;
mod ranges;

use std::net::IpAddr;

use parking_lot::Mutex;
use schema::Value;

pub use ports::Ports;
pub use ranges::random_below;
pub use ranges::{Cidr, Range};

/// Why an address or port was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Somebody has it.
    #[error("provided IP is already allocated")]
    IpTaken,
    /// Not an address of the range.
    #[error("the provided IP ({0}) is not in the valid range. The range of valid IPs is {1}")]
    IpOutside(IpAddr, String),
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

/// All that services can be given.
#[derive(Debug)]
pub struct Addresses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ranges: Vec<Range>,
    ports: Ports,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { state: Mutex::new(State::default()) }
    }
}

impl Addresses {
    /// Sets the ranges (`--service-cluster-ip-range`, `--service-node-port-range`); the first one's family is the
    /// default. Marks what `services` have.
    pub fn configure<'a>(
        &self,
        cidrs: &[Cidr],
        ports: (u16, u16),
        services: impl Iterator<Item = &'a Value>,
    ) {
        let mut state = self.state.lock();
        state.ranges = cidrs.iter().map(|cidr| Range::new(*cidr)).collect();
        state.ports = Ports::new(ports.0, ports.1);
        for service in services {
            for address in service.items_at("spec.clusterIPs").iter().filter_map(Value::as_str) {
                if let Ok(ip) = address.parse::<IpAddr>()
                    && let Some(range) = state.ranges.iter_mut().find(|r| r.contains(ip))
                {
                    let _ = range.take(ip);
                }
            }
            for port in node_ports(service) {
                let _ = state.ports.take(port);
            }
        }
    }

    /// The families of the ranges, `IPv4` or `IPv6`, the default first.
    pub fn families(&self) -> Vec<&'static str> {
        self.state.lock().ranges.iter().map(|r| r.family()).collect()
    }

    /// Takes any free address of a family.
    pub fn take_any_ip(&self, family: &str) -> Result<IpAddr, AllocationError> {
        let mut state = self.state.lock();
        state.ranges.iter_mut().find(|r| r.family() == family).ok_or(AllocationError::Full)?.take_any()
    }

    /// Takes this address.
    pub fn take_ip(&self, ip: IpAddr) -> Result<(), AllocationError> {
        let mut state = self.state.lock();
        let same_family = |r: &&mut Range| (r.family() == "IPv4") == ip.is_ipv4();
        match state.ranges.iter_mut().find(same_family) {
            Some(range) => range.take(ip),
            None => Err(AllocationError::IpOutside(ip, String::new())),
        }
    }

    /// Gives an address back.
    pub fn release_ip(&self, ip: IpAddr) {
        let mut state = self.state.lock();
        if let Some(range) = state.ranges.iter_mut().find(|r| r.contains(ip)) {
            range.release(ip);
        }
    }

    /// Takes any free port.
    pub fn take_any_port(&self) -> Result<u16, AllocationError> {
        self.state.lock().ports.take_any()
    }

    /// Takes this port.
    pub fn take_port(&self, port: u16) -> Result<(), AllocationError> {
        self.state.lock().ports.take(port)
    }

    /// Gives a port back.
    pub fn release_port(&self, port: u16) {
        self.state.lock().ports.release(port);
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
