//! Keeps the records of addresses in line with the services (upstream's repair loops): at start all of
//! them, later whatever changes.

use std::net::IpAddr;
use std::sync::Arc;

use base::TaskScope;
use schema::{Value, value};
use store::EventKind;

use super::addresses::{self, GROUP, MANAGER, MANAGER_LABEL};
use super::cluster_ips;
use crate::registry::{Followed, Follower, Registry, Transform, meta, stored};
use crate::status::ApiResult;

const DEFAULT_RANGE: &str = "kubernetes";

/// Makes the `kubernetes` ServiceCIDR of the flags' ranges and the IPAddress objects that services lack; then keeps
/// addresses and ports in line, in tasks of `scope`.
pub async fn run(registry: &Arc<Registry>, scope: &TaskScope) -> ApiResult<()> {
    ensure_default_range(registry).await?;
    if let Some(served) = registry.stored_resource(GROUP, "ipaddresses") {
        let mut follower = registry.follow(&served);
        // The watch begins here, before anything is read: whatever is deleted later is heard of.
        if follower.next().await.is_some() {
            repair_all(registry).await?;
            scope.spawn(follow_addresses(registry.clone(), follower));
        }
    }
    if let Some(served) = registry.stored_resource("", "services") {
        scope.spawn(super::follow_ports::run(registry.clone(), served));
    }
    Ok(())
}

async fn repair_all(registry: &Registry) -> ApiResult<()> {
    for service in registry.find_all("", "services", None)? {
        for ip in cluster_ips(&service) {
            ensure_address(registry, &service, ip).await?;
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

/// Follows IPAddress objects: one that is deleted while its service has the address is made again.
async fn follow_addresses(registry: Arc<Registry>, mut follower: Follower) {
    while let Some(followed) = follower.next().await {
        let outcome = match followed {
            Followed::Anew => repair_all(&registry).await,
            Followed::Changes(batch) => restore_deleted(&registry, &batch.events).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(error = %error.message, "addresses of services not restored");
        }
    }
}

async fn restore_deleted(registry: &Registry, events: &[store::Event]) -> ApiResult<()> {
    for gone in events.iter().filter(|e| e.kind == EventKind::Delete).filter_map(|e| e.prev.as_ref()) {
        restore(registry, &*stored::memo(gone).decoded(gone)?).await?;
    }
    Ok(())
}

async fn restore(registry: &Registry, address: &Value) -> ApiResult<()> {
    let Some((namespace, name)) = addresses::parent(address) else { return Ok(()) };
    let Ok(ip) = meta::name(address).parse::<IpAddr>() else { return Ok(()) };
    match registry.find("", "services", namespace, name)? {
        Some(service) if cluster_ips(&service).contains(&ip) => ensure_address(registry, &service, ip).await,
        _ => Ok(()),
    }
}
