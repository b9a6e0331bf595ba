//! Keeps the records of addresses and ports in line with the services (upstream's repair loops): at start all of
//! them, later whatever changes.

use std::net::IpAddr;
use std::sync::Arc;

use schema::{Value, value};
use store::{EventKind, KeyRange, WatchOptions};

use super::addresses::{self, GROUP, MANAGER, MANAGER_LABEL};
use super::{cluster_ips, node_ports};
use crate::registry::{Registry, Transform, meta, stored};
use crate::status::ApiResult;

const DEFAULT_RANGE: &str = "kubernetes";

/// Makes the `kubernetes` ServiceCIDR of the flags' ranges, and the IPAddress objects that services lack.
pub async fn at_start(registry: &Registry) -> ApiResult<()> {
    ensure_default_range(registry).await?;
    let services = registry.find_all("", "services", None)?;
    for service in &services {
        for ip in cluster_ips(service) {
            ensure_address(registry, service, ip).await?;
        }
    }
    for address in registry.find_all(GROUP, "ipaddresses", None)? {
        release_stray(registry, &address).await?;
    }
    Ok(())
}

async fn ensure_default_range(registry: &Registry) -> ApiResult<()> {
    let Some(served) = registry.stored_resource(GROUP, "servicecidrs") else { return Ok(()) };
    let cidrs: Vec<String> = registry.addresses.cidrs().iter().map(ToString::to_string).collect();
    if registry.find(GROUP, "servicecidrs", "", DEFAULT_RANGE)?.is_none() {
        let range = value!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": DEFAULT_RANGE}, "spec": {"cidrs": (cidrs)}});
        match registry.own().create(&served, "", range).await {
            Err(error) if error.reason != "AlreadyExists" => return Err(error),
            _ => {}
        }
    }
    let now = registry.now();
    let condition = value!({"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
        "message": "Kubernetes default Service CIDR is ready"});
    let transform = |live: Option<&Value>| {
        let mut range = live.cloned().unwrap_or_default();
        let conditions = range.make_map().entry_map("status").entry_list("conditions");
        if !conditions.iter().any(|c| c.str_at("type") == Some("Ready")) {
            conditions.push(condition.clone());
        }
        Ok(range)
    };
    let transform: &Transform<'_> = &transform;
    registry.own().update(&served, "status", ("", DEFAULT_RANGE), transform).await.map(drop)
}

async fn ensure_address(registry: &Registry, service: &Value, ip: IpAddr) -> ApiResult<()> {
    let owner = (meta::namespace(service), meta::name(service));
    match registry.find(GROUP, "ipaddresses", "", &ip.to_string())? {
        Some(address) if addresses::parent(&address) == Some(owner) => Ok(()),
        Some(address) => {
            let (namespace, name) = addresses::parent(&address).unwrap_or_default();
            let words =
                format!("Cluster IP [{ip}] was allocated to service {namespace}/{name}; please recreate");
            warn(registry, service, "ClusterIPAlreadyAllocated", &words).await
        }
        None => {
            let Some(rider) = addresses::rider_for(registry, ip, owner, &registry.now())? else {
                return Ok(());
            };
            let words = format!("Cluster IP [{ip}] is not allocated; repairing");
            if rider.store(&*registry.store).await? {
                warn(registry, service, "ClusterIPNotAllocated", &words).await?;
            }
            Ok(())
        }
    }
}

/// Deletes an address that this cluster's servers made for a service that does not have it.
async fn release_stray(registry: &Registry, address: &Value) -> ApiResult<()> {
    let labels = address.map_at("metadata.labels");
    if labels.and_then(|labels| labels.get_str(MANAGER_LABEL)) != Some(MANAGER) {
        return Ok(());
    }
    let Some((namespace, name)) = addresses::parent(address) else { return Ok(()) };
    let Ok(ip) = meta::name(address).parse::<IpAddr>() else { return Ok(()) };
    let service = registry.find("", "services", namespace, name)?;
    if service.is_some_and(|service| cluster_ips(&service).contains(&ip)) {
        return Ok(());
    }
    tracing::warn!(%ip, namespace, name, "address of a service that does not have it; releasing");
    match addresses::rider_to_release(registry, ip, (namespace, name))? {
        Some(rider) => rider.store(&*registry.store).await.map(drop),
        None => Ok(()),
    }
}

