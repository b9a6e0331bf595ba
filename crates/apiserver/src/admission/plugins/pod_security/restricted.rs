//! The level restricted: what it asks for beyond baseline.

use std::collections::BTreeSet;

use schema::Value;

use super::baseline::unsafe_seccomp;
use super::checks::{Subject, Violation, containers, name, plural, quoted, setters, violation};

/// Sources of volumes that are allowed.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn privilege_escalation(subject: &Subject<'_>) -> Option<Violation> {
    let names = subject
        .named(|container| container.bool_at("securityContext.allowPrivilegeEscalation") != Some(false));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn privilege_escalation_1_25(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() { None } else { privilege_escalation(subject) }
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    let listed = |container: &Value, list: &str| -> Vec<String> {
        let path = format!("securityContext.capabilities.{list}");
        container.items_at(&path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let missing = subject.named(|container| !listed(container, "drop").iter().any(|one| one == "ALL"));
    let mut added = BTreeSet::new();
    let adding = subject.named(|container| {
        let mut all = listed(container, "add");
        all.retain(|one| one != "NET_BIND_SERVICE");
        let bad = !all.is_empty();
        added.extend(all);
        bad
    });
    let mut details = Vec::new();
    if !missing.is_empty() {
        details
            .push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&missing)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(added)
        ));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn capabilities_1_25(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() { None } else { capabilities(subject) }
}

pub(super) fn volumes(subject: &Subject<'_>) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in subject.spec.items_at("volumes") {
        let sources = volume.entries().iter().map(|(key, _)| key.as_str()).filter(|key| *key != "name");
        let sources: Vec<&str> = sources.collect();
        if sources.iter().any(|source| VOLUMES.contains(source)) {
            continue;
        }
        names.push(name(volume));
        kinds.insert(sources.first().copied().unwrap_or("unknown"));
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds)
    );
    violation("restricted volume types", detail)
}

pub(super) fn run_as_non_root(subject: &Subject<'_>) -> Option<Violation> {
    const FIELD: &str = "securityContext.runAsNonRoot";
    const REASON: &str = "runAsNonRoot != true";
    let of_pod = subject.spec.bool_at(FIELD);
    let refusing = subject.named(|container| container.bool_at(FIELD) == Some(false));
    let set_by = setters(of_pod == Some(false), &refusing);
    if !set_by.is_empty() {
        return violation(REASON, format!("{} must not set {FIELD}=false", set_by.join(" and ")));
    }
    let silent = subject.named(|container| container.bool_at(FIELD).is_none() && of_pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set {FIELD}=true", containers(&silent)))
}

pub(super) fn run_as_non_root_1_35(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_user_namespace() { None } else { run_as_non_root(subject) }
}

pub(super) fn run_as_user(subject: &Subject<'_>) -> Option<Violation> {
    let is_root = |holder: &Value| holder.int_at("securityContext.runAsUser") == Some(0);
    let names = subject.named(|container| is_root(container));
    let set_by = setters(is_root(subject.spec), &names);
    if set_by.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", set_by.join(" and ")))
}

pub(super) fn run_as_user_1_35(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_user_namespace() { None } else { run_as_user(subject) }
}

pub(super) fn seccomp(subject: &Subject<'_>) -> Option<Violation> {
    const FIELD: &str = "securityContext.seccompProfile";
    if let Some(found) = unsafe_seccomp(subject) {
        return Some(found);
    }
    if subject.spec.at(FIELD).is_some() {
        return None;
    }
    let silent = subject.named(|container| container.at(FIELD).is_none());
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set {FIELD}.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&silent)
    );
    violation("seccompProfile", detail)
}

pub(super) fn seccomp_1_25(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() { None } else { seccomp(subject) }
}
