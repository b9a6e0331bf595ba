//! Services.

mod addresses;
mod balancing;
mod change;

use schema::Value;

use self::addresses::{validate_cluster_ip_change, validate_cluster_ips, validate_family_change};
use self::balancing::{validate_balancing, validate_load_balancer, validate_source_ranges};
use self::change::{drop_type_fields, keep_allocated, link_cluster_ips};
use super::pod::handlers::validate_port_or_name;
use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{BadValue, Errors, FieldError};
use crate::meta::{IMMUTABLE, validate_labels};
use crate::names::{dns1123_label, dns1123_subdomain, port_number, qualified_name};
use crate::net::{ip, not_special};

pub use self::addresses::service_address_errors;

pub(super) const RULES: KindRules = KindRules {
    defaults,
    prepare_create: |service, _| link_cluster_ips(service, None),
    prepare_update: |new, old, write| {
        if write.subresource.is_empty() {
            drop_type_fields(new, old);
            keep_allocated(new, old);
            link_cluster_ips(new, Some(old));
        }
    },
    validate: |service, _, out| validate(service, out),
    validate_update,
    warnings: |new, _| warnings(new),
};

const CLIENT_IP_TIMEOUT_S: i64 = 10_800;
const MAX_CLIENT_IP_TIMEOUT_S: i64 = 86_400;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const FIXED: &str = "may not change once set";

fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("")
}

fn is_headless(service: &Value) -> bool {
    matches!(service["spec"]["clusterIPs"].items(), [only] if only.as_str() == Some("None"))
}

fn externally_accessible(service: &Value) -> bool {
    matches!(kind(service), "LoadBalancer" | "NodePort")
        || (kind(service) == "ClusterIP" && !service["spec"]["externalIPs"].is_zero())
}

fn needs_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && service["spec"]["externalTrafficPolicy"].as_str() == Some("Local")
}

/// Whether its ports have ports of the nodes.
fn has_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    }
}

fn defaults(service: &mut Value) {
    let accessible = externally_accessible(service);
    let kind = kind(service).to_owned();
    let Some(spec) = service.get_mut("spec") else { return };
    match spec["sessionAffinity"].as_str() {
        Some("None") => {
            spec.remove("sessionAffinityConfig");
        }
        Some("ClientIP") if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() => {
            spec.set("sessionAffinityConfig.clientIP.timeoutSeconds", CLIENT_IP_TIMEOUT_S);
        }
        _ => {}
    }
    if let Some(Value::List(ports)) = spec.get_mut("ports") {
        for port in ports.iter_mut().filter(|port| port["targetPort"].is_zero()) {
            let own = port["port"].clone();
            port.insert("targetPort", own);
        }
    }
    if accessible && spec["externalTrafficPolicy"].is_zero() {
        spec.insert("externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP")
        && spec["internalTrafficPolicy"].is_null()
    {
        spec.insert("internalTrafficPolicy", "Cluster");
    }
    if kind != "LoadBalancer" {
        return;
    }
    if spec["allocateLoadBalancerNodePorts"].is_null() {
        spec.insert("allocateLoadBalancerNodePorts", true);
    }
    if let Some(Value::List(ingress)) = service.at_mut("status.loadBalancer.ingress") {
        for entry in ingress.iter_mut().filter(|e| !e["ip"].is_zero() && e["ipMode"].is_null()) {
            entry.insert("ipMode", "VIP");
        }
    }
}

fn validate_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    if write.subresource == "status" {
        return validate_load_balancer(new, out);
    }
    validate_cluster_ip_change(new, old, out);
    validate_family_change(new, old, out);
    let spec = new.field("spec");
    if kind(old) == "LoadBalancer" && kind(new.value) == "LoadBalancer" {
        let class = spec.field("loadBalancerClass");
        if class.value != &old["spec"]["loadBalancerClass"] {
            class.invalid(out, FIXED);
        }
    }
    if needs_health_check(old) && needs_health_check(new.value) {
        let port = spec.field("healthCheckNodePort");
        if port.int() != old["spec"]["healthCheckNodePort"].as_int().unwrap_or(0) {
            port.forbidden(out, IMMUTABLE);
        }
    }
    validate(new, out);
}