async fn warn(registry: &Registry, service: &Value, reason: &str, words: &str) -> ApiResult<()> {
    let (namespace, name, uid) = (meta::namespace(service), meta::name(service), meta::uid(service));
    tracing::warn!(namespace, name, reason, "{words}");
    let Some(served) = registry.stored_resource("", "events") else { return Ok(()) };
    let now = registry.now();
    let event = value!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": (format!("{name}.")), "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Service", "namespace": namespace, "name": name, "uid": uid},
        "type": "Warning", "reason": reason, "message": words, "count": 1, "firstTimestamp": (now.as_str()),
        "lastTimestamp": (now.as_str()), "source": {"component": "ipallocator-repair-controller"}
    });
    // An event that cannot be written is no reason to stop.
    if let Err(error) = registry.own().create(&served, namespace, event).await {
        tracing::debug!(error = %error.message, "event not written");
    }
    Ok(())
}

/// Follows services, whose ports other servers may have given, until the store ends.
pub async fn follow_ports(registry: Arc<Registry>) {
    let Some(served) = registry.stored_resource("", "services") else { return };
    let range = KeyRange::prefix(served.key_prefix(None));
    loop {
        let options = WatchOptions { prev_entry: true, ..WatchOptions::default() };
        let Ok(mut watcher) = registry.store.watch(range.clone(), options) else { return };
        while let Ok(batch) = watcher.next().await {
            for event in batch.events.iter() {
                let ports = |entry: &Arc<store::Entry>| -> Vec<u16> {
                    stored::memo(entry).decode(entry).map(|service| node_ports(&service)).unwrap_or_default()
                };
                let now = if event.kind == EventKind::Put { ports(&event.entry) } else { Vec::new() };
                let before = event.prev.as_ref().map(ports).unwrap_or_default();
                for port in before.iter().filter(|port| !now.contains(port)) {
                    registry.addresses.release_port_at(*port, batch.revision.0);
                }
                for port in now.iter().filter(|port| !before.contains(port)) {
                    let _ = registry.addresses.take_port(*port, batch.revision.0);
                }
            }
        }
        if registry.store.health().is_err() {
            return;
        }
    }
}

/// Follows IPAddress objects: one that is deleted while its service has the address is made again.
pub async fn follow_addresses(registry: Arc<Registry>) {
    let Some(served) = registry.stored_resource(GROUP, "ipaddresses") else { return };
    let range = KeyRange::prefix(served.key_prefix(None));
    loop {
        let options = WatchOptions { prev_entry: true, ..WatchOptions::default() };
        let Ok(mut watcher) = registry.store.watch(range.clone(), options) else { return };
        while let Ok(batch) = watcher.next().await {
            for event in batch.events.iter().filter(|event| event.kind == EventKind::Delete) {
                let Some(gone) = &event.prev else { continue };
                let Ok(address) = stored::memo(gone).decode(gone) else { continue };
                if let Err(error) = restore(&registry, &address).await {
                    tracing::warn!(error = %error.message, "address of a service not restored");
                }
            }
        }
        if registry.store.health().is_err() {
            return;
        }
    }
}

async fn restore(registry: &Registry, address: &Value) -> ApiResult<()> {
    let Some((namespace, name)) = addresses::parent(address) else { return Ok(()) };
    let Ok(ip) = meta::name(address).parse::<IpAddr>() else { return Ok(()) };
    match registry.find("", "services", namespace, name)? {
        Some(service) if cluster_ips(&service).contains(&ip) => ensure_address(registry, &service, ip).await,
        _ => Ok(()),
    }
}
