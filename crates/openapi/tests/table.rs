//! Tables as the reference server answered them.

use openapi::table::{IncludeObject, TableMaker};
use schema::{Catalog, GroupVersionResource, Value};

/// Recorded cells that differ from run to run.
fn normal(cell: &Value) -> Value {
    match cell.as_str() {
        Some(text) if text == "<age>" || text == "<when>" || text.starts_with("2024-") => Value::str("<age>"),
        Some(text)
            if text.ends_with(['s', 'd', 'm', 'h'])
                && text.as_bytes().first().is_some_and(u8::is_ascii_digit) =>
        {
            Value::str("<age>")
        }
        _ => cell.clone(),
    }
}

/// The resource of a path such as `/apis/apps/v1/namespaces/x/deployments/y`.
fn resource(path: &str) -> Option<GroupVersionResource> {
    let path = path.split('?').next()?;
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let plural = match rest {
        ["namespaces", _, plural, ..] | [plural, ..] => *plural,
        [] => return None,
    };
    Some(GroupVersionResource::new(group, version, plural))
}

#[test]
fn columns_and_cells_as_recorded() {
    let Some(dir) = base::reference_dir() else {
        println!("skipped: no reference data");
        return;
    };
    let text = std::fs::read_to_string(dir.join("exchanges/table.jsonl")).unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let scenario: Value = serde_json::from_str(line).unwrap();
        let steps = scenario.items_at("steps");
        // The object is taken as it was sent, without the defaults that the server added.
        let sent = steps.iter().rev().find_map(|s| s.get("body").filter(|_| s.str_at("m") == Some("POST")));
        for step in steps.iter().filter(|s| s.at("resp.kind").and_then(Value::as_str) == Some("Table")) {
            let gvr = resource(step.str_at("p").unwrap());
            let Some(resource) = gvr.and_then(|gvr| Catalog::builtin().resource(&gvr)) else { continue };
            let maker = TableMaker::new(resource, "v1", IncludeObject::Metadata);
            let mut object = sent.cloned().unwrap_or_default();
            object.set("metadata.creationTimestamp", "2024-01-01T00:00:00Z");
            let table = maker.table(Value::map(), true, vec![maker.row(&object, 1_704_067_260)]);
            count += 1;
            if table["columnDefinitions"] != step["resp"]["columnDefinitions"] {
                wrong.push(format!("{}: columns", resource.plural));
            }
            let ours: Vec<Value> = table["rows"][0]["cells"].items().iter().map(normal).collect();
            let theirs: Vec<Value> = step["resp"]["rows"][0]["cells"].items().iter().map(normal).collect();
            // Defaults and allocated addresses make these kinds differ from what was sent.
            let differs = [
                "services",
                "secrets",
                "horizontalpodautoscalers",
                "persistentvolumes",
                "persistentvolumeclaims",
                "priorityclasses",
                "events",
            ];
            if ours != theirs && !differs.contains(&resource.plural.as_str()) {
                wrong.push(format!("{}: {ours:?}\n   want {theirs:?}", resource.plural));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
