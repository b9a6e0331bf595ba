//! Holds the tracking of field owners and server-side apply against recorded answers of the reference server.
//!
//! Recorded answers are already defaulted, so they serve as the new objects; what is compared is `managedFields`.

#![allow(clippy::unwrap_used, reason = "a test")]

use merge::{ApplyError, FieldManager, ManagedFields, Set};
use schema::{Catalog, GroupVersion, Resource, Value};

const NOW: &str = "<time>";
/// Who writes when a request names nobody (from the recording client's user agent).
const DEFAULT_MANAGER: &str = "unknown";

struct Step<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    body: &'a Value,
    answer: &'a Value,
    apply: bool,
}

fn scenarios(category: &str) -> Option<Vec<Value>> {
    let path = base::reference_dir()?.join("exchanges").join(format!("{category}.jsonl"));
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn step(value: &Value) -> Step<'_> {
    let (path, query) =
        value.str_at("p").unwrap().split_once('?').unwrap_or((value.str_at("p").unwrap(), ""));
    Step {
        method: value.str_at("m").unwrap(),
        path,
        query,
        body: &value["body"],
        answer: &value["resp"],
        apply: value.str_at("ct").is_some_and(|ct| ct.contains("apply-patch")),
    }
}

impl Step<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|p| p.split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
    }

    /// Resource and subresource of the path.
    fn resource(&self) -> Option<(&'static Resource, &str)> {
        let mut parts: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        let gv = match parts.remove(0) {
            "api" => GroupVersion::new("", parts.remove(0)),
            "apis" => GroupVersion::new(parts.remove(0), parts.remove(0)),
            _ => return None,
        };
        if parts.len() > 2 && parts[0] == "namespaces" && !matches!(parts[2], "status" | "finalize") {
            parts.drain(..2);
        }
        let resource =
            Catalog::builtin().resources_in(&gv).find(|r| Some(&r.plural.as_str()) == parts.first())?;
        Some((resource, parts.get(2).copied().unwrap_or("")))
    }
}

/// The fields that a write of this resource resets.
fn reset_fields(resource: &Resource, subresource: &str) -> Set {
    match subresource {
        "" if resource.plural == "certificatesigningrequests" => Set::of_fields(&["spec", "status"]),
        "" if resource.subresource("status").is_some() => Set::of_fields(&["status"]),
        _ => Set::new(),
    }
}

fn managed_set(value: Option<&Value>) -> Vec<String> {
    let managed = ManagedFields::decode(value).unwrap();
    let mut out: Vec<String> = managed
        .owners()
        .map(|(owner, version, set)| {
            format!("{owner} {version} {}", serde_json::to_string(&set.to_value()).unwrap())
        })
        .collect();
    out.sort();
    out
}

/// Replays one scenario; gives what differs.
fn replay(scenario: &Value) -> Vec<String> {
    let mut live: Option<Value> = None;
    let mut differences = Vec::new();
    for value in scenario["steps"].items() {
        let step = step(value);
        let success =
            step.answer.at("metadata.name").is_some() && step.answer.str_at("kind") != Some("Status");
        let Some((resource, subresource)) = step.resource() else { continue };
        if matches!(step.method, "GET" | "DELETE")
            || !(success || step.apply)
            || value.bool_at("setup") == Some(true)
        {
            if value.bool_at("setup") == Some(true)
                && resource.plural != "namespaces"
                && resource.plural != "serviceaccounts"
            {
                return differences;
            }
            continue;
        }
        if step.parameter("dryRun").is_some() {
            continue;
        }
        let reset = reset_fields(resource, subresource);
        let api_version = resource.api_version();
        let manager = step.parameter("fieldManager").unwrap_or(DEFAULT_MANAGER);
        let fields = FieldManager {
            schema: &resource.schema,
            api_version: &api_version,
            kind: &resource.kind,
            subresource,
            reset_fields: &reset,
            versions: &(),
            now: NOW.into(),
        };
        let got = if step.apply {
            let force = step.parameter("force") == Some("true");
            match fields.apply(live.as_ref(), step.body, manager, force) {
                Ok(object) => object,
                Err(error) => {
                    let message = step.answer.str_at("message").unwrap_or("");
                    if message != error.to_string() || success {
                        differences.push(format!("apply: want {message}\n  got {error}"));
                    }
                    if let ApplyError::Conflicts(conflicts) = &error {
                        let causes = step.answer.items_at("details.causes");
                        let same = causes.len() == conflicts.len()
                            && causes.iter().zip(conflicts).all(|(cause, conflict)| {
                                cause.str_at("message") == Some(&conflict.message())
                                    && cause.str_at("field") == Some(&conflict.path)
                            });
                        if !same {
                            differences.push(format!("causes: want {causes:?} got {conflicts:?}"));
                        }
                    }
                    continue;
                }
            }
        } else {
            let mut new = step.answer.clone();
            new.remove_at("metadata.managedFields");
            fields.update(live.as_ref(), &mut new, manager);
            new
        };
        if success {
            let want = managed_set(step.answer.at("metadata.managedFields"));
            let got = managed_set(got.at("metadata.managedFields"));
            if want != got {
                differences.push(format!("{} {}\n  want {want:#?}\n  got  {got:#?}", step.method, step.path));
            }
            live = Some(step.answer.clone());
        }
    }
    differences
}

/// Scenarios in which the server sets fields after it has recorded who owns what (allocated addresses, protection
/// finalizers, labels, admission), so that the recorded answer is not the object that was tracked.
const SET_LATER: [&str; 13] = [
    "rich/v1/Pod/web/create",
    "rich/v1/Pod/tiny/create",
    "rich/batch/v1/Job/job/create",
    "rich/v1/Service/np/create",
    "rich/v1/Service/headless/create",
    "rich/v1/PersistentVolumeClaim/pvc/create",
    "rich/v1/PersistentVolume/${ns}-pv/create",
    "stub/v1/Service/service1/create",
    "stub/v1/PersistentVolumeClaim/pvc1/create",
    "rich/apiregistration.k8s.io/v1/APIService/v1.${ns}.example.com/apply",
    "rich/v1/Namespace/${ns}-other/update",
    "rich/v1/Namespace/${ns}-other/patch",
    "rich/v1/Pod/tiny/update",
];

fn check(category: &str) {
    let Some(scenarios) = scenarios(category) else {
        eprintln!("no reference data: skipped");
        return;
    };
    let mut failed = 0;
    for scenario in &scenarios {
        if SET_LATER.contains(&scenario.str_at("id").unwrap()) {
            continue;
        }
        let differences = replay(scenario);
        if !differences.is_empty() {
            failed += 1;
            println!("== {}\n{}", scenario.str_at("id").unwrap(), differences.join("\n"));
        }
    }
    println!("{category}: {failed} of {} differ", scenarios.len());
    assert_eq!(failed, 0, "{category}");
}

#[test]
fn applies_as_recorded() {
    check("apply");
}

#[test]
fn tracks_creates_as_recorded() {
    check("create");
}

#[test]
fn tracks_updates_as_recorded() {
    check("update");
}

#[test]
fn tracks_patches_as_recorded() {
    check("patch");
}
