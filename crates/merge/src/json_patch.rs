//! JSON patch (RFC 6902), with the liberties that upstream's library takes: indices below zero count from the end,
//! and `replace` of a missing key adds it.

use schema::{SmolStr, Value};
use smol_str::ToSmolStr;

/// Most operations in one patch (`maxJSONPatchOperations`).
pub const MAX_OPERATIONS: usize = 10_000;
/// Most bytes that `copy` operations of one patch may add (`JSONPatchMaxCopyBytes`).
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Why a JSON patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// The body is no JSON patch: answered 400.
    #[error("{0}")]
    Decode(String),
    /// Too many operations: answered 413.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// An operation does not apply: answered 422.
    #[error("{0}")]
    Apply(String),
    /// Copies add too much: answered 422 as any failed operation.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPY_BYTES}"
    )]
    CopyTooLarge(usize),
}

/// Applies the operations in `patch` to `document`. On an error `document` is left half patched.
pub fn json_patch(document: &mut Value, patch: &Value) -> Result<(), JsonPatchError> {
    let Value::List(operations) = patch else {
        return Err(JsonPatchError::Decode(format!(
            "json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
            patch.type_name()
        )));
    };
    if let Some(wrong) = operations.iter().find(|o| !matches!(o, Value::Map(_) | Value::Null)) {
        return Err(JsonPatchError::Decode(format!(
            "json: cannot unmarshal {} into Go value of type jsonpatch.Operation",
            wrong.type_name()
        )));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    let mut copied_bytes = 0;
    operations.iter().try_for_each(|operation| apply(document, operation, &mut copied_bytes))
}

fn failed(text: String) -> JsonPatchError {
    JsonPatchError::Apply(text)
}

fn apply(document: &mut Value, operation: &Value, copied_bytes: &mut usize) -> Result<(), JsonPatchError> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    let pointer = |name: &str| {
        operation
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| failed(format!("{kind} operation failed to decode {name}: missing value")))
    };
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match kind {
        "add" => add(document, pointer("path")?, value(), kind),
        "remove" => remove(document, pointer("path")?, kind).map(drop),
        "replace" => replace(document, pointer("path")?, value()),
        "test" => test(document, pointer("path")?, operation.get("value")),
        "move" => {
            let moved = remove(document, pointer("from")?, kind)?;
            add(document, pointer("path")?, moved, kind)
        }
        "copy" => {
            let from = pointer("from")?;
            let copy = get(document, from, kind)?.cloned().unwrap_or(Value::Null);
            *copied_bytes += serde_json::to_string(&copy).map_or(0, |text| text.len());
            if *copied_bytes > MAX_COPY_BYTES {
                return Err(JsonPatchError::CopyTooLarge(*copied_bytes));
            }
            add(document, pointer("path")?, copy, kind)
        }
        other => Err(failed(format!("Unexpected kind: {other}"))),
    }
}

/// The container that holds the last step of `pointer`, and that step.
fn find<'v>(
    document: &'v mut Value,
    pointer: &str,
    kind: &str,
) -> Result<(&'v mut Value, SmolStr), JsonPatchError> {
    let missing = || {
        failed(format!("{kind} operation does not apply: doc is missing path: \"{pointer}\": missing value"))
    };
    let mut steps: Vec<SmolStr> = pointer.split('/').skip(1).map(unescape).collect();
    let last = steps.pop().ok_or_else(missing)?;
    let container = steps.iter().try_fold(document, |at, step| match at {
        Value::Map(map) => map.get_mut(step),
        Value::List(list) => {
            let index = read_index(step, list.len()).ok()?;
            list.get_mut(index)
        }
        _ => None,
    });
    match container {
        Some(container @ (Value::Map(_) | Value::List(_))) => Ok((container, last)),
        _ => Err(missing()),
    }
}

fn unescape(step: &str) -> SmolStr {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~").into() } else { step.to_smolstr() }
}

/// An index into a list of `len` items; below zero it counts from the end.
fn read_index(step: &str, len: usize) -> Result<usize, String> {
    let index: i64 = step.parse().map_err(|_| format!("strconv.Atoi: parsing {step:?}: invalid syntax"))?;
    let from_start = if index < 0 { index + len as i64 } else { index };
    match usize::try_from(from_start) {
        Ok(found) if found < len => Ok(found),
        _ => Err(format!("Unable to access invalid index: {index}: invalid index referenced")),
    }
}

fn get<'v>(document: &'v mut Value, pointer: &str, kind: &str) -> Result<Option<&'v Value>, JsonPatchError> {
    let (container, step) = find(document, pointer, kind)?;
    match container {
        Value::List(list) => {
            let index = read_index(&step, list.len())
                .map_err(|e| failed(format!("error in {kind} for path: '{pointer}': {e}")))?;
            Ok(list.get(index))
        }
        other => Ok(other.get(&step)),
    }
}

