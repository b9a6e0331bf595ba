//! `bridge`: a bridge on the host, and a pair of links between it and the container.
//!
//! With `hostRouted` (ours) a pod sends everything to the gateway, also what is for a pod on the same bridge. Upstream's
//! way, in which such pods talk to each other directly, lets a pod's answer to a service client on its own node go past
//! the host, where the address of the service would have been put back: upstream needs the `br_netfilter` module for
//! that. Through the gateway it works with and without the module, and clients keep their address.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use netlink::netns::within;
use netlink::route::{self, Address, Link, PortMode, RouteSocket};

use crate::addr::{from_number, to_number};
use crate::config::NetConf;
use crate::protocol::{Command, Request};
use crate::result::{Interface, Ip, NetResult, Route};
use crate::{Cidr, Error, host_local, masquerade};

const DEFAULT_BRIDGE: &str = "cni0";

pub(crate) fn run(request: &Request, conf: &NetConf) -> Result<Option<NetResult>, Error> {
    match request.command {
        Command::Add => add(request, conf).map(Some),
        Command::Del => delete(request, conf).map(|()| None),
        Command::Check => check(request, conf).map(|()| None),
        Command::Gc => collect_garbage(request, conf).map(|()| None),
        Command::Status => ipam(request, conf, Command::Status).map(|_| None),
        Command::Version => Ok(None),
    }
}