fn validate(service: &Cursor<'_>, out: &mut Errors) {
    let spec = service.field("spec");
    let headless = is_headless(service.value);
    let kind = kind(service.value);
    let ports = spec.field("ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        ports.required(out, "");
    }
    let ips = spec.field("clusterIPs");
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            ips.index(0).invalid(out, format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => validate_external_name(&spec, out),
        _ => {}
    }
    validate_ports(&ports, out);
    let selector = spec.field("selector");
    out.extend(validate_labels(Some(selector.value), &selector.path));
    validate_affinity(&spec, out);
    if kind != "ExternalName" {
        validate_cluster_ips(&spec, headless, out);
    }
    for address in spec.field("externalIPs").items() {
        let messages = ip(address.text());
        match messages.is_empty() {
            true => not_special(&address, out),
            false => address.each(out, messages),
        }
    }
    spec.field("type").one_of(out, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    validate_port_uses(&ports, kind, out);
    validate_source_ranges(service, &spec, kind, out);
    validate_balancing(service, &spec, kind, out);
}

fn validate_external_name(spec: &Cursor<'_>, out: &mut Errors) {
    for name in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.field(name).is_empty() {
            spec.field(name).forbidden(out, "may not be set for ExternalName services");
        }
    }
    let name = spec.field("externalName");
    match name.text().strip_suffix('.').unwrap_or(name.text()) {
        "" => name.required(out, ""),
        text => dns1123_subdomain(text).into_iter().for_each(|m| name.invalid_as(out, text, m)),
    }
}

fn validate_ports(ports: &Cursor<'_>, out: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for (i, value) in ports.value.items().iter().enumerate() {
        let port = ports.index(i);
        let name = value["name"].as_str().unwrap_or("");
        if name.is_empty() {
            if ports.len() > 1 {
                port.field("name").required(out, "");
            }
        } else {
            port.field("name").check(out, dns1123_label);
            match names.contains(&name) {
                true => port.field("name").duplicate(out),
                false => names.push(name),
            }
        }
        let number = port.field("port");
        port_number(number.int()).into_iter().for_each(|m| number.invalid_as(out, number.int(), m));
        port.field("protocol").one_of(out, &PROTOCOLS);
        validate_port_or_name(&port.field("targetPort"), out);
        if port.has("appProtocol") {
            port.field("appProtocol").check(out, qualified_name);
        }
    }
}

/// No port twice, nor a port of the nodes.
fn validate_port_uses(ports: &Cursor<'_>, kind: &str, out: &mut Errors) {
    let (mut node_ports, mut own): (Vec<(&str, i64)>, Vec<(&str, i64)>) = (Vec::new(), Vec::new());
    for (i, value) in ports.value.items().iter().enumerate() {
        let port = ports.index(i);
        let protocol = value["protocol"].as_str().unwrap_or("");
        let node_port = port.field("nodePort");
        if node_port.int() != 0 {
            if kind == "ClusterIP" {
                node_port.forbidden(out, "may not be used when `type` is 'ClusterIP'");
            }
            let key = (protocol, node_port.int());
            if node_ports.contains(&key) {
                node_port.duplicate(out);
            }
            node_ports.push(key);
        }
        let key = (protocol, value["port"].as_int().unwrap_or(0));
        if own.contains(&key) {
            // Upstream shows a port made of the key alone.
            let shown = format!(
                r#"{{"Name":"","Protocol":{},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                crate::quote(key.0),
                key.1
            );
            out.push(FieldError::duplicate(&port.path, BadValue::raw(shown)));
        }
        own.push(key);
    }
}

fn validate_affinity(spec: &Cursor<'_>, out: &mut Errors) {
    spec.field("sessionAffinity").one_of(out, &["ClientIP", "None"]);
    let config = spec.field("sessionAffinityConfig");
    match spec.text_of("sessionAffinity") {
        "ClientIP" => {
            const WHEN: &str = "when session affinity type is ClientIP";
            let client = config.field("clientIP");
            let timeout = client.field("timeoutSeconds");
            if !config.is_set() {
                config.required(out, WHEN);
            } else if !client.is_set() {
                client.required(out, WHEN);
            } else if !timeout.is_set() {
                timeout.required(out, WHEN);
            } else if !(1..=MAX_CLIENT_IP_TIMEOUT_S).contains(&timeout.int()) {
                timeout
                    .invalid(out, format!("must be greater than 0 and less than {MAX_CLIENT_IP_TIMEOUT_S}"));
            }
        }
        "None" if config.is_set() => {
            config.forbidden(out, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// `GetWarningsForService`.
fn warnings(service: &Value) -> Vec<String> {
    const TOPOLOGY: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = &service["spec"];
    let (set, mut out) = (|name: &str| !spec[name].is_zero(), Vec::new());
    if service["metadata"]["annotations"].get(TOPOLOGY).is_some() {
        out.push(format!(
            "annotation {TOPOLOGY} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let sticky = spec["sessionAffinity"].as_str().is_some_and(|affinity| affinity != "None");
    if is_headless(service) {
        if set("loadBalancerIP") {
            out.push("spec.loadBalancerIP is ignored when clusterIP is \"None\"".to_owned());
        }
        if set("externalIPs") {
            out.push("spec.externalIPs is ignored when clusterIP is \"None\"".to_owned());
        }
        if sticky {
            out.push("spec.SessionAffinity is ignored when clusterIP is \"None\"".to_owned());
        }
    }
    if kind(service) == "ExternalName" && set("externalIPs") {
        out.push("spec.externalIPs is ignored when type is \"ExternalName\"".to_owned());
    }
    out
}
