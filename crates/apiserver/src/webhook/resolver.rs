//! From a service to an address.

use std::sync::Arc;

use schema::Value;

use crate::registry::Registry;

/// Finds the address behind a service.
pub trait ServiceResolver: Send + Sync + 'static {
    /// Host and port to connect to. The error is what users are told.
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String>;
}

/// Resolves by the services and endpoints of this cluster, as upstream does with `--enable-aggregator-routing`: it
/// works where no service proxy runs.
pub struct ClusterServices(pub Arc<Registry>);

impl ServiceResolver for ClusterServices {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
        let service = self.0.find("", "services", namespace, name).map_err(|e| e.message)?;
        let service = service.ok_or_else(|| format!("service {} not found", rules::quote(name)))?;
        if service.str_at("spec.type") == Some("ExternalName") {
            return Ok((service.str_at("spec.externalName").unwrap_or_default().to_owned(), port));
        }
        let slices =
            self.0.find_all("discovery.k8s.io", "endpointslices", Some(namespace)).map_err(|e| e.message)?;
        let slices = slices
            .iter()
            .map(|slice| &**slice)
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str() == Some(name));
        let mut found = endpoints(&service, port, slices)?;
        if found.is_empty() {
            return Err(format!("no endpoints available for service {}", rules::quote(name)));
        }
        Ok(found.swap_remove(crate::service::random_below(found.len())))
    }
}

/// The ready endpoints of one port of a service.
fn endpoints<'a>(
    service: &Value,
    port: u16,
    slices: impl Iterator<Item = &'a Value>,
) -> Result<Vec<(String, u16)>, String> {
    let same_port = |p: &&Value| p.int_at("port") == Some(i64::from(port));
    let Some(wanted) = service.items_at("spec.ports").iter().find(same_port) else {
        let name = service.str_at("metadata.name").unwrap_or_default();
        return Err(format!("no service port {port} found for service {}", rules::quote(name)));
    };
    let wanted = wanted.str_at("name").unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices {
        let named = |p: &&Value| p.str_at("name").unwrap_or_default() == wanted;
        let number = slice.items_at("ports").iter().find(named).and_then(|p| p.int_at("port"));
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else { continue };
        for endpoint in slice.items_at("endpoints") {
            if endpoint.bool_at("conditions.ready") == Some(false) {
                continue;
            }
            let address = endpoint.items_at("addresses").first().and_then(Value::as_str);
            found.extend(address.map(|a| (a.to_owned(), number)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn ready_endpoints_of_the_port() {
        let service = value!({
            "metadata": {"name": "hook"},
            "spec": {"ports": [{"name": "a", "port": 443}, {"name": "b", "port": 444}]}
        });
        let slice = value!({
            "ports": [{"name": "b", "port": 8444}, {"name": "a", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}
            ]
        });
        let of = |port| endpoints(&service, port, std::iter::once(&slice));
        assert_eq!(of(443), Ok(vec![("10.0.0.1".to_owned(), 8443)]));
        assert_eq!(of(444), Ok(vec![("10.0.0.1".to_owned(), 8444)]));
        assert_eq!(of(80), Err("no service port 80 found for service \"hook\"".to_owned()));
    }
}
