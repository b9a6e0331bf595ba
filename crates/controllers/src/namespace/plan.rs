//! What the status of a namespace in deletion says.

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::jiff::Timestamp;

use super::content::Report;
use crate::common::time;

/// The finalizer in `spec.finalizers` that keeps a namespace until we have emptied it.
pub const FINALIZER: &str = "kubernetes";

/// True if the namespace is being deleted and waits for us.
pub fn is_to_be_emptied(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_deref()).unwrap_or_default();
    namespace.metadata.deletion_timestamp.is_some() && finalizers.iter().any(|f| f == FINALIZER)
}

/// The conditions by which a deletion tells how far it is, and what each says when all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The status to write; None if it is said already.
pub fn status(namespace: &Namespace, report: &Report, now: Timestamp) -> Option<NamespaceStatus> {
    let before = namespace.status.clone().unwrap_or_default();
    let mut status = NamespaceStatus { phase: Some("Terminating".to_owned()), ..before.clone() };
    let troubles = [
        report.discovery_failure.clone().map(|text| ("DiscoveryFailed", text)),
        None,
        report.deletion_failure().map(|text| ("ContentDeletionFailed", text)),
        report.remaining_text().map(|text| ("SomeResourcesRemain", text)),
        report.finalizers_text().map(|text| ("SomeFinalizersRemain", text)),
    ];
    for ((kind, good_reason, good_text), trouble) in CONDITIONS.into_iter().zip(troubles) {
        let (word, reason, text) = match trouble {
            Some((reason, text)) => ("True", reason, text),
            None => ("False", good_reason, good_text.to_owned()),
        };
        set(&mut status, kind, word, reason, text, now);
    }
    (status != before).then_some(status)
}

fn set(status: &mut NamespaceStatus, kind: &str, word: &str, reason: &str, text: String, now: Timestamp) {
    let list = status.conditions.get_or_insert_default();
    let condition = NamespaceCondition {
        type_: kind.to_owned(),
        status: word.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(text),
        last_transition_time: time::time(now),
    };
    match list.iter_mut().find(|c| c.type_ == kind) {
        Some(old)
            if old.status == word
                && old.reason.as_deref() == Some(reason)
                && old.message == condition.message => {}
        Some(old) => *old = condition,
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use crate::namespace::content::Remaining;
    use serde_json::json;

    #[test]
    fn conditions_tell_what_is_left() {
        let namespace: Namespace =
            object(json!({"metadata": {"name": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}));
        assert!(is_to_be_emptied(&namespace));
        let mut report = Report::default();
        report.remaining.insert(
            "pods.".to_owned(),
            Remaining { count: 2, finalizers: [("x/y".to_owned(), 1)].into(), wait_s: Some(30) },
        );
        let said = status(&namespace, &report, at("2026-01-01T00:00:01Z")).unwrap();
        assert_eq!(said.phase.as_deref(), Some("Terminating"));
        let texts: Vec<&str> =
            said.conditions.iter().flatten().filter_map(|c| c.message.as_deref()).collect();
        assert_eq!(texts[3], "Some resources are remaining: pods. has 2 resource instances");
        assert_eq!(
            texts[4],
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
        );
        let again = Namespace { status: Some(said), ..namespace };
        assert_eq!(status(&again, &report, at("2026-01-01T00:00:09Z")), None);
    }
}
