//! Services.

use std::net::IpAddr;

use schema::Value;

use super::pod::handlers::validate_port_or_name;
use super::{KindRules, Write};
use crate::field::{BadValue, Errors, FieldError};
use crate::meta::{IMMUTABLE, validate_labels};
use crate::names::{dns1123_label, dns1123_subdomain, port_number, qualified_name};
use crate::net::{cidr, ip, is_dual_stack, not_special};
use crate::{Cursor, Path};

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
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

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

/// Old clients know `clusterIP` alone: `clusterIPs` follows it (`NormalizeClusterIPs`). `old` is `None` on create.
pub fn link_cluster_ips(service: &mut Value, old: Option<&Value>) {
    let first = service["spec"]["clusterIP"].as_smol().cloned().unwrap_or_default();
    let Some(spec) = service.get_mut("spec") else { return };
    let Some(old) = old.map(|old| &old["spec"]) else {
        if !first.is_empty() && spec["clusterIPs"].is_zero() {
            spec.insert("clusterIPs", [first]);
        }
        return;
    };
    let before = old["clusterIP"].as_str().unwrap_or("");
    if !old["clusterIPs"].is_zero() && spec["clusterIPs"].is_zero() && before == first {
        spec.insert("clusterIPs", &old["clusterIPs"]);
    }
    if before != first && (old["clusterIPs"] == spec["clusterIPs"] || spec["clusterIPs"].is_zero()) {
        match first.is_empty() {
            true => spec.remove("clusterIPs"),
            false => spec.insert("clusterIPs", [first]),
        };
    }
}

/// Clients may leave out what was allocated to the service before (`patchAllocatedValues`).
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let has_ip = |service: &Value| kind(service) != "ExternalName";
    let has_ports = |service: &Value| match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    };
    let (ip, ports, check) = (
        has_ip(old) && has_ip(new),
        has_ports(old) && has_ports(new),
        needs_health_check(old) && needs_health_check(new),
    );
    let before = &old["spec"];
    let Some(spec) = new.get_mut("spec") else { return };
    if ip {
        if spec["clusterIP"].is_zero() && !before["clusterIP"].is_zero() {
            spec.insert("clusterIP", &before["clusterIP"]);
        }
        if spec["clusterIPs"].is_zero()
            && spec["clusterIP"] == before["clusterIP"]
            && !before["clusterIPs"].is_zero()
        {
            spec.insert("clusterIPs", &before["clusterIPs"]);
        }
    }
    if ports {
        keep_node_ports(spec, before);
    }
    if check && spec["healthCheckNodePort"].is_zero() {
        spec.insert("healthCheckNodePort", &before["healthCheckNodePort"]);
    }
}

fn keep_node_ports(spec: &mut Value, before: &Value) {
    let used_in = |spec: &Value| -> Vec<i64> {
        spec["ports"].items().iter().filter_map(|p| p["nodePort"].as_int()).filter(|p| *p != 0).collect()
    };
    let now = used_in(spec);
    let mut used: Vec<i64> = used_in(before).into_iter().filter(|port| now.contains(port)).collect();
    let Some(Value::List(ports)) = spec.get_mut("ports") else { return };
    for port in ports.iter_mut().filter(|port| port["nodePort"].is_zero()) {
        let name = port["name"].as_str().unwrap_or("");
        let same = before["ports"].items().iter().rfind(|p| p["name"].as_str().unwrap_or("") == name);
        if let Some(number) = same.and_then(|p| p["nodePort"].as_int())
            && number != 0
            && !used.contains(&number)
        {
            used.push(number);
            port.insert("nodePort", number);
        }
    }
}

