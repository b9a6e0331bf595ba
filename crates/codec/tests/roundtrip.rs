//! One object of every kind with every field set: JSON to protobuf and back, byte for byte.

use std::path::Path;

use codec::{json, protobuf};
use schema::{Catalog, GroupVersionKind, Schema};

/// The kind that a file's name states, `apps.v1.Deployment`.
fn kind(stem: &str) -> Option<(GroupVersionKind, &'static Schema)> {
    let (rest, kind) = stem.rsplit_once('.')?;
    let (group, version) = rest.rsplit_once('.')?;
    let group = if group == "core" { "" } else { group };
    let gvk = GroupVersionKind::new(group, version, kind);
    Some((gvk.clone(), Catalog::builtin().kind(&gvk)?))
}

fn check(json_file: &Path) -> Result<(), String> {
    let stem = json_file.file_stem().and_then(|s| s.to_str()).ok_or("no name")?;
    let (gvk, schema) = kind(stem).ok_or("no such kind")?;
    let text = std::fs::read(json_file).map_err(|e| e.to_string())?;
    let wire = std::fs::read(json_file.with_extension("pb")).map_err(|e| e.to_string())?;

    let plain = json::parse(&text).map_err(|e| e.to_string())?;
    let decoded = json::decode(&text, schema).map_err(|e| format!("decoding JSON: {e}"))?;
    if !decoded.strict_errors.is_empty() {
        return Err(format!("{:?}", decoded.strict_errors));
    }
    if decoded.value != plain {
        return Err(format!("JSON changed: {}", difference(&plain, &decoded.value)));
    }
    let encoded = if gvk.kind == "WatchEvent" {
        let message = protobuf::encode_message(&decoded.value, schema).map_err(|e| e.to_string())?;
        // Its recording has an envelope without a type.
        protobuf::wrap("", "", &message)
    } else {
        protobuf::encode(&decoded.value, schema).map_err(|e| format!("encoding protobuf: {e}"))?
    };
    let back = protobuf::decode(&wire, schema).map_err(|e| format!("decoding protobuf: {e}"))?;
    if back != plain {
        return Err(format!("protobuf says otherwise: {}", difference(&plain, &back)));
    }
    if encoded != wire {
        let at = encoded.iter().zip(&wire).position(|(a, b)| a != b).unwrap_or(wire.len().min(encoded.len()));
        return Err(format!("protobuf differs at byte {at} of {}: {} bytes", wire.len(), encoded.len()));
    }
    Ok(())
}

fn difference(want: &schema::Value, got: &schema::Value) -> String {
    if let (Some(a), Some(b)) = (want.as_map(), got.as_map()) {
        for key in a.keys().chain(b.keys()) {
            match (a.get(key), b.get(key)) {
                (Some(x), Some(y)) if x != y => return format!("{key}.{}", difference(x, y)),
                (Some(x), None) => {
                    return format!("{key} lost {}", serde_json::to_string(x).unwrap_or_default());
                }
                (None, Some(y)) => {
                    return format!("{key} new {}", serde_json::to_string(y).unwrap_or_default());
                }
                _ => {}
            }
        }
    }
    if let (Some(a), Some(b)) = (want.as_list(), got.as_list())
        && let Some((x, y)) = a.iter().zip(b).find(|(x, y)| x != y)
    {
        return format!("[].{}", difference(x, y));
    }
    format!("want {want:?} got {got:?}")
}

#[test]
fn every_recorded_object_survives() {
    let Some(dir) = base::reference_dir() else {
        println!("skipped: no reference data");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(dir.join("roundtrip"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|file| check(file).err().map(|e| format!("{}: {e}", file.file_name().unwrap().display())))
        .collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), files.len(), failures.join("\n"));
}
