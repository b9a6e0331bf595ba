//! What the reference server answered is in normal form already: decoding it must change nothing.

use std::collections::BTreeMap;

use codec::json;
use schema::{Catalog, GroupVersionKind, Value};

fn difference(want: &Value, got: &Value, path: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Map(a), Value::Map(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(k))) {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) => difference(x, y, &path, out),
                    (Some(_), None) => out.push(format!("{path} lost")),
                    _ => out.push(format!("{path} new")),
                }
            }
        }
        (Value::List(a), Value::List(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(x, y)| difference(x, y, path, out));
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!(
            "{path}: {} {}",
            String::from_utf8_lossy(&json::encode(a)),
            String::from_utf8_lossy(&json::encode(b))
        )),
    }
}

#[test]
fn answers_of_the_reference_are_fixed_points() {
    let Some(dir) = base::reference_dir() else {
        println!("skipped: no reference data");
        return;
    };
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for entry in std::fs::read_dir(dir.join("exchanges")).unwrap() {
        // The largest recording has nothing new in this respect.
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("realworld") {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let scenario = json::parse(line.as_bytes()).unwrap();
            for answer in scenario.items_at("steps").iter().filter_map(|s| s.get("resp")) {
                let Some(kind) = GroupVersionKind::of(answer) else { continue };
                let Some(schema) = Catalog::builtin().kind(&kind) else { continue };
                if !answer.items_at("rows").is_empty() {
                    continue;
                }
                // A list of which the recorder kept the items only.
                if answer.get("items").is_some() && answer.get("metadata").is_none() {
                    continue;
                }
                // Recordings hide times and allocated ports behind markers.
                let text = String::from_utf8(json::encode(answer)).unwrap();
                let text = hide(&text);
                let want = json::parse(text.as_bytes()).unwrap();
                let mut differences = Vec::new();
                match json::decode(text.as_bytes(), schema) {
                    Ok(decoded) => difference(&want, &decoded.value, &kind.kind, &mut differences),
                    Err(error) => differences.push(format!("{}: {error}", kind.kind)),
                }
                count += 1;
                differences.into_iter().for_each(|d| *found.entry(d).or_default() += 1);
            }
        }
    }
    let list: Vec<String> = found.iter().map(|(d, n)| format!("{n} {d}")).collect();
    assert!(found.is_empty(), "{} kinds of change in {count} answers:\n{}", list.len(), list.join("\n"));
}

/// Markers replaced by values of their kind.
fn hide(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, value) in [
        ("creationTimestamp", "\"2020-01-01T00:00:00Z\""),
        ("deletionTimestamp", "\"2020-01-01T00:00:00Z\""),
        ("time", "\"2020-01-01T00:00:00Z\""),
        ("lastTransitionTime", "\"2020-01-01T00:00:00Z\""),
        ("lastUpdateTime", "\"2020-01-01T00:00:00Z\""),
        ("startTime", "\"2020-01-01T00:00:00Z\""),
        ("nodePort", "30000"),
        ("healthCheckNodePort", "30000"),
    ] {
        text = text.replace(&format!("\"{name}\":\"\\u003c{name}\\u003e\""), &format!("\"{name}\":{value}"));
    }
    for micro in ["eventTime", "renewTime", "acquireTime", "lastObservedTime"] {
        text = text.replace(
            &format!("\"{micro}\":\"\\u003cwhen\\u003e\""),
            &format!("\"{micro}\":\"2020-01-01T00:00:00.000000Z\""),
        );
    }
    text.replace("\"\\u003cwhen\\u003e\"", "\"2020-01-01T00:00:00Z\"")
}

#[test]
fn public_custom_resource_definitions_load() {
    let Some(dir) = base::reference_dir() else {
        println!("skipped: no reference data");
        return;
    };
    let kind = GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions = Catalog::builtin().kind(&kind).expect("a known kind");
    let text = std::fs::read_to_string(dir.join("exchanges/realworld.jsonl")).unwrap();
    let mut count = 0;
    for line in text.lines() {
        let scenario = json::parse(line.as_bytes()).unwrap();
        let bodies = scenario.items_at("steps").iter().filter_map(|s| s.get("body"));
        for body in bodies.filter(|b| b.str_at("kind") == Some("CustomResourceDefinition")) {
            let decoded = json::decode(&json::encode(body), definitions).unwrap();
            let name = body.str_at("metadata.name").unwrap_or_default();
            assert!(decoded.strict_errors.is_empty(), "{name}: {:?}", decoded.strict_errors);
            for version in decoded.value.items_at("spec.versions") {
                let openapi = version.at("schema.openAPIV3Schema").unwrap();
                let schema =
                    schema::Schema::from_openapi(openapi, true).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert!(schema.root().field("metadata").is_some(), "{name}");
                count += 1;
            }
        }
    }
    assert!(count > 0);
}