/// Fields that a change of type makes void, if the client left them as they were (`dropTypeDependentFields`).
pub fn drop_type_fields(new: &mut Value, old: &Value) {
    let (now, was) = (kind(new).to_owned(), kind(old).to_owned());
    let same = |new: &Value, fields: &[&str]| fields.iter().all(|f| new["spec"][*f] == old["spec"][*f]);
    let with_ip = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    let with_ports = |service: &Value| match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    };
    let mut drop: Vec<&str> = Vec::new();
    if with_ip(&was) && !with_ip(&now) && same(new, &["clusterIP", "clusterIPs"]) {
        drop.extend(["clusterIP", "clusterIPs"]);
    }
    if with_ip(&was) && !with_ip(&now) {
        drop.extend(["ipFamilies", "ipFamilyPolicy"].into_iter().filter(|f| same(new, &[f])));
    }
    if needs_health_check(old) && !needs_health_check(new) && same(new, &["healthCheckNodePort"]) {
        drop.push("healthCheckNodePort");
    }
    if was == "LoadBalancer" && now != "LoadBalancer" {
        drop.extend(
            ["allocateLoadBalancerNodePorts", "loadBalancerClass"].into_iter().filter(|f| same(new, &[f])),
        );
    }
    if externally_accessible(old) && !externally_accessible(new) && same(new, &["externalTrafficPolicy"]) {
        drop.push("externalTrafficPolicy");
    }
    let drop_ports =
        with_ports(old) && !with_ports(new) && now != "LoadBalancer" && same_node_ports(new, old);
    let Some(spec) = new.get_mut("spec") else { return };
    drop.into_iter().for_each(|field| {
        spec.remove(field);
    });
    if drop_ports && let Some(Value::List(ports)) = spec.get_mut("ports") {
        ports.iter_mut().for_each(|port| {
            port.remove("nodePort");
        });
    }
}

