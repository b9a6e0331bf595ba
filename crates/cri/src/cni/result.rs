//! What plugins answer to ADD.

use std::net::IpAddr;

use serde_json::Value;

use crate::error::{Error, Result};

/// What the runtime needs of a plugin's result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkResult {
    /// The pod's addresses; IPv4 before IPv6, since the first is the pod's IP.
    pub ips: Vec<String>,
}

impl NetworkResult {
    /// Reads a result of any version from 0.2 on.
    pub fn parse(value: &Value) -> Result<Self> {
        let mut found: Vec<IpAddr> = Vec::new();
        let addresses = value.get("ips").and_then(Value::as_array).into_iter().flatten();
        let addresses = addresses.filter_map(|ip| ip.get("address"));
        // Version 0.2 has one object per family.
        let old = ["ip4", "ip6"].iter().filter_map(|family| value.get(family)?.get("ip"));
        for address in addresses.chain(old).filter_map(Value::as_str) {
            let ip = address.split('/').next().unwrap_or(address);
            let ip: IpAddr = ip
                .parse()
                .map_err(|_| Error::Network(format!("the network plugin gave {address:?} as address")))?;
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
        if found.is_empty() {
            return Err(Error::Network("the network plugins gave no IP address".to_owned()));
        }
        found.sort_by_key(|ip| ip.is_ipv6());
        Ok(Self { ips: found.iter().map(IpAddr::to_string).collect() })
    }
}
