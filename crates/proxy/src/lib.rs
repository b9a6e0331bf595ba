//! kube-proxy: Services and EndpointSlices made into kernel rules.
//!
//! [`ServicePorts`] reads what the API says, [`plan`] makes of one service a [`Fragment`] of rules, [`Ruleset`] keeps the
//! fragments of all services and gives the difference to what the kernel has; only [`run`] talks to anybody. One table
//! per family, named by the configuration, holds everything, so that several nodes or clusters live side by side.

mod cidr;
#[cfg(test)]
mod kernel_tests;
mod plan;
mod rules;
mod ruleset;
mod run;
mod service;
mod skeleton;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use netlink::nft::Family;

pub use cidr::Cidr;
pub use plan::plan;
pub use ruleset::{Chain, Fragment, Ruleset};
pub use run::{Error, cleanup, run};
pub use service::{Endpoint, Policy, Protocol, ServicePort, ServicePorts};
pub use skeleton::skeleton;

/// How a node's proxy works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name: endpoints on it are local.
    pub node_name: String,
    /// The name of the tables; upstream's is `kube-proxy`.
    pub table: String,
    /// Which families services are served in; the node must have addresses of them.
    pub families: Vec<Family>,
    /// The node's network namespace; none: this process's.
    pub netns: Option<PathBuf>,
    /// Where pods' addresses come from (upstream `--cluster-cidr`). Traffic to a cluster address from elsewhere is
    /// masqueraded. Empty: unknown, and no such traffic is.
    pub cluster_cidrs: Vec<Cidr>,
    /// Where cluster addresses come from: traffic to those that no service has is dropped. Empty: unknown.
    pub service_cidrs: Vec<Cidr>,
    /// Node ports are served on these addresses of the node (upstream `--nodeport-addresses`). Empty: on all but
    /// loopback's. Upstream's default is the node's first address.
    pub node_port_addresses: Vec<IpAddr>,
    /// All traffic to cluster addresses is masqueraded (upstream `--masquerade-all`).
    pub masquerade_all: bool,
    /// The bit of a packet's mark that asks for masquerading (upstream `--iptables-masquerade-bit`).
    pub masquerade_bit: u8,
    /// The shortest time between two changes of the rules (upstream `--iptables-min-sync-period`, one second). Changes
    /// in between are done together.
    pub min_sync_period: Duration,
}

impl Config {
    /// The defaults for a node.
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            table: "kube-proxy".to_owned(),
            families: vec![Family::Ip],
            netns: None,
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            node_port_addresses: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            min_sync_period: Duration::from_millis(100),
        }
    }

    fn mark(&self) -> u32 {
        1 << u32::from(self.masquerade_bit.min(31))
    }
}

/// Whether an address is of a family.
fn is_of(family: Family, ip: IpAddr) -> bool {
    match family {
        Family::Ip => ip.is_ipv4(),
        Family::Ip6 => ip.is_ipv6(),
        Family::Inet => true,
    }
}
