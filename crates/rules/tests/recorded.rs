//! Holds defaults and validation of built-in kinds against recorded answers of the reference server.
//!
//! What the registry does around the rules (metadata, status, addresses, admission) is done here in the small, as far
//! as answers depend on it. Compared are errors, by reason and field and by their words, and defaulted objects.

#![allow(clippy::unwrap_used, reason = "a test")]

mod server;

use std::collections::{BTreeMap, BTreeSet};

use rules::Errors;
use schema::{Catalog, GroupVersion, Resource, Value};
use server::{NAMESPACE, Outcome, Server, UID};

fn scenarios(category: &str) -> Option<Vec<Value>> {
    let path = base::reference_dir()?.join("exchanges").join(format!("{category}.jsonl"));
    let text = std::fs::read_to_string(path).ok()?.replace("${ns}", NAMESPACE);
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn resource_of(path: &str) -> Option<(&'static Resource, String)> {
    let mut parts: Vec<&str> = path.split('?').next()?.trim_matches('/').split('/').collect();
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
    Some((resource, parts.get(2).map_or(String::new(), |s| (*s).to_owned())))
}

fn causes(answer: &Value) -> BTreeSet<(String, String)> {
    answer
        .items_at("details.causes")
        .iter()
        .map(|c| (c.str_at("reason").unwrap_or("").to_owned(), c.str_at("field").unwrap_or("").to_owned()))
        .collect()
}

/// Replaces what differs from run to run, and drops what is not the rules' business.
fn comparable(object: &Value, resource: &Resource) -> Value {
    let mut object = object.clone();
    for field in [
        "managedFields",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "namespace",
        "finalizers",
        "generateName",
    ] {
        object.remove_at(&format!("metadata.{field}"));
    }
    if resource.plural == "pods" {
        for field in
            ["volumes", "tolerations", "priority", "preemptionPolicy", "containers", "initContainers"]
        {
            object.remove_at(&format!("spec.{field}"));
        }
    }
    if resource.plural == "services" {
        for field in ["clusterIP", "clusterIPs", "ports", "healthCheckNodePort"] {
            object.remove_at(&format!("spec.{field}"));
        }
    }
    strip(&mut object);
    object
}

/// Empty values and times say nothing here.
fn strip(value: &mut Value) {
    match value {
        Value::Map(map) => {
            map.iter_mut().for_each(|(_, v)| strip(v));
            map.retain(|name, v| {
                !(v.is_null()
                    || matches!(v, Value::Map(m) if m.is_empty())
                    || matches!(v, Value::List(l) if l.is_empty())
                    || name.ends_with("TransitionTime"))
            });
        }
        Value::List(list) => list.iter_mut().for_each(strip),
        Value::Str(text) if text.starts_with('<') && text.ends_with('>') => *value = Value::str("<x>"),
        Value::Str(text) if matches!(text.len(), 20 | 27) && text.ends_with('Z') => {
            *value = Value::str("<x>")
        }
        Value::Str(text) if text == UID => *value = Value::str("<x>"),
        _ => {}
    }
}

fn differences(want: &Value, got: &Value, path: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Map(a), Value::Map(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(a, b, &at, out),
                    (Some(a), None) => out.push(format!("{at}: want {a:?}")),
                    (None, Some(b)) => out.push(format!("{at}: unexpected {b:?}")),
                    (None, None) => {}
                }
            }
        }
        (Value::List(a), Value::List(b)) if a.len() == b.len() => {
            a.iter()
                .zip(b)
                .enumerate()
                .for_each(|(i, (a, b))| differences(a, b, &format!("{path}[{i}]"), out));
        }
        _ if want != got => out.push(format!("{path}: want {want:?} got {got:?}")),
        _ => {}
    }
}

/// How an answer differs.
enum Difference {
    /// A program could tell.
    Meaning(String),
    /// A reader could.
    Words(String),
}

fn judge(step: &Value, resource: &Resource, outcome: &Outcome) -> Option<Difference> {
    if let (422, Outcome::Invalid(errors)) = (step["status"].as_int().unwrap_or(0), outcome)
        && meaning(step, resource, outcome).is_none()
    {
        return words(&step["resp"], errors).map(Difference::Words);
    }
    meaning(step, resource, outcome).map(Difference::Meaning)
}