fn add(document: &mut Value, pointer: &str, value: Value, kind: &str) -> Result<(), JsonPatchError> {
    let (container, step) = find(document, pointer, kind)?;
    match container {
        Value::List(list) if step == "-" => list.push(value),
        Value::List(list) => {
            let index = read_index(&step, list.len() + 1)
                .map_err(|e| failed(format!("error in {kind} for path: '{pointer}': {e}")))?;
            list.insert(index, value);
        }
        other => {
            other.insert(step, value);
        }
    }
    Ok(())
}

fn remove(document: &mut Value, pointer: &str, kind: &str) -> Result<Value, JsonPatchError> {
    let (container, step) = find(document, pointer, kind)?;
    let removed = match container {
        Value::List(list) => read_index(&step, list.len()).map(|index| list.remove(index)),
        other => other
            .remove(&step)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {step}: missing value")),
    };
    removed.map_err(|e| failed(format!("error in {kind} for path: '{pointer}': {e}")))
}

fn replace(document: &mut Value, pointer: &str, value: Value) -> Result<(), JsonPatchError> {
    let (container, step) = find(document, pointer, "replace")?;
    match container {
        Value::List(list) => {
            let index = read_index(&step, list.len()).map_err(|_| {
                failed(format!(
                    "replace operation does not apply: doc is missing key: {pointer}: missing value"
                ))
            })?;
            list[index] = value;
        }
        other => {
            other.insert(step, value);
        }
    }
    Ok(())
}

fn test(document: &mut Value, pointer: &str, wanted: Option<&Value>) -> Result<(), JsonPatchError> {
    let found = get(document, pointer, "test")?.unwrap_or(&Value::Null);
    if crate::equality::same(found, wanted.unwrap_or(&Value::Null)) {
        return Ok(());
    }
    Err(failed(format!("testing value {pointer} failed: test failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn patched(document: &str, patch: &str) -> Result<Value, JsonPatchError> {
        let mut value = parse(document);
        json_patch(&mut value, &parse(patch)).map(|()| value)
    }

    #[test]
    fn operations() {
        for (document, patch, result) in [
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/b","value":[1]}]"#, r#"{"a":1,"b":[1]}"#),
            (r#"{"a":[1,3]}"#, r#"[{"op":"add","path":"/a/1","value":2}]"#, r#"{"a":[1,2,3]}"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/-","value":2}]"#, r#"{"a":[1,2]}"#),
            (r#"{"a":[1,2]}"#, r#"[{"op":"remove","path":"/a/-1"}]"#, r#"{"a":[1]}"#),
            (r#"{"a":{"x/y":1}}"#, r#"[{"op":"replace","path":"/a/x~1y","value":2}]"#, r#"{"a":{"x/y":2}}"#),
            (r#"{"a":1}"#, r#"[{"op":"replace","path":"/b","value":2}]"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1}"#, r#"[{"op":"move","from":"/a","path":"/b"}]"#, r#"{"b":1}"#),
            (r#"{"a":1}"#, r#"[{"op":"copy","from":"/a","path":"/b"}]"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":1}]"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/b","value":null}]"#, r#"{"a":1}"#),
        ] {
            assert_eq!(patched(document, patch), Ok(parse(result)), "{patch}");
        }
    }

    #[test]
    fn failures() {
        for (document, patch) in [
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#),
            (r#"{"a":1}"#, r#"[{"op":"remove","path":"/b"}]"#),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/b/c","value":1}]"#),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"","value":1}]"#),
            (r#"{"a":[]}"#, r#"[{"op":"add","path":"/a/1","value":1}]"#),
            (r#"{"a":[]}"#, r#"[{"op":"replace","path":"/a/0","value":1}]"#),
            (r#"{"a":1}"#, r#"[{"op":"nonsense","path":"/a"}]"#),
            (r#"{"a":1}"#, r#"[{"op":"add","value":1}]"#),
        ] {
            assert!(matches!(patched(document, patch), Err(JsonPatchError::Apply(_))), "{patch}");
        }
        assert!(matches!(patched("{}", r#"{"a":1}"#), Err(JsonPatchError::Decode(_))));
        assert!(matches!(patched("{}", "[1]"), Err(JsonPatchError::Decode(_))));
    }

    #[test]
    fn limits() {
        let many = Value::List(vec![Value::map(); MAX_OPERATIONS + 1]);
        let error = json_patch(&mut Value::map(), &many);
        assert_eq!(error, Err(JsonPatchError::TooManyOperations(MAX_OPERATIONS + 1)));
        let mut document = Value::map();
        document.insert("a", "x".repeat(MAX_COPY_BYTES / 2));
        let copy = parse(r#"{"op":"copy","from":"/a","path":"/b"}"#);
        let twice = Value::List(vec![copy.clone(), copy]);
        assert!(matches!(json_patch(&mut document, &twice), Err(JsonPatchError::CopyTooLarge(_))));
    }
}
