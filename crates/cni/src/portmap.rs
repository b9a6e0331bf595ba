//! `portmap`: leads ports of the host to the container (`hostPort`). Runs after the plugin that made the link.

use std::net::IpAddr;

use netlink::conntrack;

use crate::Error;
use crate::config::{NetConf, PortMapping};
use crate::port_rules::{self, Forward};
use crate::protocol::{Command, Request};
use crate::result::NetResult;

pub(crate) fn run(request: &Request, conf: &NetConf) -> Result<Option<NetResult>, Error> {
    let owner = owner(&request.container, &request.ifname);
    match request.command {
        Command::Add => add(conf, &owner).map(Some),
        Command::Del => release(conf, |other| other == owner).map(|()| None),
        Command::Gc => {
            let valid: Vec<String> = conf
                .valid_attachments
                .iter()
                .map(|valid| self::owner(&valid.container, &valid.ifname))
                .collect();
            release(conf, |other| !valid.iter().any(|valid| valid == other)).map(|()| None)
        }
        // The rules are looked up in the kernel when they are used; there is nothing else to compare them with.
        Command::Check | Command::Status | Command::Version => Ok(None),
    }
}

/// Names a container's link in the rules: remarks are short.
fn owner(container: &str, ifname: &str) -> String {
    let container = container.get(..100).unwrap_or(container);
    format!("{container}/{ifname}")
}

fn add(conf: &NetConf, owner: &str) -> Result<NetResult, Error> {
    conf.portmap.check()?;
    let result = conf.prev_result()?.ok_or_else(|| Error::config("must be called as chained plugin"))?;
    let mappings = &conf.runtime_config.port_mappings;
    let forwards = forwards(mappings, &result)?;
    if forwards.is_empty() {
        return Ok(result);
    }
    port_rules::add(&conf.name, owner, &forwards)?;
    for interface in result.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        // From 127.0.0.1 the host's ports are reached only so. Not every link has the switch.
        let _ = std::fs::write(format!("/proc/sys/net/ipv4/conf/{}/route_localnet", interface.name), "1");
    }
    let udp = forwards.iter().filter(|forward| forward.protocol == libc::IPPROTO_UDP as u8);
    forget_flows(&udp.map(|forward| forward.host_port).collect::<Vec<_>>())?;
    Ok(result)
}

fn release(conf: &NetConf, gone: impl Fn(&str) -> bool) -> Result<(), Error> {
    let udp_ports = port_rules::release(&conf.name, gone)?;
    forget_flows(&udp_ports)
}

/// UDP clients that keep sending would stay with where they were led before.
fn forget_flows(ports: &[u16]) -> Result<(), Error> {
    if !ports.is_empty() {
        for ipv6 in [false, true] {
            conntrack::forget(ipv6, |connection| {
                let original = &connection.original;
                original.protocol == libc::IPPROTO_UDP as u8 && ports.contains(&original.destination.1)
            })?;
        }
    }
    Ok(())
}

fn forwards(mappings: &[PortMapping], result: &NetResult) -> Result<Vec<Forward>, Error> {
    let mut forwards = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => libc::IPPROTO_TCP,
            "udp" => libc::IPPROTO_UDP,
            "sctp" => libc::IPPROTO_SCTP,
            other => return Err(Error::config(format!("unknown protocol {other:?} of a port mapping"))),
        };
        let host_ip: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::config(format!("invalid hostIP {text:?}")))?),
        };
        for ip in &result.ips {
            let address = ip.address;
            if host_ip.is_some_and(|host| host.is_ipv4() != address.ip.is_ipv4()) {
                continue;
            }
            forwards.push(Forward {
                host_ip: host_ip.filter(|host| !host.is_unspecified()),
                protocol: protocol as u8,
                host_port: mapping.host_port,
                to: (address, mapping.container_port),
            });
        }
    }
    Ok(forwards)
}
