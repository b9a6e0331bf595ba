//! Which strategy a resource has.

use std::sync::Arc;

use schema::Resource;

use super::custom::Custom;
use super::daemon_sets::DaemonSets;
use super::definitions::Definitions;
use super::jobs::Jobs;
use super::limit_ranges::LimitRanges;
use super::namespaces::Namespaces;
use super::pods::Pods;
use super::services::Services;
use super::traits::{Generation, StatusMetadata, Traits, any_name, dns_label, dns1035_label, path_segment};
use super::{Generic, SharedStrategy};

/// The strategy of a resource, built in or custom.
pub fn strategy_for(resource: &Resource) -> SharedStrategy {
    let generic = Generic::of(resource);
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.custom => Arc::new(generic),
        ("", "pods") => Arc::new(Pods(generic)),
        ("", "namespaces") => Arc::new(Namespaces(generic)),
        ("", "services") => Arc::new(Services(generic)),
        ("", "limitranges") => Arc::new(LimitRanges(generic)),
        ("apps", "daemonsets") => Arc::new(DaemonSets(generic)),
        ("batch", "jobs") => Arc::new(Jobs(generic)),
        ("apiextensions.k8s.io", "customresourcedefinitions") => Arc::new(Definitions(generic)),
        _ => Arc::new(generic),
    }
}

/// The strategy of one version of a custom resource.
pub fn custom_strategy(resource: Arc<Resource>) -> SharedStrategy {
    Arc::new(Custom::new(resource))
}

/// Facts about a resource, from upstream's strategies.
pub(crate) fn traits_of(resource: &Resource) -> Traits {
    let mut traits = Traits { status: resource.subresource("status").is_some(), ..Traits::DEFAULT };
    if resource.custom {
        return Traits {
            allow_unconditional_update: false,
            generation: Generation::OnSpecChange,
            status_metadata: StatusMetadata::Kept,
            kube_finalizers: false,
            ..traits
        };
    }
    let id = (resource.group.as_str(), resource.plural.as_str());
    traits.generation = match id {
        ("admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io", _)
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "cronjobs" | "jobs")
        | ("networking.k8s.io", "ingresses" | "ingressclasses" | "networkpolicies")
        | ("policy", "poddisruptionbudgets")
        | ("resource.k8s.io", "deviceclasses" | "resourceslices")
        | ("scheduling.k8s.io", "priorityclasses")
        | ("apiextensions.k8s.io", "customresourcedefinitions")
        | ("", "pods" | "podtemplates" | "replicationcontrollers") => Generation::OnSpecChange,
        ("discovery.k8s.io", "endpointslices") => Generation::OnSpecOrLabelsChange,
        _ => Generation::None,
    };
    traits.allow_create_on_update = matches!(
        id,
        ("", "endpoints" | "events" | "limitranges" | "services")
            | ("coordination.k8s.io", "leases")
            | ("events.k8s.io", "events")
            | ("node.k8s.io", "runtimeclasses")
            | ("rbac.authorization.k8s.io", _)
    );
    traits.allow_unconditional_update = !matches!(
        id,
        ("apiextensions.k8s.io" | "apiregistration.k8s.io" | "coordination.k8s.io" | "node.k8s.io", _)
            | ("admissionregistration.k8s.io" | "policy", _)
            | ("storage.k8s.io", "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments")
    );
    traits.status_metadata = match id {
        ("", "pods") => StatusMetadata::OwnersKept,
        ("apps", "deployments") => StatusMetadata::LabelsKept,
        ("storage.k8s.io", "volumeattachments")
        | ("resource.k8s.io" | "flowcontrol.apiserver.k8s.io", _)
        | ("networking.k8s.io", "servicecidrs")
        | ("admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io", _) => {
            StatusMetadata::Kept
        }
        _ => StatusMetadata::Open,
    };
    traits.spec_fixed = id == ("certificates.k8s.io", "certificatesigningrequests");
    traits.returns_deleted = matches!(
        id,
        (
            "",
            "pods"
                | "podtemplates"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ) | (
            "storage.k8s.io",
            "csidrivers" | "csinodes" | "storageclasses" | "volumeattachments" | "volumeattributesclasses"
        ) | ("resource.k8s.io", _)
    );
    traits.orphans_by_default = matches!(id, ("", "replicationcontrollers") | ("batch", "jobs"));
    traits.ttl_s = matches!(id, ("" | "events.k8s.io", "events")).then_some(3600);
    traits.kube_finalizers = !matches!(id, ("" | "events.k8s.io", "events"));
    traits.name_rule = match id {
        ("", "namespaces") => dns_label,
        ("", "services") => dns1035_label,
        ("rbac.authorization.k8s.io", _)
        | ("networking.k8s.io", "ipaddresses")
        | ("" | "events.k8s.io", "events") => path_segment,
        ("apiregistration.k8s.io" | "apiextensions.k8s.io", _) => any_name,
        _ => traits.name_rule,
    };
    traits
}
