//! Which strategy a resource has.

use std::sync::Arc;

use schema::Resource;

use super::custom::Custom;
use super::daemon_sets::DaemonSets;
use super::definitions::Definitions;
use super::events::Events;
use super::jobs::Jobs;
use super::limit_ranges::LimitRanges;
use super::namespaces::Namespaces;
use super::pods::Pods;
use super::secrets::Secrets;
use super::services::Services;
use super::storage_drivers::StorageDrivers;
use super::traits::{
    Generation, StatusMetadata, Traits, any_name, dns_label, ip_address, long_name, path_segment,
};
use super::{Generic, SharedStrategy};

/// The strategy of a resource, built in or custom; `hub` is the same in the version that is stored.
pub fn strategy_for(resource: &Resource, hub: &Resource) -> SharedStrategy {
    let generic = Generic::of(hub);
    if (resource.group.as_str(), resource.plural.as_str()) == ("events.k8s.io", "events") {
        return Arc::new(Events::new(generic));
    }
    let resource = hub;
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.custom => Arc::new(generic),
        ("", "pods") => Arc::new(Pods(generic)),
        ("", "namespaces") => Arc::new(Namespaces(generic)),
        ("", "services") => Arc::new(Services(generic)),
        ("", "secrets") => Arc::new(Secrets(generic)),
        ("storage.k8s.io", "csidrivers") => Arc::new(StorageDrivers(generic)),
        ("", "limitranges") => Arc::new(LimitRanges(generic)),
        ("apps", "daemonsets") => Arc::new(DaemonSets(generic)),
        ("batch", "jobs") => Arc::new(Jobs(generic)),
        ("apiextensions.k8s.io", "customresourcedefinitions") => Arc::new(Definitions(generic)),
        _ => Arc::new(generic),
    }
}

/// The strategy of one version of a custom resource.
pub fn custom_strategy(resource: Arc<Resource>, facts: Arc<crate::crd::CustomFacts>) -> SharedStrategy {
    Arc::new(Custom::new(resource, facts))
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
    traits.kube_finalizers = !matches!(
        id,
        ("", "events")
            | ("admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io", _)
            | (
                "coordination.k8s.io"
                    | "node.k8s.io"
                    | "storagemigration.k8s.io"
                    | "internal.apiserver.k8s.io",
                _
            )
            | ("policy", "poddisruptionbudgets")
    );
    traits.metadata_twice = !matches!(id, ("", "events") | ("policy", "poddisruptionbudgets"));
    traits.name_rule = match id {
        ("", "namespaces" | "services") | ("apps", "statefulsets") => dns_label,
        ("networking.k8s.io", "ipaddresses") => ip_address,
        ("resource.k8s.io", "deviceclasses") => long_name,
        ("rbac.authorization.k8s.io", _)
        | ("certificates.k8s.io", "certificatesigningrequests")
        | ("policy", "poddisruptionbudgets")
        | ("", "events") => path_segment,
        ("apiregistration.k8s.io" | "apiextensions.k8s.io", _) => any_name,
        _ => traits.name_rule,
    };
    traits
}
