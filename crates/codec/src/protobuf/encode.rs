//! Values to messages.

use schema::{Field, Kind, Map, Member, Node, Object, Schema, Value, Variant};

use super::MAGIC;
use super::wire::{BYTES, FIXED64, put_bytes, put_int, put_message, put_tag, put_varint};
use crate::time::{self, Layout};
use crate::{Error, json, scalar};

/// Bytes of an envelope after its message: two empty fields.
const ENVELOPE_END: usize = 4;

/// An object with its envelope. `apiVersion` and `kind` of the object go there and nowhere else.
pub fn encode(value: &Value, schema: &Schema) -> Result<Vec<u8>, Error> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(wrap(text("apiVersion"), text("kind"), &encode_message(value, schema)?))
}

/// An envelope around an encoded message.
pub fn wrap(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = wrap_start(api_version, kind, message.len());
    out.reserve_exact(message.len() + ENVELOPE_END);
    out.extend_from_slice(message);
    out.extend_from_slice(&wrap_end());
    out
}

/// An envelope as far as a message of that many bytes.
pub(crate) fn wrap_start(api_version: &str, kind: &str, message_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(MAGIC);
    let type_meta = |out: &mut Vec<u8>| {
        put_bytes(1, api_version.as_bytes(), out);
        put_bytes(2, kind.as_bytes(), out);
        Ok::<(), Error>(())
    };
    // Infallible: the writer above only appends.
    let _ = put_message(1, &mut out, type_meta);
    put_tag(2, BYTES, &mut out);
    put_varint(message_bytes as u64, &mut out);
    out
}

/// An envelope after its message.
pub(crate) fn wrap_end() -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_END);
    put_bytes(3, b"", &mut out);
    put_bytes(4, b"", &mut out);
    out
}

/// An object's message without envelope, as lists hold it.
pub fn encode_message(value: &Value, schema: &Schema) -> Result<Vec<u8>, Error> {
    let root = schema.root();
    let (Some(object), false) = (root.as_object(), schema.is_custom()) else {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or("unstructured");
        return Err(Error::NoProtobuf(kind.to_owned()));
    };
    if object.members().next().is_none() && object.fields().len() > 0 {
        return Err(Error::NoProtobuf(object.name().to_owned()));
    }
    let map = value.as_map().ok_or_else(|| unfit(root, value))?;
    let mut out = Vec::with_capacity(512);
    put_object(object, map, &mut out)?;
    Ok(out)
}

fn put_object(object: Object<'_>, map: &Map, out: &mut Vec<u8>) -> Result<(), Error> {
    // Most fields of most objects are absent: few of them have to be looked for.
    let present = map.keys().fold(0, |marks, key| marks | mark(key));
    for member in object.members() {
        match member {
            Member::Field(field) => {
                let name = field.name();
                let value = if present & mark(name) == 0 { None } else { map.get(name) };
                put_field(field, value, out)?;
            }
            Member::Inline(inline) => {
                put_message(inline.proto.number, out, |out| put_object(inline.object, map, out))?;
            }
        }
    }
    Ok(())
}

/// One bit of a name, the same for equal names.
fn mark(name: &str) -> u64 {
    match name.as_bytes() {
        [first, .., last] => 1 << ((name.len() * 5 + usize::from(*first) * 3 + usize::from(*last)) % 64),
        _ => 1,
    }
}

fn put_field(field: Field<'_>, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some(proto) = field.proto() else { return Ok(()) };
    match value {
        Some(value) if !value.is_null() => put_value(proto.number, field.node(), value, out),
        _ if proto.always => put_zero(proto.number, field.node(), out),
        _ => Ok(()),
    }
}

