//! Whether a patched object still fits its type, told in the words of upstream's conversion from maps to structs.

use schema::{Kind, Node, Value};

/// Checks `value` against `node`. The error is the first misfit, e.g. `unrecognized type: int32`.
///
/// The patch handler answers it as `patch: Invalid value: "map[…]": <error>`.
pub fn check_convertible(value: &Value, node: Node<'_>) -> Result<(), String> {
    match (node.kind(), value) {
        (_, Value::Null) | (Kind::Any | Kind::Variant(..), _) => Ok(()),
        (Kind::Object(object), Value::Map(map)) => map.iter().try_for_each(|(name, value)| {
            object.field(name).map_or(Ok(()), |field| check_convertible(value, field.node()))
        }),
        (Kind::Map(values), Value::Map(map)) => {
            map.values().try_for_each(|value| check_convertible(value, values))
        }
        (Kind::List(items), Value::List(list)) => {
            list.iter().try_for_each(|value| check_convertible(value, items))
        }
        (Kind::Object(_), other) => Err(format!("cannot restore struct from: {}", go_kind(other))),
        (Kind::Map(_), other) => Err(format!("cannot restore map from {}", go_kind(other))),
        (Kind::List(_), other) => Err(format!("cannot restore slice from {}", go_kind(other))),
        (Kind::String, Value::Str(_))
        | (Kind::Int32 | Kind::Int64 | Kind::Number, Value::Int(_))
        | (Kind::Number, Value::Float(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::IntOrString | Kind::Quantity, Value::Int(_) | Value::Str(_) | Value::Float(_))
        | (Kind::Time | Kind::MicroTime | Kind::Duration | Kind::Bytes, Value::Str(_)) => Ok(()),
        (Kind::Int32 | Kind::Int64, Value::Float(number)) if number.fract() == 0.0 => Ok(()),
        (Kind::String, _) => Err("unrecognized type: string".to_owned()),
        (Kind::Int32, _) => Err("unrecognized type: int32".to_owned()),
        (Kind::Int64, _) => Err("unrecognized type: int64".to_owned()),
        (Kind::Number, _) => Err("unrecognized type: float64".to_owned()),
        (Kind::Boolean, _) => Err("unrecognized type: bool".to_owned()),
        (_, other) => Err(format!("error decoding from json: cannot unmarshal {}", other.type_name())),
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::Str(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
    }
}
