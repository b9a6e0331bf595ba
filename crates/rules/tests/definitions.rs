//! Definitions and objects of real projects that the reference server took: their rules compile, fit their budgets and hold.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;

use rules::kinds::{Write, rules_of};
use rules::{Cursor, CustomRules, Errors};
use schema::Value;

fn steps() -> Option<Vec<Value>> {
    let path = base::reference_dir()?.join("exchanges/realworld.jsonl");
    let text = std::fs::read_to_string(path).ok()?.replace("${ns}", "ns");
    let scenarios = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    Some(scenarios.flat_map(|scenario| scenario["steps"].items().to_vec()).collect())
}

#[test]
fn rules_of_real_definitions_compile_and_hold() {
    let Some(steps) = steps() else { return };
    let definitions = rules_of("apiextensions.k8s.io", "customresourcedefinitions");
    let mut schemas: HashMap<(String, String), Option<CustomRules>> = HashMap::new();
    let (mut defined, mut checked) = (0, 0);
    for step in steps {
        let (path, body) = (step["p"].as_str().unwrap(), &step["body"]);
        let fine = step["m"].as_str() == Some("POST") && matches!(step["status"], Value::Int(201));
        let Some(kind) = body["kind"].as_str().filter(|_| fine) else { continue };
        if kind == "CustomResourceDefinition" {
            let (mut definition, mut errors) = (body.clone(), Errors::new());
            (definitions.defaults)(&mut definition);
            (definitions.prepare_create)(&mut definition, &Write::default());
            (definitions.validate)(&Cursor::root(&definition), &Write::default(), &mut errors);
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert!(texts.is_empty(), "{}: {texts:#?}", body["metadata"]["name"].as_str().unwrap());
            defined += 1;
            let group = definition.str_at("spec.group").unwrap();
            for version in definition.items_at("spec.versions") {
                let rules = CustomRules::of_schema(&version["schema"]["openAPIV3Schema"]);
                let api_version = format!("{group}/{}", version.str_at("name").unwrap());
                schemas
                    .insert((api_version, definition.str_at("spec.names.kind").unwrap().to_owned()), rules);
            }
            continue;
        }
        let id = (body["apiVersion"].as_str().unwrap_or("").to_owned(), kind.to_owned());
        if let Some(Some(rules)) = schemas.get(&id) {
            let stored = &step["resp"];
            let texts: Vec<String> =
                rules.validate(stored, None).errors.iter().map(ToString::to_string).collect();
            assert!(texts.is_empty(), "{path}: {texts:#?}");
            checked += 1;
        }
    }
    assert!(defined > 10 && checked > 10, "{defined} definitions, {checked} objects");
}
