//! The built-in admission plugins, one file each, in the order in which upstream runs them.

mod default_class;
mod default_toleration_seconds;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes;

use std::sync::Arc;

use super::Admission;

/// Plugins of v1.36 that are on unless disabled, in order. Those of the names that are not made here are listed in
/// [`NOT_YET`].
const ON_BY_DEFAULT: [&str; 10] = [
    "NamespaceLifecycle",
    "ServiceAccount",
    "TaintNodesByCondition",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "RuntimeClass",
    "DefaultIngressClass",
    "NodeRestriction",
];

/// Upstream's plugins that this server does not have yet; enabling one by name is an error.
pub const NOT_YET: [&str; 10] = [
    "LimitRanger",
    "PodSecurity",
    "ResourceQuota",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "MutatingAdmissionPolicy",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
];

/// The plugins that are enabled, in order. `Err` names a plugin that there is not.
pub fn enabled(enable: &[String], disable: &[String]) -> Result<Vec<Arc<dyn Admission>>, String> {
    let all: Vec<Arc<dyn Admission>> = vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle),
        Arc::new(service_account::ServiceAccount),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(taint_nodes::TaintNodesByCondition),
        Arc::new(priority::Priority),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(default_class::DefaultClass::storage()),
        Arc::new(storage_protection::StorageObjectInUseProtection),
        Arc::new(runtime_class::RuntimeClass),
        Arc::new(default_class::DefaultClass::ingress()),
    ];
    for name in enable.iter().chain(disable) {
        let known = all.iter().any(|plugin| plugin.name() == name) || NOT_YET.contains(&name.as_str());
        if !known {
            return Err(format!("admission plugin {name:?} is unknown"));
        }
    }
    if let Some(name) = enable.iter().find(|name| NOT_YET.contains(&name.as_str())) {
        return Err(format!("admission plugin {name:?} is not implemented"));
    }
    let on = |plugin: &Arc<dyn Admission>| {
        let listed = |list: &[String]| list.iter().any(|name| name == plugin.name());
        !listed(disable) && (listed(enable) || ON_BY_DEFAULT.contains(&plugin.name()))
    };
    Ok(all.into_iter().filter(on).collect())
}
