//! Affinity terms, made ready to be compared.

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::super::labels::selects;
use crate::lister::Lister;
use crate::pod_info::PodInfo;

/// Affinity or anti-affinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Affinity.
    Near,
    /// Anti-affinity.
    Away,
}

/// A term with the namespace that it holds for when it names none.
#[derive(Debug, Clone)]
pub struct Term {
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
    selector: Option<LabelSelector>,
    /// The label of nodes that makes a domain.
    pub topology_key: String,
}

impl Term {
    fn new(owner: &PodInfo, term: &PodAffinityTerm) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(owner.namespace().to_owned());
        }
        Self {
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
            selector: term.label_selector.clone(),
            topology_key: term.topology_key.clone(),
        }
    }

    /// True if the term is about `pod`.
    pub fn matches(&self, pod: &PodInfo, lister: &dyn Lister) -> bool {
        selects(self.selector.as_ref(), pod.pod.metadata.labels.as_ref())
            && self.holds_in(pod.namespace(), lister)
    }

    fn holds_in(&self, namespace: &str, lister: &dyn Lister) -> bool {
        if self.namespaces.iter().any(|name| name == namespace) {
            return true;
        }
        self.namespace_selector.as_ref().is_some_and(|selector| {
            let labels = lister.namespace_labels(namespace).unwrap_or_default();
            selects(Some(selector), Some(&labels))
        })
    }
}

/// The terms that must hold for `pod`.
pub fn required(pod: &PodInfo, direction: Direction) -> Vec<Term> {
    let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref());
    let terms = match direction {
        Direction::Near => affinity
            .and_then(|a| a.pod_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
        Direction::Away => affinity
            .and_then(|a| a.pod_anti_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
    };
    terms.into_iter().flatten().map(|term| Term::new(pod, term)).collect()
}

/// The terms that `pod` would like to hold, with their weights: negative ones for what it would like to be away from.
pub fn preferred(pod: &PodInfo) -> Vec<(Term, i64)> {
    let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref());
    let near = affinity
        .and_then(|a| a.pod_affinity.as_ref())
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let away = affinity
        .and_then(|a| a.pod_anti_affinity.as_ref())
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let weighted = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<(Term, i64)> {
        let terms = terms.into_iter().flatten();
        terms.map(|w| (Term::new(pod, &w.pod_affinity_term), sign * i64::from(w.weight))).collect()
    };
    [weighted(near, 1), weighted(away, -1)].concat()
}
