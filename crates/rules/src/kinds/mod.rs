//! The rules of built-in kinds: defaults that depend on other fields, what a new object may hold, what an update may
//! change (`pkg/apis/*/validation`, `pkg/registry/*/strategy.go`).
//!
//! Objects are in their storage version, decoded by their schema: fields that Go always writes are there. `metadata`
//! is checked elsewhere ([`crate::meta`]).

mod admission_policy;
mod api_service;
mod autoscaling;
mod certificates;
mod claim;
mod config;
mod crd;
mod device;
mod endpoints;
mod event;
mod flow_control;
mod ingress;
mod lease;
mod network_policy;
mod node;
mod pod;
mod quota;
mod rbac;
mod scheduling;
mod service;
mod storage;
mod volume;
mod webhook;
mod workload;

pub(crate) use crd::normalized_path as crd_path;
pub use pod::qos_class;
pub use service::service_address_errors;
pub use workload::take_template_labels;

use schema::Value;

use crate::Cursor;
use crate::field::Errors;

/// The write that rules are asked about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Write<'a> {
    /// Empty for the object itself, else `status`, `scale`, `resize`, ...
    pub subresource: &'a str,
    /// Who writes.
    pub user: &'a str,
    /// Their uid.
    pub uid: &'a str,
    /// Their groups.
    pub groups: &'a [String],
    /// Now, RFC 3339 with whole seconds.
    pub now: &'a str,
}

/// A check of a new object.
pub type Validate = fn(&Cursor<'_>, &Write<'_>, &mut Errors);
/// A check of a changed object against what it was.
pub type ValidateUpdate = fn(&Cursor<'_>, &Value, &Write<'_>, &mut Errors);

/// The rules of one kind.
#[derive(Debug, Clone, Copy)]
pub struct KindRules {
    /// Defaults after those of the schema.
    pub defaults: fn(&mut Value),
    /// Clears what a client may not set on a new object, sets what it may leave out. After the registry has dropped
    /// the status.
    pub prepare_create: fn(&mut Value, &Write<'_>),
    /// Puts back what an update may not change. The registry keeps status and spec apart before.
    pub prepare_update: fn(&mut Value, &Value, &Write<'_>),
    /// What is wrong with a new object.
    pub validate: Validate,
    /// What is wrong with a change of the object or of a subresource.
    pub validate_update: ValidateUpdate,
    /// Words about a new or changed object that is right all the same; the second is what it was.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
}

impl KindRules {
    /// No rules beyond the schema.
    pub const NONE: Self = Self {
        defaults: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        validate: |_, _, _| {},
        validate_update: |_, _, _, _| {},
        warnings: |_, _| Vec::new(),
    };
}

/// The rules of a built-in resource, by its group and plural name.
pub fn rules_of(group: &str, plural: &str) -> KindRules {
    match (group, plural) {
        ("", "pods") => pod::RULES,
        ("", "podtemplates") => pod::template::RULES,
        ("", "services") => service::RULES,
        ("", "endpoints") => endpoints::ENDPOINTS,
        ("", "nodes") => node::NODES,
        ("", "namespaces") => node::NAMESPACES,
        ("", "configmaps") => config::CONFIG_MAPS,
        ("", "secrets") => config::SECRETS,
        ("", "resourcequotas") => quota::QUOTAS,
        ("", "limitranges") => quota::LIMIT_RANGES,
        ("", "persistentvolumes") => volume::RULES,
        ("", "persistentvolumeclaims") => claim::RULES,
        ("", "replicationcontrollers") => workload::CONTROLLERS,
        ("apps", "deployments") => workload::DEPLOYMENTS,
        ("apps", "replicasets") => workload::REPLICA_SETS,
        ("apps", "controllerrevisions") => workload::REVISIONS,
        ("apps", "daemonsets") => workload::DAEMON_SETS,
        ("apps", "statefulsets") => workload::STATEFUL_SETS,
        ("batch", "jobs") => workload::JOBS,
        ("batch", "cronjobs") => workload::CRON_JOBS,
        ("discovery.k8s.io", "endpointslices") => endpoints::SLICES,
        ("", "events") => event::RULES,
        ("coordination.k8s.io", "leases") => lease::LEASES,
        ("coordination.k8s.io", "leasecandidates") => lease::CANDIDATES,
        ("networking.k8s.io", "ingresses") => ingress::INGRESSES,
        ("networking.k8s.io", "ingressclasses") => ingress::CLASSES,
        ("networking.k8s.io", "networkpolicies") => network_policy::POLICIES,
        ("networking.k8s.io", "ipaddresses") => network_policy::ADDRESSES,
        ("networking.k8s.io", "servicecidrs") => network_policy::RANGES,
        ("node.k8s.io", "runtimeclasses") => scheduling::RUNTIME_CLASSES,
        ("policy", "poddisruptionbudgets") => scheduling::DISRUPTION_BUDGETS,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => rbac::CLUSTER_ROLE_BINDINGS,
        ("rbac.authorization.k8s.io", "clusterroles") => rbac::CLUSTER_ROLES,
        ("rbac.authorization.k8s.io", "rolebindings") => rbac::ROLE_BINDINGS,
        ("rbac.authorization.k8s.io", "roles") => rbac::ROLES,
        ("scheduling.k8s.io", "priorityclasses") => scheduling::PRIORITY_CLASSES,
        ("storage.k8s.io", "csidrivers") => storage::DRIVERS,
        ("storage.k8s.io", "csinodes") => storage::NODES,
        ("storage.k8s.io", "csistoragecapacities") => storage::CAPACITIES,
        ("storage.k8s.io", "storageclasses") => storage::CLASSES,
        ("storage.k8s.io", "volumeattachments") => storage::ATTACHMENTS,
        ("storage.k8s.io", "volumeattributesclasses") => storage::ATTRIBUTES_CLASSES,
        ("apiextensions.k8s.io", "customresourcedefinitions") => crd::RULES,
        ("apiregistration.k8s.io", "apiservices") => api_service::RULES,
        ("autoscaling", "horizontalpodautoscalers") => autoscaling::RULES,
        ("certificates.k8s.io", "certificatesigningrequests") => certificates::REQUESTS,
        ("certificates.k8s.io", "clustertrustbundles") => certificates::BUNDLES,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow_control::SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => flow_control::LEVELS,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => admission_policy::MUTATING,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => {
            admission_policy::MUTATING_BINDINGS
        }
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => webhook::CONFIGURATIONS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => admission_policy::VALIDATING,
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            admission_policy::VALIDATING_BINDINGS
        }
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => webhook::CONFIGURATIONS,
        ("resource.k8s.io", "deviceclasses") => device::CLASSES,
        ("resource.k8s.io", "resourceclaims") => device::CLAIMS,
        ("resource.k8s.io", "resourceclaimtemplates") => device::TEMPLATES,
        ("resource.k8s.io", "resourceslices") => device::SLICES,
        _ => KindRules::NONE,
    }
}
