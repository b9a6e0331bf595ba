//! Traffic policies of services, and what they ask of load balancers.

use super::{externally_accessible, kind, needs_health_check};
use crate::field::Errors;
use crate::names::{dns1123_subdomain, port_number, qualified_name};
use crate::net::{cidr, ip};
use crate::{Cursor, Path};

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn validate_source_ranges(service: &Cursor<'_>, spec: &Cursor<'_>, kind: &str, out: &mut Errors) {
    let ranges = spec.field("loadBalancerSourceRanges");
    let metadata = service.field("metadata");
    let annotations = metadata.field("annotations");
    if !ranges.is_empty() {
        let shown = ranges.at(spec.path.child("LoadBalancerSourceRanges"));
        if kind != "LoadBalancer" {
            shown.forbidden(out, ONLY_LOAD_BALANCER);
        }
        for range in shown.items() {
            let text = range.text().trim();
            cidr(text).into_iter().for_each(|m| range.invalid_as(out, text, m));
        }
    } else if annotations.has(SOURCE_RANGES) {
        let annotation = annotations.key(SOURCE_RANGES);
        if kind != "LoadBalancer" {
            annotation.forbidden(out, ONLY_LOAD_BALANCER);
        }
        for text in
            annotation.text().split(',').map(str::trim).filter(|_| !annotation.text().trim().is_empty())
        {
            cidr(text).into_iter().for_each(|m| annotation.invalid_as(out, text, m));
        }
    }
}

pub(super) fn validate_balancing(service: &Cursor<'_>, spec: &Cursor<'_>, kind: &str, out: &mut Errors) {
    let balancer = kind == "LoadBalancer";
    let allocate = spec.field("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balancer {
        allocate.forbidden(out, ONLY_LOAD_BALANCER);
    }
    let class = spec.field("loadBalancerClass");
    if class.is_set() {
        match balancer {
            true => class.check(out, qualified_name),
            false => class.forbidden(out, ONLY_LOAD_BALANCER),
        }
    }
    let external = spec.field("externalTrafficPolicy");
    if externally_accessible(service.value) {
        external.one_of(out, &["Cluster", "Local"]);
    } else if !external.text().is_empty() {
        external.invalid(out, "may only be set for externally-accessible services");
    }
    let check = spec.field("healthCheckNodePort");
    match (needs_health_check(service.value), check.int()) {
        (false, 0) => {}
        (false, _) => check.invalid(
            out,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (true, 0) => check.required(out, ""),
        (true, port) => check.each(out, port_number(port)),
    }
    let internal = spec.field("internalTrafficPolicy");
    if internal.is_set() {
        internal.among(out, &["Cluster", "Local"]);
    } else if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        internal.required(out, "");
    }
    if spec.has("trafficDistribution") {
        spec.field("trafficDistribution").among(out, &["PreferClose", "PreferSameZone", "PreferSameNode"]);
    }
}

pub(super) fn validate_load_balancer(service: &Cursor<'_>, out: &mut Errors) {
    let path = Path::new("status.loadBalancer.ingress");
    let ingress = Cursor::new(&service.value["status"]["loadBalancer"]["ingress"], path);
    if kind(service.value) != "LoadBalancer" && !ingress.is_empty() {
        return ingress.forbidden(out, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for entry in ingress.items() {
        let (address, mode, host) = (entry.field("ip"), entry.field("ipMode"), entry.field("hostname"));
        if !address.text().is_empty() {
            address.check(out, ip);
        }
        match (mode.is_set(), address.text().is_empty()) {
            (false, false) => mode.required(out, "must be specified when `ip` is set"),
            (true, true) => mode.forbidden(out, "may not be specified when `ip` is not set"),
            (true, false) => mode.among(out, &["Proxy", "VIP"]),
            (false, true) => {}
        }
        if !host.text().is_empty() {
            host.check(out, dns1123_subdomain);
            if ip(host.text()).is_empty() {
                host.invalid(out, "must be a DNS name, not an IP address");
            }
        }
    }
}
