//! The list of controllers: one line each.

use futures::future::BoxFuture;

use crate::context::Context;
use crate::{Error, Selection, SelectionError};

type Start = fn(Context) -> BoxFuture<'static, Result<(), Error>>;

/// A controller as it is known to flags, RBAC and users.
pub struct Registration {
    /// Its name in `--controllers`.
    pub name: &'static str,
    /// Its older name there, empty if it has none.
    pub alias: &'static str,
    /// Its service account in `kube-system`; empty if it works with the identity that watches for all.
    pub account: &'static str,
    /// The component in its events.
    pub event_source: &'static str,
    /// How many keys it reconciles at the same time, if not configured.
    pub workers: usize,
    /// Whether `*` includes it.
    pub on_by_default: bool,
    /// Starts it; returns when its workers run.
    pub(crate) start: Start,
}

macro_rules! controllers {
    ($($name:literal | $alias:literal, $account:literal, $source:literal, $workers:literal, $on:literal, $($path:ident)::+;)*) => {
        &[$(Registration {
            name: $name,
            alias: $alias,
            account: $account,
            event_source: $source,
            workers: $workers,
            on_by_default: $on,
            start: |context| Box::pin($($path)::+(context)),
        }),*]
    };
}

/// Name and older name, service account, event source, workers, on by default, module.
#[rustfmt::skip]
const ALL: &[Registration] = controllers![
    "deployment-controller" | "deployment", "deployment-controller", "deployment-controller", 5, true, crate::deployment::start;
    "replicaset-controller" | "replicaset", "replicaset-controller", "replicaset-controller", 5, true, crate::replicaset::start;
    "serviceaccount-controller" | "serviceaccount", "service-account-controller", "service-account-controller", 1, true, crate::service_account::start;
    "root-ca-certificate-publisher-controller" | "root-ca-cert-publisher", "root-ca-cert-publisher", "root-ca-cert-publisher", 1, true, crate::root_ca::start;
    "endpointslice-controller" | "endpointslice", "endpointslice-controller", "endpoint-slice-controller", 5, true, crate::endpointslice::start;
    "endpoints-controller" | "endpoint", "endpoint-controller", "endpoint-controller", 5, true, crate::endpoints::start;
    "namespace-controller" | "namespace", "namespace-controller", "namespace-controller", 10, true, crate::namespace::start;
    "garbage-collector-controller" | "garbagecollector", "generic-garbage-collector", "garbage-collector-controller", 20, true, crate::garbage::start;
    "node-lifecycle-controller" | "nodelifecycle", "node-controller", "node-controller", 8, true, crate::node_lifecycle::start;
    "taint-eviction-controller" | "", "node-controller", "taint-eviction-controller", 8, true, crate::taint_eviction::start;
    "pod-garbage-collector-controller" | "podgc", "pod-garbage-collector", "pod-garbage-collector", 1, true, crate::pod_gc::start;
    "job-controller" | "job", "job-controller", "job-controller", 5, true, crate::job::start;
    "ttl-after-finished-controller" | "ttl-after-finished", "ttl-after-finished-controller", "ttl-after-finished-controller", 5, true, crate::ttl_after_finished::start;
    "cronjob-controller" | "cronjob", "cronjob-controller", "cronjob-controller", 5, true, crate::cronjob::start;
    "statefulset-controller" | "statefulset", "statefulset-controller", "statefulset-controller", 5, true, crate::statefulset::start;
    "daemonset-controller" | "daemonset", "daemon-set-controller", "daemonset-controller", 2, true, crate::daemonset::start;
    "replicationcontroller-controller" | "replicationcontroller", "replication-controller", "replication-controller", 5, true, crate::replicaset::start_replication_controllers;
    "disruption-controller" | "disruption", "disruption-controller", "controllermanager", 5, true, crate::disruption::start;
    "endpointslice-mirroring-controller" | "endpointslicemirroring", "endpointslicemirroring-controller", "endpoint-slice-mirroring-controller", 5, true, crate::endpointslice_mirroring::start;
    "clusterrole-aggregation-controller" | "clusterrole-aggregation", "clusterrole-aggregation-controller", "clusterrole-aggregation-controller", 5, true, crate::clusterrole_aggregation::start;
    "ttl-controller" | "ttl", "ttl-controller", "ttl-controller", 5, true, crate::node_ttl::start;
    "node-ipam-controller" | "nodeipam", "node-controller", "cidrAllocator", 1, true, crate::node_ipam::start;
    "ephemeral-volume-controller" | "ephemeral-volume", "ephemeral-volume-controller", "ephemeral_volume", 5, true, crate::ephemeral_volume::start;
    "persistentvolumeclaim-protection-controller" | "pvc-protection", "pvc-protection-controller", "pvc-protection-controller", 1, true, crate::volume_protection::start_claims;
    "persistentvolume-protection-controller" | "pv-protection", "pv-protection-controller", "pv-protection-controller", 1, true, crate::volume_protection::start_volumes;
    "certificatesigningrequest-approving-controller" | "csrapproving", "certificate-controller", "certificate-controller", 5, true, crate::certificates::start_approving;
    "certificatesigningrequest-signing-controller" | "csrsigning", "certificate-controller", "certificate-controller", 5, true, crate::certificates::start_signing;
    "certificatesigningrequest-cleaner-controller" | "csrcleaner", "certificate-controller", "certificate-controller", 1, true, crate::certificates::start_cleaning;
    "bootstrap-signer-controller" | "bootstrapsigner", "bootstrap-signer", "bootstrap-signer", 1, false, crate::bootstrap::start_signing;
    "token-cleaner-controller" | "tokencleaner", "token-cleaner", "token-cleaner", 1, false, crate::bootstrap::start_cleaning;
    "serviceaccount-token-controller" | "serviceaccount-token", "", "tokens-controller", 5, true, crate::token_secrets::start;
    "resourcequota-controller" | "resourcequota", "resourcequota-controller", "resourcequota-controller", 5, true, crate::resource_quota::start;
    "service-cidr-controller" | "service-cidr", "service-cidrs-controller", "service-cidr-controller", 5, true, crate::service_cidrs::start;
    "persistentvolume-binder-controller" | "persistentvolume-binder", "persistent-volume-binder", "persistentvolume-controller", 1, true, crate::pv_binder::start;
    "horizontal-pod-autoscaler-controller" | "horizontalpodautoscaling", "horizontal-pod-autoscaler", "horizontal-pod-autoscaler", 5, true, crate::autoscaler::start;
];

/// All controllers there are.
pub fn registrations() -> &'static [Registration] {
    ALL
}

/// Those that `selection` selects.
pub(crate) fn select(selection: &Selection) -> Result<Vec<&'static Registration>, SelectionError> {
    for name in selection.names() {
        if !ALL.iter().any(|r| r.name == name || (!r.alias.is_empty() && r.alias == name)) {
            return Err(SelectionError(name.to_owned()));
        }
    }
    Ok(ALL.iter().filter(|r| selection.includes(&[r.name, r.alias], r.on_by_default)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_unknown_ones_refused() {
        let mut names: Vec<&str> =
            ALL.iter().flat_map(|r| [r.name, r.alias]).filter(|n| !n.is_empty()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(select(&Selection::parse("*,-nonsense")).err(), Some(SelectionError("nonsense".into())));
        assert!(select(&Selection::parse("*,-deployment")).unwrap().iter().all(|r| r.alias != "deployment"));
    }
}