fn meaning(step: &Value, resource: &Resource, outcome: &Outcome) -> Option<String> {
    let (status, answer) = (step["status"].as_int().unwrap_or(0), &step["resp"]);
    let by_registry = [("FieldValueInvalid".to_owned(), "metadata.resourceVersion".to_owned())];
    if status == 422 && causes(answer).iter().eq(by_registry.iter()) {
        return None;
    }
    match (status, outcome) {
        (400 | 415, Outcome::Undecodable) | (403, _) => None,
        (422, Outcome::Invalid(errors)) => {
            let want = causes(answer);
            let got: BTreeSet<_> =
                errors.iter().map(|e| (e.kind.reason().to_owned(), e.field.clone())).collect();
            if want == got {
                return None;
            }
            let missing: Vec<_> = want.difference(&got).collect();
            let extra: Vec<_> = got.difference(&want).collect();
            let message = answer.str_at("message").unwrap_or("");
            Some(format!("missing {missing:?} unexpected {extra:?}\n    {message}"))
        }
        (200 | 201, Outcome::Stored(object)) => {
            let answer =
                codec::json::conform(answer, &resource.schema).map_or_else(|_| answer.clone(), |d| d.value);
            let mut out = Vec::new();
            differences(&comparable(&answer, resource), &comparable(object, resource), "", &mut out);
            (!out.is_empty()).then(|| out.join("\n    "))
        }
        (want, Outcome::Undecodable) => Some(format!("want {want}, got undecodable")),
        (want, Outcome::Invalid(errors)) => Some(format!("want {want}, got {}", rules::aggregate(errors))),
        (want, Outcome::Stored(_)) => {
            Some(format!("want {want}, got stored\n    {}", answer.str_at("message").unwrap_or("")))
        }
    }
}

fn words(answer: &Value, errors: &Errors) -> Option<String> {
    let want = answer.str_at("message").unwrap_or("");
    let got = rules::aggregate(errors);
    (!want.ends_with(&got)).then(|| format!("message\n    want {want}\n    got  {got}"))
}

fn replay(scenario: &Value) -> Option<Difference> {
    let mut live: Option<Value> = None;
    for step in scenario["steps"].items() {
        let method = step.str_at("m")?;
        let (resource, subresource) = resource_of(step.str_at("p")?)?;
        let setup = step.bool_at("setup") == Some(true);
        let background = matches!(resource.plural.as_str(), "namespaces" | "serviceaccounts") && setup;
        if background || !subresource.is_empty() || !matches!(method, "POST" | "PUT") {
            continue;
        }
        // Kinds that are checked in another version than they are sent in.
        if (resource.group == "autoscaling" && resource.version == "v1") || resource.group == "events.k8s.io"
        {
            return None;
        }
        let server = Server::new(resource);
        let outcome = match (&live, method) {
            (Some(old), "PUT") => server.update(&step["body"], old),
            (None, "PUT") => return None,
            _ => server.create(&step["body"]),
        };
        if !setup && let Some(difference) = judge(step, resource, &outcome) {
            return Some(difference);
        }
        match outcome {
            Outcome::Stored(object) => live = Some(object),
            Outcome::Invalid(errors) if setup => {
                return Some(Difference::Meaning(format!("setup invalid: {}", rules::aggregate(&errors))));
            }
            _ => {}
        }
    }
    None
}

/// `meaning` scenarios may differ in meaning and `words` more in words alone: by what is decided elsewhere (admission,
/// the registry, CEL), or as said in the note.
fn check(category: &str, meaning: usize, words: usize) {
    let Some(scenarios) = scenarios(category) else {
        eprintln!("no reference data: skipped");
        return;
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut by_kind: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut failed, mut said) = (0, 0);
    for scenario in &scenarios {
        let id = scenario.str_at("id").unwrap();
        if !id.contains(&only) {
            continue;
        }
        let parts: Vec<&str> = id.split('/').collect();
        let count = by_kind.entry(parts[..parts.len().min(3)].join("/")).or_default();
        count.1 += 1;
        match replay(scenario) {
            Some(Difference::Meaning(how)) => {
                count.0 += 1;
                failed += 1;
                println!("== {id}\n  {how}");
            }
            Some(Difference::Words(how)) => {
                said += 1;
                println!("-- {id}\n  {how}");
            }
            None => {}
        }
    }
    for (kind, (bad, all)) in by_kind.iter().filter(|(_, (bad, _))| *bad > 0) {
        println!("{bad:4} of {all:4} differ: {kind}");
    }
    println!("{category}: {failed} of {} differ, {said} more in words", scenarios.len());
    assert!(failed <= meaning, "{category}: {failed} differ");
    assert!(said <= words, "{category}: {said} differ in words");
}

#[test]
fn validation() {
    // Words: empty maps are not told from none.
    check("validation", 0, 5);
}

#[test]
fn immutability() {
    // Words: what admission adds to pods is part of the difference that is shown.
    check("immutability", 0, 62);
}

#[test]
fn create() {
    check("create", 0, 0);
}
