//! The pods of a DaemonSet: one for a node, bound to it by affinity, tolerating what ails nodes.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    PodTemplateSpec, Toleration,
};

use crate::common::history::REVISION_LABEL;
use crate::common::owner::controller_reference;
use crate::common::pod_control::pod_of;
use crate::common::{node_affinity, pods, taints};

/// Generation of the template, on the set as annotation and on its pods as label.
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";
/// The field of a node that says its name.
const NAME_FIELD: &str = "metadata.name";

fn toleration(key: &str, effect: &str) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    }
}

/// What every daemon pod tolerates.
fn add_tolerations(spec: &mut PodSpec) {
    let mut wanted = vec![
        toleration(taints::NOT_READY, taints::NO_EXECUTE),
        toleration(taints::UNREACHABLE, taints::NO_EXECUTE),
        toleration(taints::DISK_PRESSURE, taints::NO_SCHEDULE),
        toleration(taints::MEMORY_PRESSURE, taints::NO_SCHEDULE),
        toleration(taints::PID_PRESSURE, taints::NO_SCHEDULE),
        toleration(taints::UNSCHEDULABLE, taints::NO_SCHEDULE),
    ];
    if spec.host_network == Some(true) {
        wanted.push(toleration(taints::NETWORK_UNAVAILABLE, taints::NO_SCHEDULE));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for toleration in wanted {
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// The set's template with what all its pods have.
pub fn template(set: &DaemonSet, hash: &str) -> PodTemplateSpec {
    let mut template = set.spec.clone().unwrap_or_default().template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation);
    }
    add_tolerations(template.spec.get_or_insert_default());
    template
}

fn generation(set: &DaemonSet) -> Option<String> {
    set.metadata.annotations.as_ref()?.get(GENERATION_ANNOTATION).cloned()
}

/// The pod for a node.
pub fn new_pod(set: &DaemonSet, template: &PodTemplateSpec, node: &str) -> Pod {
    let mut pod =
        pod_of(set.metadata.name.as_deref().unwrap_or_default(), controller_reference(set), template);
    let affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_with(Affinity::default);
    let field = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    // The terms of the template were met when the node was chosen.
    affinity
        .node_affinity
        .get_or_insert_with(NodeAffinity::default)
        .required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}

/// The node that a pod is, or is to be, bound to.
pub fn target_node(pod: &Pod) -> Option<&str> {
    pods::node_name(pod).or_else(|| {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms =
            &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        let mut fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
        fields
            .find(|f| f.key == NAME_FIELD && f.operator == "In")?
            .values
            .as_ref()?
            .first()
            .map(String::as_str)
    })
}

/// True if the pod is of the current template.
pub fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let label = |name: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(name));
    let of_generation = generation(set).is_some_and(|g| label(GENERATION_LABEL) == Some(&g));
    of_generation || (!hash.is_empty() && label(REVISION_LABEL).is_some_and(|h| h == hash))
}

/// Whether a pod is to be made on a node, and whether one that is there may stay.
pub fn should_run(spec: &PodSpec, node: &Node) -> (bool, bool) {
    let named = spec.node_name.as_deref().filter(|n| !n.is_empty());
    let is_here = named.is_none_or(|name| node.metadata.name.as_deref() == Some(name));
    if !is_here || !node_affinity::fits(spec, node) {
        return (false, false);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let ails = |effects: &[&str]| {
        let all = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        all.iter().any(|t| effects.contains(&t.effect.as_str()) && !taints::tolerated(tolerations, t))
    };
    (!ails(&[taints::NO_SCHEDULE, taints::NO_EXECUTE]), !ails(&[taints::NO_EXECUTE]))
}
