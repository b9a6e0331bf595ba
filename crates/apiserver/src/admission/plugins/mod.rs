//! The built-in admission plugins, one file each, in the order in which upstream runs them.

mod certificates;
mod claim_resize;
mod config;
mod default_class;
mod default_toleration_seconds;
mod event_rate_limit;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_selector;
mod optional;
mod pod_amounts;
mod pod_security;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes;
mod toleration_restriction;
mod topology_labels;

use std::sync::Arc;

use schema::Value;

use self::certificates::{SignerPermission, SubjectRestriction};
use super::Admission;
use crate::authz::Authorizer;

pub use config::PluginConfig;

/// Plugins of v1.36 that are off unless enabled.
const OFF_BY_DEFAULT: [&str; 13] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
];

/// Upstream's plugins that this server does not have; enabling one by name is an error.
const MISSING: [&str; 2] = ["ImagePolicyWebhook", "NodeDeclaredFeatureValidator"];
/// Plugins that [`Making::dynamic`] brings.
const DYNAMIC: [&str; 4] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// What plugins are made with.
pub struct Making {
    /// Who says what users may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// What the configuration file says.
    pub config: PluginConfig,
    /// Webhooks and policies, which come after the plugins here and before quotas.
    pub dynamic: Vec<Arc<dyn Admission>>,
}

/// All plugins in upstream's order (`AllOrderedPlugins`).
fn all(making: Making) -> Vec<Arc<dyn Admission>> {
    let Making { authorizer, config, dynamic } = making;
    let mut all: Vec<Arc<dyn Admission>> = vec![
        Arc::new(optional::AlwaysAdmit),
        Arc::new(optional::NamespaceAutoProvision),
        Arc::new(namespace_lifecycle::NamespaceLifecycle),
        Arc::new(optional::NamespaceExists),
        Arc::new(optional::HardAntiAffinityTopology),
        Arc::new(limit_ranger::LimitRanger),
        Arc::new(service_account::ServiceAccount),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(taint_nodes::TaintNodesByCondition),
        Arc::new(optional::AlwaysPullImages),
        Arc::new(pod_security::PodSecurity::new(config.pod_security)),
        Arc::new(node_selector::PodNodeSelector(config.node_selector)),
        Arc::new(priority::Priority),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(toleration_restriction::PodTolerationRestriction(config.toleration_restriction)),
        Arc::new(event_rate_limit::EventRateLimit::new(config.event_rate_limit.unwrap_or_default())),
        Arc::new(optional::ExtendedResourceToleration),
        Arc::new(default_class::DefaultClass::storage()),
        Arc::new(storage_protection::StorageObjectInUseProtection),
        Arc::new(optional::OwnerReferences(authorizer.clone())),
        Arc::new(claim_resize::ClaimResize),
        Arc::new(runtime_class::RuntimeClass),
        Arc::new(SignerPermission::approval(authorizer.clone())),
        Arc::new(SignerPermission::signing(authorizer.clone())),
        Arc::new(SignerPermission::attest(authorizer)),
        Arc::new(SubjectRestriction),
        Arc::new(default_class::DefaultClass::ingress()),
        Arc::new(optional::DenyServiceExternalIps),
        Arc::new(topology_labels::PodTopologyLabels),
    ];
    all.extend(dynamic);
    all.push(Arc::new(resource_quota::ResourceQuota::default()));
    all.push(Arc::new(optional::AlwaysDeny));
    all
}

/// The plugins that are enabled, in order. `Err` names a plugin that there is not.
pub fn enabled(
    enable: &[String],
    disable: &[String],
    making: Making,
) -> Result<Vec<Arc<dyn Admission>>, String> {
    let configured = making.config.event_rate_limit.is_some();
    let all = all(making);
    for name in enable.iter().chain(disable) {
        if all.iter().any(|plugin| plugin.name() == name) {
            continue;
        }
        if !MISSING.iter().chain(&DYNAMIC).any(|missing| missing == name) {
            return Err(format!("admission plugin {name:?} is unknown"));
        }
        if enable.contains(name) {
            return Err(format!("admission plugin {name:?} is not implemented"));
        }
    }
    if let Some(name) = enable.iter().find(|name| disable.contains(name)) {
        return Err(format!("{name} in enable-admission-plugins and disable-admission-plugins overlapped"));
    }
    if enable.iter().any(|name| name == "EventRateLimit") && !configured {
        return Err("EventRateLimit needs limits in the file of --admission-control-config-file".to_owned());
    }
    let on = |plugin: &Arc<dyn Admission>| {
        let listed = |list: &[String]| list.iter().any(|name| name == plugin.name());
        !listed(disable) && (listed(enable) || !OFF_BY_DEFAULT.contains(&plugin.name()))
    };
    Ok(all.into_iter().filter(on).collect())
}

/// No container asks for processor time or memory.
fn is_best_effort(pod: &Value) -> bool {
    ["requests", "limits"].iter().all(|field| {
        let amounts = pod_amounts::of_pod(pod, field);
        ["cpu", "memory"].iter().all(|name| amounts.get(*name).is_none_or(base::Quantity::is_zero))
    })
}
