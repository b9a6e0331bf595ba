//! The network of pods over several machines: each has a block of its own, and the others' are routed to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Context;
use base::TaskScope;
use client::{Informer, Informers, Selector};
use k8s_openapi::api::core::v1::Node;
use netlink::route::{Route, RouteSocket};
use tokio::sync::Notify;

use crate::network::Block;
use crate::settings::Settings;

/// This machine's node: its object's uid and its block of pod addresses.
pub struct Share {
    /// Uid of the Node.
    pub node_uid: String,
    /// Addresses of the pods here.
    pub block: Block,
}

/// Waits until this machine's node has its block, which a controller gives it.
pub async fn wait_for_share(informers: &Informers, node_name: &str) -> anyhow::Result<Share> {
    let own = Selector::fields(format!("metadata.name={node_name}"));
    let (sender, mut found) = tokio::sync::watch::channel(None);
    informers.get_selected::<Node>(own).on_event(move |event| {
        let node = event.object();
        let uid = node.metadata.uid.clone();
        sender.send_replace(uid.zip(block_of(node)));
    });
    let found = found.wait_for(Option::is_some).await.context("the block of this node")?.clone();
    let (node_uid, block) = found.context("the block of this node")?;
    Ok(Share { node_uid, block })
}

fn block_of(node: &Node) -> Option<Block> {
    node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()
}

fn address_of(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP")?.address.parse().ok()
}

/// Keeps routes to the blocks of the other nodes, which must be on the same link, until `scope` ends.
pub fn keep_routes(settings: &Settings, informers: &Informers, scope: &TaskScope) {
    let nodes: Informer<Node> = informers.get();
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    nodes.on_event(move |_| tell.notify_one());
    let settings = settings.clone();
    scope.spawn(async move {
        nodes.synced().await;
        loop {
            changed.notified().await;
            let wanted = wanted(nodes.cache().list().iter().map(|node| &**node), &settings.node_name);
            if let Err(error) = set_routes(&settings, &wanted) {
                tracing::warn!(error = format!("{error:#}"), "the pods of other nodes are not all reached");
            }
        }
    });
}

/// Through whom each block of the others is reached.
fn wanted<'n>(nodes: impl Iterator<Item = &'n Node>, own: &str) -> BTreeMap<String, (Block, Ipv4Addr)> {
    let of_node = |node: &Node| {
        let name = node.metadata.name.clone().filter(|name| name != own)?;
        Some((name, (block_of(node)?, address_of(node)?)))
    };
    nodes.filter_map(of_node).collect()
}

fn set_routes(settings: &Settings, wanted: &BTreeMap<String, (Block, Ipv4Addr)>) -> anyhow::Result<()> {
    let mut socket = RouteSocket::open().context("netlink")?;
    let link = link_of(&mut socket, settings.node_address())?;
    let there = socket.routes(false).context("list routes")?;
    let routes: Vec<Route> = wanted.values().map(|(block, via)| route(*block, *via, link)).collect();
    for stale in stale(&there, &routes, settings.pod_block) {
        socket.delete_route(stale).context("remove a route")?;
    }
    for route in routes.iter().filter(|route| !there.iter().any(|other| same(other, route))) {
        socket.replace_route(route).context("add a route")?;
    }
    Ok(())
}

fn route(block: Block, via: Ipv4Addr, link: u32) -> Route {
    let (destination, prefix_len) = (IpAddr::V4(block.address(0)), block.prefix());
    Route { destination, prefix_len, gateway: Some(IpAddr::V4(via)), link, source: None }
}

fn same(one: &Route, other: &Route) -> bool {
    (one.destination, one.prefix_len, one.gateway) == (other.destination, other.prefix_len, other.gateway)
}

/// Routes to pods of nodes that are gone or have moved. Only routes with a gateway are ours.
fn stale<'r>(there: &'r [Route], wanted: &'r [Route], pods: Block) -> impl Iterator<Item = &'r Route> {
    there.iter().filter(move |route| {
        let IpAddr::V4(destination) = route.destination else { return false };
        route.gateway.is_some()
            && route.prefix_len >= pods.prefix()
            && pods.overlaps(Block::new(destination, route.prefix_len))
            && !wanted.iter().any(|other| same(other, route))
    })
}

/// The link that has `address`.
fn link_of(socket: &mut RouteSocket, address: Ipv4Addr) -> anyhow::Result<u32> {
    let links = socket.links().context("list links")?;
    for link in &links {
        let addresses = socket.addresses(link.index).context("list addresses")?;
        if addresses.iter().any(|own| own.ip == IpAddr::V4(address)) {
            return Ok(link.index);
        }
    }
    anyhow::bail!("no link has the address {address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, block: &str, address: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name}, "spec": {"podCIDR": block},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }))
        .unwrap()
    }

    #[test]
    fn routes_lead_to_the_other_nodes() {
        let nodes = [node("a", "10.244.0.0/24", "192.0.2.1"), node("b", "10.244.1.0/24", "192.0.2.2")];
        let wanted = wanted(nodes.iter(), "a");
        assert_eq!(wanted.len(), 1);
        let (block, via) = wanted["b"];
        assert_eq!((block.to_string().as_str(), via.to_string().as_str()), ("10.244.1.0/24", "192.0.2.2"));
        let keep = route(block, via, 2);
        let gone = route("10.244.7.0/24".parse().unwrap(), via, 2);
        let default = Route { destination: Ipv4Addr::UNSPECIFIED.into(), prefix_len: 0, ..keep.clone() };
        let bridge = Route { gateway: None, ..route("10.244.0.0/24".parse().unwrap(), via, 3) };
        let there = [keep.clone(), gone.clone(), default, bridge];
        let pods = "10.244.0.0/16".parse().unwrap();
        assert_eq!(stale(&there, std::slice::from_ref(&keep), pods).collect::<Vec<_>>(), [&gone]);
    }
}
