//! Messages to values, in the same normal form that JSON decoding gives.

use schema::{
    Catalog, Field, GroupVersion, Kind, Map, Member, Node, Object, Presence, Schema, SmolStr, Value, Variant,
};

use super::wire::{Fields, Payload, wrong};
use super::{Envelope, MAGIC};
use crate::json::zero;
use crate::time;
use crate::{DEPTH_MAX, Error, json, scalar};

/// Opens an envelope.
pub fn unwrap(body: &[u8]) -> Result<Envelope<'_>, Error> {
    let Some(body) = body.strip_prefix(MAGIC) else {
        let reason = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
        return Err(Error::Protobuf(reason.to_owned()));
    };
    let mut envelope = Envelope { api_version: "", kind: "", raw: &[] };
    let mut fields = Fields::new(body);
    while let Some((number, payload)) = fields.next()? {
        match (number, payload) {
            (1, Payload::Bytes(meta)) => {
                let mut fields = Fields::new(meta);
                while let Some((number, payload)) = fields.next()? {
                    match (number, payload) {
                        (1, Payload::Bytes(text)) => envelope.api_version = utf8(text)?,
                        (2, Payload::Bytes(text)) => envelope.kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(raw)) => envelope.raw = raw,
            (3, Payload::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(wrong("unsupported content encoding"));
            }
            _ => {}
        }
    }
    Ok(envelope)
}

/// Decodes an object with its envelope; `apiVersion` and `kind` come from there.
pub fn decode(body: &[u8], schema: &Schema) -> Result<Value, Error> {
    let envelope = unwrap(body)?;
    let mut value = decode_message(envelope.raw, schema)?;
    for (name, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            value.insert(name, text);
        }
    }
    Ok(value)
}

/// Decodes a message without envelope.
pub fn decode_message(message: &[u8], schema: &Schema) -> Result<Value, Error> {
    match schema.root().as_object() {
        Some(object) if !schema.is_custom() => get_object(object, message, 0),
        _ => Err(Error::NoProtobuf("unstructured".to_owned())),
    }
}

type Entries = Vec<(SmolStr, Value)>;

fn get_object(object: Object<'_>, message: &[u8], depth: usize) -> Result<Value, Error> {
    let mut entries = Entries::new();
    get_members(object, message, depth, &mut entries)?;
    entries.retain(|(name, value)| match object.field(name).map(Field::presence) {
        Some(Presence::OmitZero) => !value.is_zero(),
        Some(Presence::Optional | Presence::Always) => !value.is_null(),
        _ => true,
    });
    json::fill(object, &mut entries);
    Ok(Value::Map(Map::from_unsorted(entries)))
}

fn get_members(object: Object<'_>, message: &[u8], depth: usize, entries: &mut Entries) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Depth);
    }
    let mut fields = Fields::new(message);
    while let Some((number, payload)) = fields.next()? {
        match object.member(number) {
            Some(Member::Field(field)) => {
                let entry = entries.iter_mut().find(|(name, _)| name == field.name());
                let old = entry.map(|(_, value)| value.take());
                let value = get_field(field.node(), old, payload, depth)?;
                match entries.iter_mut().find(|(name, _)| name == field.name()) {
                    Some(entry) => entry.1 = value,
                    None => entries.push((field.smol_name().clone(), value)),
                }
            }
            Some(Member::Inline(inline)) => match payload {
                Payload::Bytes(message) => get_members(inline.object, message, depth + 1, entries)?,
                _ => return Err(wire_type(inline.name)),
            },
            None => {}
        }
    }
    Ok(())
}

/// A field's value with one more occurrence; lists and maps collect them.
fn get_field(node: Node<'_>, old: Option<Value>, payload: Payload<'_>, depth: usize) -> Result<Value, Error> {
    match node.kind() {
        Kind::List(items) if !node.wrapped() => {
            let mut list = match old {
                Some(Value::List(list)) => list,
                _ => Vec::new(),
            };
            list.push(get_value(items, payload, depth)?);
            Ok(Value::List(list))
        }
        Kind::Map(values) => {
            let Payload::Bytes(message) = payload else { return Err(wire_type("map")) };
            let mut map = match old {
                Some(Value::Map(map)) => map,
                _ => Map::new(),
            };
            let (mut key, mut value) = ("", zero(values));
            let mut fields = Fields::new(message);
            while let Some((number, payload)) = fields.next()? {
                match (number, payload) {
                    (1, Payload::Bytes(text)) => key = utf8(text)?,
                    (2, payload) => value = get_value(values, payload, depth)?,
                    _ => {}
                }
            }
            map.insert(key, value);
            Ok(Value::Map(map))
        }
        _ => get_value(node, payload, depth),
    }
}