fn hash(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// The name of the host's end. It follows from the container, so that a deletion finds it without any memory; 44 bits
/// of a hash are all that a link's name has room for.
fn host_end(container: &str, ifname: &str) -> String {
    format!("veth{:011x}", hash(&[container, ifname]) & 0xfff_ffff_ffff)
}

fn add(request: &Request, conf: &NetConf) -> Result<NetResult, Error> {
    conf.bridge.check()?;
    let netns = request.netns()?;
    let namespace =
        File::open(netns).map_err(|error| Error::io(&format!("open {}", netns.display()), &error))?;
    let mut socket = RouteSocket::open()?;
    let bridge = ensure_bridge(&mut socket, conf)?;
    let host_name = host_end(&request.container, &request.ifname);
    // What an earlier try left.
    socket.delete_link(&host_name)?;
    let mtu = (conf.bridge.mtu != 0).then_some(conf.bridge.mtu);
    socket.add_veth(&host_name, bridge.index, &request.ifname, &namespace, mtu)?;
    let connected = connect(&mut socket, request, conf, &bridge, &host_name);
    if connected.is_err() {
        // Told is what went wrong first.
        let _ = socket.delete_link(&host_name);
    }
    connected
}

fn ensure_bridge(socket: &mut RouteSocket, conf: &NetConf) -> Result<Link, Error> {
    let name = conf.bridge.name.as_deref().unwrap_or(DEFAULT_BRIDGE);
    let missing = || Error::failed(format!("bridge {name} went away while it was set up"));
    let bridge = match socket.link(name)? {
        Some(bridge) => bridge,
        None => {
            let [.., a, b, c, d, e] = hash(&[name, &conf.name]).to_be_bytes();
            let mtu = (conf.bridge.mtu != 0).then_some(conf.bridge.mtu);
            match socket.add_bridge(name, mtu, [2, a, b, c, d, e]) {
                // Another pod's plugin was quicker.
                Err(error) if !error.is_exists() => return Err(error.into()),
                _ => socket.link(name)?.ok_or_else(missing)?,
            }
        }
    };
    if bridge.kind != "bridge" {
        return Err(Error::failed(format!("{name} already exists but is not a bridge")));
    }
    if !bridge.is_up() {
        socket.set_up(bridge.index)?;
    }
    if conf.bridge.promisc_mode {
        socket.set_promiscuous(bridge.index)?;
    }
    Ok(bridge)
}

/// Everything from the new pair of links on.
fn connect(
    socket: &mut RouteSocket,
    request: &Request,
    conf: &NetConf,
    bridge: &Link,
    host_name: &str,
) -> Result<NetResult, Error> {
    let host = socket.link(host_name)?.ok_or_else(|| Error::failed(format!("{host_name} went away")))?;
    if conf.bridge.hairpin_mode || conf.bridge.port_isolation {
        let mode = PortMode { hairpin: conf.bridge.hairpin_mode, isolated: conf.bridge.port_isolation };
        socket.set_port_mode(host.index, mode)?;
    }
    let mut result = ipam(request, conf, Command::Add)?;
    let configured = configure(socket, request, conf, bridge, &mut result);
    let container = match configured {
        Ok(container) => container,
        Err(error) => {
            // Told is what went wrong first.
            let _ = ipam(request, conf, Command::Del);
            return Err(error);
        }
    };
    let sandbox = request.netns()?.display().to_string();
    let interface = |link: &Link| Interface {
        name: link.name.clone(),
        mac: link.mac_text(),
        mtu: Some(link.mtu),
        sandbox: String::new(),
    };
    result.interfaces =
        vec![interface(bridge), interface(&host), Interface { sandbox, ..interface(&container) }];
    if conf.dns != Default::default() {
        result.dns = conf.dns.clone();
    }
    Ok(result)
}

fn configure(
    socket: &mut RouteSocket,
    request: &Request,
    conf: &NetConf,
    bridge: &Link,
    result: &mut NetResult,
) -> Result<Link, Error> {
    complete(conf, result)?;
    let mac = conf.runtime_config.mac.as_deref().map(parse_mac).transpose()?;
    let routed = conf.bridge.host_routed;
    let container = within(request.netns()?, || configure_container(&request.ifname, result, mac, routed))??;
    if conf.bridge.is_gateway || conf.bridge.is_default_gateway {
        for ip in &result.ips {
            ensure_gateway(socket, conf, bridge, ip)?;
        }
    }
    for ip in &result.ips {
        // The address may have been another pod's a moment ago.
        socket.set_neighbour(bridge.index, ip.address.ip, &container.mac)?;
        if conf.bridge.ip_masq {
            masquerade::ensure(&conf.name, ip.address, &conf.bridge.ip_masq_exempt)?;
        }
    }
    Ok(container)
}

/// Fills in gateways and default routes that the address plugin left to us.
fn complete(conf: &NetConf, result: &mut NetResult) -> Result<(), Error> {
    if result.ips.is_empty() {
        return Err(Error::failed("IPAM plugin returned missing IP config"));
    }
    for ip in &mut result.ips {
        // The container's link is the third of the result.
        ip.interface = Some(2);
        let first = || from_number(to_number(ip.address.network()) + 1, ip.address.ip.is_ipv4());
        if conf.bridge.is_gateway || conf.bridge.is_default_gateway || conf.bridge.host_routed {
            ip.gateway.get_or_insert_with(first);
        }
        if conf.bridge.is_default_gateway {
            let any = from_number(0, ip.address.ip.is_ipv4());
            let dst = Cidr { ip: any, prefix_len: 0 };
            if !result.routes.iter().any(|route| route.dst == dst) {
                result.routes.push(Route { dst, gw: ip.gateway });
            }
        }
    }
    Ok(())
}

fn parse_mac(text: &str) -> Result<[u8; 6], Error> {
    let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().map_err(|_| Error::config(format!("invalid MAC address {text:?}")))
}

/// In the container's namespace: addresses and routes.
fn configure_container(
    ifname: &str,
    result: &NetResult,
    mac: Option<[u8; 6]>,
    routed: bool,
) -> Result<Link, Error> {
    let mut socket = RouteSocket::open()?;
    let missing = || Error::failed(format!("{ifname} is not in the container"));
    let mut link = socket.link(ifname)?.ok_or_else(missing)?;
    if let Some(mac) = mac {
        socket.set_mac(link.index, mac)?;
        link.mac = mac.to_vec();
    }
    if routed {
        // The gateway must not talk the pod out of sending to it.
        for scope in ["all", ifname] {
            let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/accept_redirects"), "0");
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_redirects"), "0");
        }
    }
    socket.set_up(link.index)?;
    for ip in &result.ips {
        let address = Address { ip: ip.address.ip, prefix_len: ip.address.prefix_len, prefix_route: !routed };
        socket.add_address(link.index, address)?;
        if let (true, Some(gateway)) = (routed, ip.gateway) {
            socket.replace_route(&route::Route {
                destination: gateway,
                prefix_len: Cidr::bits(gateway),
                gateway: None,
                link: link.index,
                source: None,
            })?;
            let network = route_of(&ip.address.as_network(), Some(gateway), &link);
            socket.replace_route(&network)?;
        }
    }
    for to in &result.routes {
        let of_family = |ip: &&Ip| ip.address.ip.is_ipv4() == to.dst.ip.is_ipv4();
        let gateway = to.gw.or_else(|| result.ips.iter().find(of_family).and_then(|ip| ip.gateway));
        socket.replace_route(&route_of(&to.dst, gateway, &link))?;
    }
    Ok(link)
}

fn route_of(destination: &Cidr, gateway: Option<IpAddr>, link: &Link) -> route::Route {
    let (prefix_len, destination) = (destination.prefix_len, destination.network());
    route::Route { destination, prefix_len, gateway, link: link.index, source: None }
}

/// On the host: the bridge is the pods' gateway.
fn ensure_gateway(socket: &mut RouteSocket, conf: &NetConf, bridge: &Link, ip: &Ip) -> Result<(), Error> {
    let Some(gateway) = ip.gateway else { return Ok(()) };
    let address = Address { ip: gateway, prefix_len: ip.address.prefix_len, prefix_route: true };
    let there = socket.addresses(bridge.index)?;
    if !there.contains(&address) {
        let network = Cidr { ip: gateway, prefix_len: address.prefix_len };
        let other =
            there.iter().find(|other| network.contains(other.ip) || !gateway.is_ipv6() && other.ip.is_ipv4());
        if let (Some(other), false) = (other, conf.bridge.force_address) {
            let message =
                format!("{:?} already has an IP address different from {gateway}: {}", bridge.name, other.ip);
            return Err(Error::failed(message));
        }
        socket.add_address(bridge.index, address)?;
    }
    let switch = if gateway.is_ipv4() { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
    enable(Path::new("/proc/sys/net").join(switch).as_path())
}

fn enable(switch: &Path) -> Result<(), Error> {
    // Writing it has effects (addresses learned are dropped), and may be forbidden where it is on already.
    if fs::read_to_string(switch).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    fs::write(switch, "1").map_err(|error| Error::io(&format!("write {}", switch.display()), &error))
}

/// Has the address plugin do `command`.
fn ipam(request: &Request, conf: &NetConf, command: Command) -> Result<NetResult, Error> {
    let request = Request { command, ..request.clone() };
    let kind = conf.ipam.as_ref().map_or("", |ipam| ipam.kind.as_str());
    match kind {
        "" if matches!(command, Command::Add | Command::Check) => {
            Err(Error::unsupported("lack of an ipam type"))
        }
        "" => Ok(NetResult::default()),
        // It is in this program.
        "host-local" => Ok(host_local::run(&request, conf)?.unwrap_or_default()),
        other => delegate(other, &request, conf),
    }
}

/// Runs another plugin, as the specification has it.
fn delegate(plugin: &str, request: &Request, conf: &NetConf) -> Result<NetResult, Error> {
    if plugin.contains('/') {
        return Err(Error::config(format!("invalid plugin name: {plugin}")));
    }
    let found = request.path.split(':').map(|dir| Path::new(dir).join(plugin)).find(|path| path.is_file());
    let path = found.ok_or_else(|| {
        Error::failed(format!("failed to find plugin {plugin:?} in path [{}]", request.path))
    })?;
    let fail = |error: std::io::Error| Error::io(&format!("run {}", path.display()), &error);
    let mut child = Process::new(&path)
        .env("CNI_COMMAND", request.command.name())
        .env("CNI_CONTAINERID", &request.container)
        .env("CNI_NETNS", request.netns.as_deref().unwrap_or(Path::new("")))
        .env("CNI_IFNAME", &request.ifname)
        .env("CNI_ARGS", &request.args)
        .env("CNI_PATH", &request.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(conf.source.to_string().as_bytes()).map_err(fail)?;
    }
    let output = child.wait_with_output().map_err(fail)?;
    if !output.status.success() {
        return Err(Error::of_delegate(plugin, &output.stdout));
    }
    if request.command != Command::Add {
        return Ok(NetResult::default());
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::decoding(format!("the answer of {plugin}: {error}")))
}

fn delete(request: &Request, conf: &NetConf) -> Result<(), Error> {
    // First the link, so that the address is not given to another while it is in use; each even if the other fails.
    let unlinked = delete_links(request);
    ipam(request, conf, Command::Del)?;
    unlinked
}

fn delete_links(request: &Request) -> Result<(), Error> {
    let host_name = host_end(&request.container, &request.ifname);
    if RouteSocket::open()?.delete_link(&host_name)? {
        return Ok(());
    }
    // Another plugin made it (before an upgrade, say), or it is gone, with or without its namespace.
    let Some(netns) = request.netns.as_deref().filter(|path| path.exists()) else { return Ok(()) };
    match within(netns, || RouteSocket::open()?.delete_link(&request.ifname)) {
        Ok(deleted) => deleted.map(|_| ()).map_err(Error::from),
        // The path is there, but no longer a namespace.
        Err(netlink::Error::Netns { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn check(request: &Request, conf: &NetConf) -> Result<(), Error> {
    let expected = conf.prev_result()?.ok_or_else(|| Error::config("Required prevResult missing"))?;
    ipam(request, conf, Command::Check)?;
    let host_name = host_end(&request.container, &request.ifname);
    let host = RouteSocket::open()?.link(&host_name)?;
    if host.is_none_or(|link| link.master == 0) {
        return Err(Error::failed(format!("{host_name} is not a port of the bridge")));
    }
    let found = within(request.netns()?, || -> Result<_, netlink::Error> {
        let mut socket = RouteSocket::open()?;
        match socket.link(&request.ifname)? {
            Some(link) => socket.addresses(link.index).map(Some),
            None => Ok(None),
        }
    })??;
    let found = found.ok_or_else(|| Error::failed(format!("{} is not in the container", request.ifname)))?;
    match expected.ips.iter().find(|ip| !found.iter().any(|address| address.ip == ip.address.ip)) {
        Some(ip) => Err(Error::failed(format!("{} is not on {}", ip.address, request.ifname))),
        None => Ok(()),
    }
}

/// Frees what belongs to no container that the runtime knows.
fn collect_garbage(request: &Request, conf: &NetConf) -> Result<(), Error> {
    ipam(request, conf, Command::Gc)?;
    let mut socket = RouteSocket::open()?;
    let Some(bridge) = socket.link(conf.bridge.name.as_deref().unwrap_or(DEFAULT_BRIDGE))? else {
        return Ok(());
    };
    let valid: Vec<String> =
        conf.valid_attachments.iter().map(|valid| host_end(&valid.container, &valid.ifname)).collect();
    let ports = socket.links()?.into_iter().filter(|link| link.master == bridge.index);
    for port in ports.filter(|link| link.name.starts_with("veth") && !valid.contains(&link.name)) {
        socket.delete_link(&port.name)?;
    }
    Ok(())
}
