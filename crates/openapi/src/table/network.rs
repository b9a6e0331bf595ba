//! The cells of services, endpoints and what stands before them.

use std::collections::BTreeSet;

use schema::Value;

use super::Seconds;
use super::format::{age, int, joined, labels, list_with_more, selector, text};

/// Endpoints, ports and hosts are listed up to this many.
const SHOWN: usize = 3;

pub(super) fn service(object: &Value, now: Seconds) -> Vec<Value> {
    let first_ip = object.items_at("spec.clusterIPs").first().cloned();
    let ports: Vec<String> = object.items_at("spec.ports").iter().map(port).collect();
    vec![
        text(object, "spec.type", ""),
        first_ip.unwrap_or_else(|| text(object, "spec.clusterIP", "<none>")),
        Value::from(external_ip(object)),
        Value::from(if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }),
        age(object, now),
        labels(object.map_at("spec.selector")),
    ]
}

fn port(port: &Value) -> String {
    let protocol = port.str_at("protocol").unwrap_or_default();
    match int(port, "nodePort") {
        0 => format!("{}/{protocol}", int(port, "port")),
        node => format!("{}:{node}/{protocol}", int(port, "port")),
    }
}

fn external_ip(object: &Value) -> String {
    let stated: Vec<&str> = object.items_at("spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match object.str_at("spec.type") {
        Some("ClusterIP" | "NodePort") if stated.is_empty() => "<none>".to_owned(),
        Some("ClusterIP" | "NodePort") => stated.join(","),
        Some("LoadBalancer") => {
            let balanced = load_balancer(object);
            match (stated.is_empty(), balanced.is_empty()) {
                (true, true) => "<pending>".to_owned(),
                (true, false) => balanced,
                (false, true) => stated.join(","),
                (false, false) => format!("{},{balanced}", stated.join(",")),
            }
        }
        Some("ExternalName") => object.str_at("spec.externalName").unwrap_or_default().to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses and names of a load balancer, sorted.
fn load_balancer(object: &Value) -> String {
    let ingress = object.items_at("status.loadBalancer.ingress").iter();
    let names: BTreeSet<&str> = ingress
        .filter_map(|i| ["ip", "hostname"].iter().find_map(|f| i.str_at(f).filter(|t| !t.is_empty())))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn endpoints(object: &Value, now: Seconds) -> Vec<Value> {
    let mut list = Vec::new();
    for subset in object.items_at("subsets") {
        let addresses = subset.items_at("addresses").iter().filter_map(|a| a.str_at("ip"));
        let ports = subset.items_at("ports");
        if ports.is_empty() {
            list.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            list.extend(addresses.clone().map(|ip| host_port(ip, int(port, "port"))));
        }
    }
    vec![list_with_more(&list, SHOWN, ",", "<none>"), age(object, now)]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub(super) fn endpoint_slice(object: &Value, now: Seconds) -> Vec<Value> {
    let ports: Vec<String> = object
        .items_at("ports")
        .iter()
        .map(|p| match (p.int_at("port"), p.str_at("name")) {
            (Some(port), _) => port.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = object
        .items_at("endpoints")
        .iter()
        .flat_map(|e| e.items_at("addresses"))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    vec![
        text(object, "addressType", ""),
        list_with_more(&ports, SHOWN, ",", "<unset>"),
        list_with_more(&addresses, SHOWN, ",", "<unset>"),
        age(object, now),
    ]
}

pub(super) fn ingress(object: &Value, now: Seconds) -> Vec<Value> {
    let rules = object.items_at("spec.rules").iter();
    let hosts: Vec<String> =
        rules.filter_map(|r| r.str_at("host")).filter(|h| !h.is_empty()).map(str::to_owned).collect();
    let ports = if object.items_at("spec.tls").is_empty() { "80" } else { "80, 443" };
    vec![
        text(object, "spec.ingressClassName", "<none>"),
        list_with_more(&hosts, SHOWN, ",", "*"),
        load_balancer(object).into(),
        ports.into(),
        age(object, now),
    ]
}

pub(super) fn ingress_class(object: &Value, now: Seconds) -> Vec<Value> {
    let parameters = object.at("spec.parameters").map(|parameters| {
        let kind = parameters.str_at("kind").unwrap_or_default();
        let name = parameters.str_at("name").unwrap_or_default();
        match parameters.str_at("apiGroup") {
            Some(group) => format!("{kind}.{group}/{name}"),
            None => format!("{kind}/{name}"),
        }
    });
    vec![
        text(object, "spec.controller", ""),
        parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
        age(object, now),
    ]
}

pub(super) fn network_policy(object: &Value, now: Seconds) -> Vec<Value> {
    vec![selector(object.at("spec.podSelector")), age(object, now)]
}

pub(super) fn service_cidr(object: &Value, now: Seconds) -> Vec<Value> {
    vec![joined(object.items_at("spec.cidrs"), ""), age(object, now)]
}

/// Upstream gives an age, too, for which it has no column.
pub(super) fn ip_address(object: &Value, now: Seconds) -> Vec<Value> {
    let part = |name: &str| object.str_at(&format!("spec.parentRef.{name}")).filter(|t| !t.is_empty());
    let resource = part("resource").unwrap_or_default();
    let resource = part("group").map_or_else(|| resource.to_owned(), |group| format!("{resource}.{group}"));
    let parts = [Some(resource.as_str()), part("namespace"), part("name")];
    let parent = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
    vec![parent.into(), age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn services() {
        let balanced = value!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"], "ports": [
            {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "b"}, {"ip": "a"}]}}});
        let cells = service(&balanced, 0);
        assert_eq!(
            cells[1..4],
            [Value::str("10.96.0.7"), Value::str("a,b"), Value::str("80:30080/TCP,53/UDP")]
        );
        let external = value!({"spec": {"type": "ExternalName", "externalName": "x.y"}});
        assert_eq!(
            service(&external, 0)[1..4],
            [Value::str("<none>"), Value::str("x.y"), Value::str("<none>")]
        );
    }

    #[test]
    fn endpoints_show_three() {
        let object = value!({"subsets": [{"addresses": [{"ip": "1"}, {"ip": "2"}], "ports": [{"port": 1}, {"port": 2}]}]});
        assert_eq!(endpoints(&object, 0)[0], Value::str("1:1,2:1,1:2 + 1 more..."));
    }
}