fn get_value(node: Node<'_>, payload: Payload<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match (node.kind(), payload) {
        (Kind::String, Payload::Bytes(text)) => Value::str(utf8(text)?),
        (Kind::Int32, Payload::Varint(i)) => Value::Int(i64::from(i as i32)),
        (Kind::Int64, Payload::Varint(i)) => Value::Int(i as i64),
        (Kind::Boolean, Payload::Varint(i)) => Value::Bool(i != 0),
        (Kind::Number, Payload::Fixed64(bits)) => number(f64::from_bits(bits)),
        (Kind::Bytes, Payload::Bytes(bytes)) => Value::from(scalar::base64_encode(bytes)),
        (Kind::Object(object), Payload::Bytes(message)) => get_object(object, message, depth + 1)?,
        (Kind::List(items), Payload::Bytes(message)) => {
            let mut list = Vec::new();
            let mut fields = Fields::new(message);
            while let Some((number, payload)) = fields.next()? {
                if number == 1 {
                    list.push(get_value(items, payload, depth + 1)?);
                }
            }
            Value::List(list)
        }
        (Kind::Quantity, Payload::Bytes(message)) => scalar::quantity(one_text(message)?)?,
        (Kind::IntOrString, Payload::Bytes(message)) => int_or_string(message)?,
        (Kind::Time | Kind::MicroTime, Payload::Bytes([])) => Value::Null,
        (Kind::Time, Payload::Bytes(message)) => Value::from(time::format(two_ints(message)?.0)),
        (Kind::MicroTime, Payload::Bytes(message)) => {
            let (seconds, nanos) = two_ints(message)?;
            let nanos = u32::try_from(nanos).map_err(|_| wrong("negative nanoseconds"))?;
            Value::from(time::format_micro(seconds, nanos))
        }
        (Kind::Duration, Payload::Bytes(message)) => Value::from(time::format_duration(two_ints(message)?.0)),
        (Kind::Any, Payload::Bytes(message)) => raw(one_bytes(message)?)?,
        (Kind::Variant(kind, schema), Payload::Bytes(message)) => variant(kind, schema, message, depth)?,
        _ => return Err(wire_type(node.type_name())),
    })
}

/// A floating-point number as JSON reads it: whole ones are whole numbers.
fn number(value: f64) -> Value {
    let whole = value as i64;
    if whole as f64 == value { Value::Int(whole) } else { Value::from(value) }
}

fn int_or_string(message: &[u8]) -> Result<Value, Error> {
    let (mut kind, mut int, mut text) = (0, 0, "");
    let mut fields = Fields::new(message);
    while let Some((number, payload)) = fields.next()? {
        match (number, payload) {
            (1, Payload::Varint(i)) => kind = i,
            (2, Payload::Varint(i)) => int = i as i32,
            (3, Payload::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if kind == 1 { Value::str(text) } else { Value::from(int) })
}

/// JSON as bytes, or a whole object with envelope (watch events).
fn raw(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if !bytes.starts_with(MAGIC) {
        return json::parse(bytes);
    }
    let envelope = unwrap(bytes)?;
    let kind = GroupVersion::parse(envelope.api_version).map(|gv| gv.kind(envelope.kind));
    match kind.as_ref().and_then(|kind| Catalog::builtin().kind(kind)) {
        Some(schema) => decode(bytes, schema),
        None => Err(Error::NoProtobuf(envelope.kind.to_owned())),
    }
}

fn variant(kind: Variant, schema: Node<'_>, message: &[u8], depth: usize) -> Result<Value, Error> {
    let (mut allows, mut object, mut list) = (false, None, Vec::new());
    let mut fields = Fields::new(message);
    while let Some((number, payload)) = fields.next()? {
        match (kind, number, payload) {
            (Variant::OrBool, 1, Payload::Varint(i)) => allows = i != 0,
            (Variant::OrBool, 2, payload) | (_, 1, payload) => {
                object = Some(get_value(schema, payload, depth + 1)?);
            }
            (Variant::OrList, 2, payload) => list.push(get_value(schema, payload, depth + 1)?),
            (Variant::OrStrings, 2, Payload::Bytes(text)) => list.push(Value::str(utf8(text)?)),
            _ => {}
        }
    }
    Ok(match (object, kind) {
        (Some(object), _) => object,
        (None, Variant::OrBool) => Value::Bool(allows),
        (None, _) => Value::List(list),
    })
}

fn one_bytes(message: &[u8]) -> Result<&[u8], Error> {
    let mut found: &[u8] = &[];
    let mut fields = Fields::new(message);
    while let Some((number, payload)) = fields.next()? {
        if let (1, Payload::Bytes(bytes)) = (number, payload) {
            found = bytes;
        }
    }
    Ok(found)
}

fn one_text(message: &[u8]) -> Result<&str, Error> {
    utf8(one_bytes(message)?).map(|text| if text.is_empty() { "0" } else { text })
}

fn two_ints(message: &[u8]) -> Result<(i64, i64), Error> {
    let mut ints = (0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, payload)) = fields.next()? {
        match (number, payload) {
            (1, Payload::Varint(i)) => ints.0 = i as i64,
            (2, Payload::Varint(i)) => ints.1 = i as i64,
            _ => {}
        }
    }
    Ok(ints)
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| wrong("invalid UTF-8"))
}

fn wire_type(name: &str) -> Error {
    wrong(&format!("wrong wireType for field {name}"))
}
