//! The checks by level and version, and how what they find is put into words.

use schema::{Map, Value};

use super::policy::{Level, LevelVersion};
use super::{baseline, restricted};

/// The newest version that changed a check; `latest` is judged by it.
const NEWEST: u32 = 35;

/// A pod, or the template of pods.
pub struct Subject<'a> {
    pub(super) annotations: Option<&'a Map>,
    pub(super) spec: &'a Value,
}

impl<'a> Subject<'a> {
    /// Of an object with `metadata` and `spec`.
    pub fn of(pod: &'a Value) -> Self {
        Self { annotations: pod.map_at("metadata.annotations"), spec: &pod["spec"] }
    }

    /// All containers in upstream's order: those for init, the others, and ephemeral ones.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|list| spec.items_at(list))
    }

    /// Names of the containers for which `bad` holds.
    pub fn named(&self, bad: impl FnMut(&&'a Value) -> bool) -> Vec<String> {
        self.containers().filter(bad).map(name).collect()
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec.str_at("os.name") == Some("windows")
    }

    /// The pod has a user namespace of its own (KEP-127).
    pub(super) fn has_user_namespace(&self) -> bool {
        self.spec.bool_at("hostUsers") == Some(false)
    }
}

pub(super) fn name(container: &Value) -> String {
    container.str_at("name").unwrap_or_default().to_owned()
}

/// One thing that is forbidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// In a few words.
    pub reason: String,
    /// Where, and what to do.
    pub detail: String,
}

/// Makes a violation.
pub(super) fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail: detail.into() })
}

/// Everything that is forbidden.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reasons alone.
    pub fn reasons(&self) -> String {
        self.0.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Reasons with details.
    pub fn details(&self) -> String {
        let one = |v: &Violation| match v.detail.as_str() {
            "" => v.reason.clone(),
            detail => format!("{} ({detail})", v.reason),
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

type Judge = fn(&Subject<'_>) -> Option<Violation>;

/// A check: from which minor version on it is judged how.
struct Check {
    versions: &'static [(u32, Judge)],
    /// From this version on a restricted check says it all.
    overridden_from: Option<u32>,
}

/// Checks of the level baseline, by name in upstream's order.
const BASELINE: [Check; 12] = [
    Check { versions: &[(0, baseline::app_armor)], overridden_from: None },
    Check { versions: &[(0, baseline::capabilities)], overridden_from: Some(22) },
    Check { versions: &[(0, baseline::host_namespaces)], overridden_from: None },
    Check { versions: &[(0, baseline::host_path_volumes)], overridden_from: Some(0) },
    Check { versions: &[(0, baseline::host_ports)], overridden_from: None },
    Check { versions: &[(34, baseline::host_probes)], overridden_from: None },
    Check { versions: &[(0, baseline::privileged)], overridden_from: None },
    Check {
        versions: &[(0, baseline::proc_mount), (35, baseline::proc_mount_1_35)],
        overridden_from: Some(35),
    },
    Check { versions: &[(0, baseline::se_linux), (31, baseline::se_linux_1_31)], overridden_from: None },
    Check {
        versions: &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)],
        overridden_from: Some(19),
    },
    Check {
        versions: &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_1_27),
            (29, baseline::sysctls_1_29),
            (32, baseline::sysctls_1_32),
        ],
        overridden_from: None,
    },
    Check { versions: &[(0, baseline::windows_host_process)], overridden_from: None },
];

/// Checks that the level restricted adds.
const RESTRICTED: [Check; 7] = [
    Check {
        versions: &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_1_25)],
        overridden_from: None,
    },
    Check {
        versions: &[(22, restricted::capabilities), (25, restricted::capabilities_1_25)],
        overridden_from: None,
    },
    Check { versions: &[(35, baseline::proc_mount)], overridden_from: None },
    Check { versions: &[(0, restricted::volumes)], overridden_from: None },
    Check {
        versions: &[(0, restricted::run_as_non_root), (35, restricted::run_as_non_root_1_35)],
        overridden_from: None,
    },
    Check {
        versions: &[(23, restricted::run_as_user), (35, restricted::run_as_user_1_35)],
        overridden_from: None,
    },
    Check { versions: &[(19, restricted::seccomp), (25, restricted::seccomp_1_25)], overridden_from: None },
];

/// What a level forbids of a pod.
pub fn evaluate(of: LevelVersion, subject: &Subject<'_>) -> Violations {
    if of.level == Level::Privileged {
        return Violations::default();
    }
    let minor = of.version.minor(NEWEST);
    let strict = of.level == Level::Restricted;
    let kept = |check: &&Check| !strict || check.overridden_from.is_none_or(|from| minor < from);
    let added = if strict { RESTRICTED.as_slice() } else { &[] };
    let judges = BASELINE.iter().filter(kept).chain(added).filter_map(|check| {
        check.versions.iter().rev().find(|(from, _)| *from <= minor).map(|(_, judge)| judge)
    });
    Violations(judges.filter_map(|judge| judge(subject)).collect())
}

/// `"a", "b"`
pub(super) fn quoted<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| format!("\"{}\"", one.as_ref())).collect::<Vec<_>>().join(", ")
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, or `containers "a", "b"`.
pub(super) fn containers(names: &[String]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who set something: the pod, some containers, or both.
pub(super) fn setters(pod: bool, names: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !names.is_empty() {
        all.push(containers(names));
    }
    all
}