fn same_node_ports(new: &Value, old: &Value) -> bool {
    let ports = |service: &Value| -> Vec<i64> {
        let mut ports: Vec<i64> =
            service["spec"]["ports"].items().iter().filter_map(|p| p["nodePort"].as_int()).collect();
        ports.sort_unstable();
        ports
    };
    ports(new) == ports(old)
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
            class.invalid(out, "may not change once set");
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
    validate_ports(&ports, headless, out);
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

fn validate_ports(ports: &Cursor<'_>, _headless: bool, out: &mut Errors) {
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

/// What is wrong with the addresses that a service asks for, told before any is given out.
pub fn service_address_errors(service: &Value) -> Errors {
    let mut out = Errors::new();
    if kind(service) != "ExternalName" {
        validate_cluster_ips(&Cursor::root(service).field("spec"), is_headless(service), &mut out);
    }
    out
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

/// `ValidateServiceClusterIPsRelatedFields`.
fn validate_cluster_ips(spec: &Cursor<'_>, headless: bool, out: &mut Errors) {
    let (first, ips) = (spec.text_of("clusterIP"), spec.field("clusterIPs"));
    let texts: Vec<&str> = ips.value.items().iter().filter_map(Value::as_str).collect();
    match (first.is_empty(), texts.first()) {
        (false, None) => ips.required(out, ""),
        (false, Some(listed)) if *listed != first => ips.invalid(out, "first value must match `clusterIP`"),
        (true, Some(_)) => ips.invalid(out, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let families = spec.field("ipFamilies");
    for (i, family) in families.items().enumerate() {
        family.among(out, &["IPv4", "IPv6"]);
        if families.value.items()[..i].contains(family.value) {
            family.duplicate(out);
        }
    }
    if spec.has("ipFamilyPolicy") {
        spec.field("ipFamilyPolicy").among(out, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let mut wrong = false;
    for (i, address) in ips.items().enumerate() {
        if i == 0 && address.text() == "None" {
            if texts.len() > 1 {
                wrong = true;
                ips.invalid(out, "'None' must be the first and only value");
            }
            continue;
        }
        let messages = ip(address.text());
        wrong |= !messages.is_empty();
        address.each(out, messages);
    }
    if texts.len() > 2 {
        ips.invalid(out, "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    if texts.len() > 1 && !is_dual_stack(&texts) {
        ips.invalid(out, "may specify no more than one IP for each IP family");
    }
    if headless {
        return;
    }
    for (i, (address, family)) in ips.items().zip(families.value.items()).enumerate() {
        let wanted = family.as_str().unwrap_or("");
        let is_v6 = address.text().parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        if (wanted == "IPv4" && is_v6) || (wanted == "IPv6" && !is_v6) {
            address.invalid(out, format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`"));
        }
    }
}

fn validate_source_ranges(service: &Cursor<'_>, spec: &Cursor<'_>, kind: &str, out: &mut Errors) {
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

fn validate_balancing(service: &Cursor<'_>, spec: &Cursor<'_>, kind: &str, out: &mut Errors) {
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

const FIXED: &str = "may not change once set";

fn validate_cluster_ip_change(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    if kind(new.value) == "ExternalName"
        || kind(old) == "ExternalName"
        || (is_headless(new.value) && is_headless(old))
    {
        return;
    }
    let spec = new.field("spec");
    let ips = spec.field("clusterIPs");
    let (now, was) = (ips.value.items(), old["spec"]["clusterIPs"].items());
    let at = |i: usize, message: &str, out: &mut Errors| {
        out.push(FieldError::invalid(&ips.path.index(i), ips.value, message));
    };
    if now.len() == was.len() {
        for i in (0..was.len()).filter(|i| was[*i] != now[*i]) {
            at(i, FIXED, out);
        }
        return;
    }
    if now.is_empty() {
        at(0, "primary clusterIP can not be unset", out);
    } else if !was.is_empty() && now[0] != was[0] {
        at(0, FIXED, out);
    }
    let policy = spec.field("ipFamilyPolicy");
    if was.len() > now.len() && now.len() == 1 && policy.text() != "SingleStack" {
        policy.invalid(out, "must be set to 'SingleStack' when releasing the secondary clusterIP");
    }
}

fn validate_family_change(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let headless = (is_headless(new.value), is_headless(old));
    if kind(new.value) == "ExternalName" || kind(old) == "ExternalName" || headless != (false, false) {
        return;
    }
    let spec = new.field("spec");
    let families = spec.field("ipFamilies");
    let (now, was) = (families.value.items(), old["spec"]["ipFamilies"].items());
    let first = |message: &str, out: &mut Errors| {
        out.push(FieldError::invalid(&families.path.index(0), families.value, message));
    };
    if now.len() == was.len() {
        was.iter().zip(now).filter(|(a, b)| a != b).for_each(|_| first(FIXED, out));
        return;
    }
    if was.len() > now.len() && spec.field("clusterIPs").is_empty() {
        first("primary ipFamily can not be unset", out);
    }
    if !now.is_empty() && !was.is_empty() && now[0] != was[0] {
        first(FIXED, out);
    }
    let policy = spec.field("ipFamilyPolicy");
    if was.len() > now.len() && now.len() == 1 && policy.text() != "SingleStack" {
        policy.invalid(out, "must be set to 'SingleStack' when releasing the secondary ipFamily");
    }
}

fn validate_load_balancer(service: &Cursor<'_>, out: &mut Errors) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn updates_keep_what_was_allocated() {
        let old = value!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]}});
        let mut new = value!({"spec": {"type": "NodePort", "ports": [
            {"name": "b", "port": 82}, {"name": "c", "port": 83, "nodePort": 30001}]}});
        keep_allocated(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"][0].as_str(), Some("10.0.0.1"));
        assert_eq!(new["spec"]["ports"][0]["nodePort"].as_int(), Some(30002));
        assert_eq!(new["spec"]["ports"][1]["nodePort"].as_int(), Some(30001));
    }

    #[test]
    fn a_change_of_type_drops_what_it_makes_void() {
        let old = value!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30001}]}});
        let mut new = old.clone();
        new.set("spec.type", "ClusterIP");
        drop_type_fields(&mut new, &old);
        assert!(new["spec"]["ports"][0]["nodePort"].is_null());
        assert!(new["spec"]["externalTrafficPolicy"].is_null());
        assert_eq!(new["spec"]["clusterIP"].as_str(), Some("10.0.0.1"));
    }
}
