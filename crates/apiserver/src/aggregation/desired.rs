//! What API services there should be, and what their status should say.

use schema::{Value, value};

use crate::registry::{ResourceTable, meta};

/// The label by which the objects that are kept here are known.
pub const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Order of the built-in groups and versions (`apiVersionPriorities`).
const PRIORITIES: [(&str, &str, i64, i64); 23] = [
    ("", "v1", 18000, 1),
    ("apiregistration.k8s.io", "v1", 20000, 18),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("internal.apiserver.k8s.io", "v1alpha1", 16000, 9),
];
/// Those of custom resources.
const CUSTOM_PRIORITY: (i64, i64) = (1000, 100);

/// The API services of all groups and versions that this process serves.
pub fn local(table: &ResourceTable) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for served in table.all() {
        let (group, version) = (served.resource.group.as_str(), served.resource.version.as_str());
        // The aggregator's own group is served without being listed.
        if group == "apiregistration.k8s.io" {
            continue;
        }
        let name = format!("{version}.{group}");
        if all.iter().any(|a| meta::name(a) == name) {
            continue;
        }
        let known = PRIORITIES.iter().find(|p| p.0 == group && p.1 == version).map(|p| (p.2, p.3));
        let (mode, priority) = match served.resource.custom {
            true => ("true", CUSTOM_PRIORITY),
            false => ("onstart", known.unwrap_or(CUSTOM_PRIORITY)),
        };
        let mut spec = value!({"version": version, "groupPriorityMinimum": (priority.0), "versionPriority": (priority.1)});
        if !group.is_empty() {
            spec.insert("group", group);
        }
        all.push(value!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "labels": {(AUTOMANAGED): mode}}, "spec": (spec)
        }));
    }
    all
}

/// Whether a service behind an API service is there and has endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// There is no such service.
    Missing,
    /// It has none.
    NoEndpoints,
    /// It has some, or is a name outside of the cluster.
    Present,
    /// It does not have the port that the API service names.
    NoPort,
}

/// The order of a group among all that are served here.
pub fn group_priority(group: &str) -> i64 {
    let known = PRIORITIES.iter().filter(|p| p.0 == group).map(|p| p.2).max();
    known.unwrap_or(CUSTOM_PRIORITY.0)
}

/// The condition `Available`: status, reason, message. `Unknown` while only asking the server can tell.
pub fn availability(service: &Value, backend: Backend) -> (&'static str, &'static str, String) {
    if service["spec"]["service"].is_null() {
        return ("True", "Local", "Local APIServices are always available".to_owned());
    }
    let text = |at: &str| service.str_at(at).unwrap_or_default();
    let (namespace, name) = (text("spec.service.namespace"), text("spec.service.name"));
    match backend {
        Backend::Missing => {
            let words = format!("service/{name} in {} is not present", rules::quote(namespace));
            ("False", "ServiceNotFound", words)
        }
        Backend::NoPort => {
            let port = service.int_at("spec.service.port").unwrap_or(443);
            let words =
                format!("service/{name} in {} is not listening on port {port}", rules::quote(namespace));
            ("False", "ServicePortError", words)
        }
        Backend::NoEndpoints => {
            let words =
                format!("endpoints for service/{name} in {} have no addresses", rules::quote(namespace));
            ("False", "MissingEndpoints", words)
        }
        Backend::Present => ("Unknown", "", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::Catalog;

    #[test]
    fn every_builtin_version_has_one() {
        let all = local(&ResourceTable::builtin(Catalog::builtin()));
        let names: Vec<&str> = all.iter().map(meta::name).collect();
        assert!(names.contains(&"v1.") && names.contains(&"v2.autoscaling") && names.contains(&"v1.apps"));
        assert!(!names.contains(&"v1.apiregistration.k8s.io"));
    }
}
