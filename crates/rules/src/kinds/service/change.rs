//! Changes of services: what clients may leave out stays, and what a new type makes void goes.

use schema::Value;

use super::{externally_accessible, has_node_ports, kind, needs_health_check};

/// Old clients know `clusterIP` alone: `clusterIPs` follows it (`NormalizeClusterIPs`). `old` is `None` on create.
pub(super) fn link_cluster_ips(service: &mut Value, old: Option<&Value>) {
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
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    let has_ip = |service: &Value| kind(service) != "ExternalName";
    let (ip, ports, check) = (
        has_ip(old) && has_ip(new),
        has_node_ports(old) && has_node_ports(new),
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
pub(super) fn drop_type_fields(new: &mut Value, old: &Value) {
    let (now, was) = (kind(new).to_owned(), kind(old).to_owned());
    let same = |new: &Value, fields: &[&str]| fields.iter().all(|f| new["spec"][*f] == old["spec"][*f]);
    let with_ip = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
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
        has_node_ports(old) && !has_node_ports(new) && now != "LoadBalancer" && same_node_ports(new, old);
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