fn put_value(number: u32, node: Node<'_>, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    match (node.kind(), value) {
        (Kind::String, Value::Str(text)) => put_bytes(number, text.as_bytes(), out),
        (Kind::Int32 | Kind::Int64, Value::Int(i)) => put_int(number, *i, out),
        (Kind::Boolean, Value::Bool(b)) => put_int(number, i64::from(*b), out),
        (Kind::Number, Value::Int(_) | Value::Float(_)) => {
            put_tag(number, FIXED64, out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        (Kind::Bytes, Value::Str(text)) => put_bytes(number, &scalar::base64_decode(text)?, out),
        (Kind::Object(object), Value::Map(map)) => {
            put_message(number, out, |out| put_object(object, map, out))?;
        }
        (Kind::List(items), Value::List(list)) if node.wrapped() => {
            put_message(number, out, |out| list.iter().try_for_each(|item| put_value(1, items, item, out)))?
        }
        (Kind::List(items), Value::List(list)) => {
            for item in list {
                match item {
                    Value::Null => put_zero(number, items, out)?,
                    item => put_value(number, items, item, out)?,
                }
            }
        }
        (Kind::Map(values), Value::Map(map)) => {
            for (key, value) in map {
                put_message(number, out, |out| {
                    put_bytes(1, key.as_bytes(), out);
                    if value.is_null() { put_zero(2, values, out) } else { put_value(2, values, value, out) }
                })?;
            }
        }
        (Kind::Quantity, Value::Str(text)) => {
            put_message(number, out, |out| {
                put_bytes(1, text.as_bytes(), out);
                Ok::<(), Error>(())
            })?;
        }
        (Kind::IntOrString, Value::Int(i)) => put_int_or_string(number, 0, *i, "", out)?,
        (Kind::IntOrString, Value::Str(text)) => put_int_or_string(number, 1, 0, text, out)?,
        (Kind::Time, Value::Str(text)) => put_time(number, text, Layout::Seconds, out)?,
        (Kind::MicroTime, Value::Str(text)) => put_time(number, text, Layout::Micros, out)?,
        (Kind::Duration, Value::Str(text)) => {
            let nanos = time::parse_duration(text).map_err(Error::Type)?;
            put_message(number, out, |out| {
                put_int(1, nanos, out);
                Ok::<(), Error>(())
            })?;
        }
        (Kind::Any, value) => put_message(number, out, |out| {
            put_bytes(1, &json::encode(value), out);
            Ok::<(), Error>(())
        })?,
        (Kind::Variant(variant, schema), value) => put_variant(number, variant, schema, value, out)?,
        _ => return Err(unfit(node, value)),
    }
    Ok(())
}

fn put_int_or_string(number: u32, kind: i64, int: i64, text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    put_message(number, out, |out| {
        put_int(1, kind, out);
        put_int(2, int, out);
        put_bytes(3, text.as_bytes(), out);
        Ok(())
    })
}

fn put_time(number: u32, text: &str, layout: Layout, out: &mut Vec<u8>) -> Result<(), Error> {
    let (seconds, nanos) = time::parse(text, layout).map_err(Error::Type)?;
    put_message(number, out, |out| {
        put_int(1, seconds, out);
        // `metav1.Time` keeps whole seconds only.
        put_int(2, if layout == Layout::Micros { i64::from(nanos) } else { 0 }, out);
        Ok(())
    })
}

fn put_variant(
    number: u32,
    variant: Variant,
    schema: Node<'_>,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    put_message(number, out, |out| match (variant, value) {
        (Variant::OrBool, Value::Bool(allows)) => {
            put_int(1, i64::from(*allows), out);
            Ok(())
        }
        (Variant::OrBool, Value::Map(_)) => {
            put_int(1, 1, out);
            put_value(2, schema, value, out)
        }
        (_, Value::Map(_)) => put_value(1, schema, value, out),
        (Variant::OrList, Value::List(list)) => list.iter().try_for_each(|s| put_value(2, schema, s, out)),
        (Variant::OrStrings, Value::List(list)) => {
            list.iter().filter_map(Value::as_str).for_each(|s| put_bytes(2, s.as_bytes(), out));
            Ok(())
        }
        _ => Err(unfit(schema, value)),
    })
}

/// What Go writes for a plain field that holds its zero value.
fn put_zero(number: u32, node: Node<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match node.kind() {
        Kind::String | Kind::Bytes => put_bytes(number, b"", out),
        Kind::Int32 | Kind::Int64 | Kind::Boolean => put_int(number, 0, out),
        Kind::Number => {
            put_tag(number, FIXED64, out);
            out.extend_from_slice(&[0; 8]);
        }
        Kind::Object(object) => put_message(number, out, |out| put_object(object, &Map::new(), out))?,
        Kind::Quantity => put_value(number, node, &Value::str("0"), out)?,
        Kind::IntOrString => put_int_or_string(number, 0, 0, "", out)?,
        Kind::Duration => put_value(number, node, &Value::str("0s"), out)?,
        Kind::Variant(Variant::OrBool, _) => put_value(number, node, &Value::Bool(false), out)?,
        Kind::List(_) | Kind::Map(_) if !node.wrapped() => {}
        _ => put_bytes(number, b"", out),
    }
    Ok(())
}

fn unfit(node: Node<'_>, value: &Value) -> Error {
    Error::Type(format!("{} does not fit {node:?}", value.type_name()))
}
