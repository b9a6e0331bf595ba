//! Environment variables about services (`enableServiceLinks`; upstream `envvars.FromServices`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

const MASTER_NAMESPACE: &str = "default";
const MASTER_NAME: &str = "kubernetes";

/// The variables for a pod of `namespace`: those of all its services if `links`, and the API server's in any case.
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let of = |service: &Service| (service.metadata.namespace.clone(), service.metadata.name.clone());
    let is_master =
        |service: &Service| of(service) == (Some(MASTER_NAMESPACE.to_owned()), Some(MASTER_NAME.to_owned()));
    let here = |service: &Service| {
        let own_namespace = service.metadata.namespace.as_deref() == Some(namespace);
        // A service of the namespace takes the place of the API server's.
        own_namespace && (links || service.metadata.name.as_deref() == Some(MASTER_NAME))
    };
    for service in services.iter().filter(|s| is_master(s)).chain(services.iter().filter(|s| here(s))) {
        add(&mut variables, service);
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let name = variable_name(service.metadata.name.as_deref().unwrap_or_default());
    let mut set = |key: String, value: String| drop(variables.insert(key, value));
    set(format!("{name}_SERVICE_HOST"), ip.to_owned());
    set(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            set(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        set(prefix.clone(), url);
        set(format!("{prefix}_PROTO"), protocol.to_lowercase());
        set(format!("{prefix}_PORT"), port.port.to_string());
        set(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        let json = serde_json::json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"name": "web", "port": 80}, {"port": 53, "protocol": "UDP"}]},
        });
        Arc::new(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn names_and_scopes() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("ns", "my-db", "10.96.0.7"),
            service("ns", "headless", "None"),
            service("other", "far", "10.96.0.8"),
        ];
        let all = variables(&services, "ns", true);
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("MY_DB_SERVICE_HOST", "10.96.0.7"),
            ("MY_DB_SERVICE_PORT", "80"),
            ("MY_DB_SERVICE_PORT_WEB", "80"),
            ("MY_DB_PORT", "tcp://10.96.0.7:80"),
            ("MY_DB_PORT_53_UDP", "udp://10.96.0.7:53"),
            ("MY_DB_PORT_53_UDP_PROTO", "udp"),
            ("MY_DB_PORT_80_TCP_ADDR", "10.96.0.7"),
        ] {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!all.contains_key("FAR_SERVICE_HOST") && !all.contains_key("HEADLESS_SERVICE_HOST"));
        let unlinked = variables(&services, "ns", false);
        assert!(
            unlinked.contains_key("KUBERNETES_SERVICE_HOST") && !unlinked.contains_key("MY_DB_SERVICE_HOST")
        );
    }
}
