//! Results of expressions as JSON.

use base64::Engine;
use cel::Key;
use schema::{Map, Value};

/// Deepest nesting of a result.
const MAX_DEPTH: usize = 100;

/// The JSON form of a result. Fields whose optional value is none are left out. The error is what has no such form.
pub fn to_json(value: &cel::Value) -> Result<Value, String> {
    convert(value, 0).map(Option::unwrap_or_default)
}

fn convert(value: &cel::Value, depth: usize) -> Result<Option<Value>, String> {
    if depth > MAX_DEPTH {
        return Err("the result is nested too deeply".to_owned());
    }
    Ok(Some(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => Value::Bool(*b),
        cel::Value::Int(i) => Value::Int(*i),
        cel::Value::Uint(u) => {
            Value::Int(i64::try_from(*u).map_err(|_| "unsigned integer overflow".to_owned())?)
        }
        cel::Value::Double(d) => Value::Float(*d),
        cel::Value::String(s) => Value::Str(s.clone()),
        cel::Value::Bytes(bytes) => Value::str(base64::engine::general_purpose::STANDARD.encode(bytes)),
        cel::Value::List(items, _) => {
            let mut out = Vec::with_capacity(items.len());
            for item in items.iter() {
                out.extend(convert(item, depth + 1)?);
            }
            Value::List(out)
        }
        cel::Value::Map(entries) | cel::Value::Object(_, entries) => {
            let mut out = Map::new();
            for (key, value) in entries.iter() {
                if let Some(value) = convert(value, depth + 1)? {
                    out.insert(text_of(key), value);
                }
            }
            Value::Map(out)
        }
        cel::Value::Timestamp(at) => {
            let nanos = i32::try_from(at.nanos).unwrap_or(0);
            let at = jiff::Timestamp::new(at.seconds, nanos).map_err(|e| e.to_string())?;
            Value::str(at.to_string())
        }
        cel::Value::Duration(nanos) => Value::str(schema::time::format_duration(*nanos)),
        cel::Value::Optional(None) => return Ok(None),
        cel::Value::Optional(Some(value)) => return convert(value, depth + 1),
        cel::Value::Type(of) => return Err(format!("unsupported type: type({of})")),
        cel::Value::Host(host) => return Err(format!("unsupported type: {}", host.type_of())),
    }))
}

fn text_of(key: &Key) -> schema::SmolStr {
    match key {
        Key::String(text) => text.clone(),
        other => other.to_string().into(),
    }
}
