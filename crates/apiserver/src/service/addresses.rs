//! Cluster addresses. Which ranges there are, ServiceCIDR objects say; an address is taken while an IPAddress object
//! bears its name. That object is stored in one transaction with the service, so that of two API servers which want
//! the same address one is refused by the store.

use std::net::IpAddr;

use schema::{Value, value};
use store::Revision;

use super::{AllocationError, Cidr};
use crate::registry::{Registry, Rider, meta};
use crate::status::ApiResult;

pub(super) const GROUP: &str = "networking.k8s.io";
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
pub(super) const MANAGER_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "ipallocator.k8s.io";

/// What [`check_ip`] and [`pick_ip`] come to: the store's failure, or why there is no address.
pub type Taken<T> = ApiResult<Result<T, AllocationError>>;

/// Ranges that addresses may be given out of, the server's own first.
fn ranges(registry: &Registry) -> ApiResult<Vec<Cidr>> {
    let all = registry.find_all(GROUP, "servicecidrs", None)?;
    let ready = |range: &Value| {
        let condition =
            range.items_at("status.conditions").iter().find(|c| c.str_at("type") == Some("Ready"));
        // Without its controller a range says nothing, and is used all the same.
        !meta::is_deleting(range) && condition.is_none_or(|c| c.str_at("status") == Some("True"))
    };
    let own = registry.addresses.cidrs();
    let mut found: Vec<Cidr> = all
        .iter()
        .filter(|range| ready(range))
        .flat_map(|range| range.items_at("spec.cidrs"))
        .filter_map(|cidr| cidr.as_str()?.parse().ok())
        .collect();
    found.sort_by_key(|cidr| !own.contains(cidr));
    Ok(found)
}

fn is_free(registry: &Registry, ip: IpAddr) -> ApiResult<bool> {
    let Some(served) = registry.stored_resource(GROUP, "ipaddresses") else { return Ok(false) };
    Ok(registry.entry(&served, "", &ip.to_string())?.is_none())
}

/// Whether this address can be had.
pub fn check_ip(registry: &Registry, ip: IpAddr) -> Taken<()> {
    if !ranges(registry)?.iter().any(|cidr| cidr.contains(ip)) {
        return Ok(Err(AllocationError::IpOutside(ip)));
    }
    Ok(if is_free(registry, ip)? { Ok(()) } else { Err(AllocationError::IpTaken) })
}

/// Any address of a family that can be had.
pub fn pick_ip(registry: &Registry, family: &str) -> Taken<IpAddr> {
    for cidr in ranges(registry)?.iter().filter(|cidr| cidr.family() == family) {
        if let Some(ip) = cidr.find_free(|ip| is_free(registry, ip))? {
            return Ok(Ok(ip));
        }
    }
    Ok(Err(AllocationError::Full))
}

/// The IPAddress object of a service's address.
fn object(ip: IpAddr, (namespace, name): (&str, &str), now: &str) -> Value {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    value!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": (ip.to_string()), "uid": (meta::new_uid()), "creationTimestamp": now,
            "labels": {FAMILY_LABEL: family, MANAGER_LABEL: MANAGER}
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}}
    })
}

/// Makes the address's object with the service.
pub fn rider_for(
    registry: &Registry,
    ip: IpAddr,
    service: (&str, &str),
    now: &str,
) -> ApiResult<Option<Rider>> {
    let Some(served) = registry.stored_resource(GROUP, "ipaddresses") else { return Ok(None) };
    let name = ip.to_string();
    Rider::put(registry, &served, ("", &name), &object(ip, service, now), Revision::ZERO).map(Some)
}

/// Deletes the address's object with the service, if it is the service's.
pub fn rider_to_release(registry: &Registry, ip: IpAddr, service: (&str, &str)) -> ApiResult<Option<Rider>> {
    let Some(served) = registry.stored_resource(GROUP, "ipaddresses") else { return Ok(None) };
    let Some(entry) = registry.entry(&served, "", &ip.to_string())? else { return Ok(None) };
    let address = crate::registry::stored::memo(&entry).decoded(&entry)?;
    Ok((parent(&address) == Some(service)).then(|| Rider::delete(&entry)))
}

/// Namespace and name of the service that an IPAddress object is for.
pub(super) fn parent(address: &Value) -> Option<(&str, &str)> {
    let reference = address.at("spec.parentRef")?;
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    (text("resource") == "services" && text("group").is_empty()).then(|| (text("namespace"), text("name")))
}
