//! The v2 document in protobuf, message by message as `openapi.v2` of gnostic numbers its fields.

use schema::Value;

/// The whole document from its JSON form.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    text(1, document.get("swagger"), &mut out);
    message(2, &mut out, |out| {
        text(1, document.at("info.title"), out);
        text(2, document.at("info.version"), out);
    });
    message(8, &mut out, |out| {
        for (path, item) in document.get("paths").map(Value::entries).unwrap_or_default() {
            named(2, path, out, |out| path_item(item, out));
        }
    });
    message(9, &mut out, |out| {
        for (name, definition) in document.get("definitions").map(Value::entries).unwrap_or_default() {
            named(1, name, out, |out| schema(definition, out));
        }
    });
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(number: u32, content: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | 2), out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn message(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    write(&mut content);
    bytes(number, &content, out);
}

/// A `Named...` pair: name and value.
fn named(number: u32, name: &str, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    message(number, out, |out| {
        bytes(1, name.as_bytes(), out);
        message(2, out, write);
    });
}

fn text(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(text) = value.and_then(Value::as_str).filter(|t| !t.is_empty()) {
        bytes(number, text.as_bytes(), out);
    }
}

fn texts(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    value.map(Value::items).unwrap_or_default().iter().for_each(|t| text(number, Some(t), out));
}

fn flag(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    if value.and_then(Value::as_bool) == Some(true) {
        varint(u64::from(number << 3), out);
        out.push(1);
    }
}

fn int(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(value) = value.and_then(Value::as_int).filter(|i| *i != 0) {
        varint(u64::from(number << 3), out);
        varint(value as u64, out);
    }
}

fn double(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(value) = value.and_then(Value::as_f64).filter(|f| *f != 0.0) {
        varint(u64::from(number << 3 | 1), out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// An `Any`, which carries YAML; JSON is YAML.
fn any(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        let mut yaml = super::to_json(value);
        yaml.push(b'\n');
        message(number, out, |out| bytes(2, &yaml, out));
    }
}

fn vendor(number: u32, holder: &Value, out: &mut Vec<u8>) {
    for (name, value) in holder.entries().iter().filter(|(name, _)| name.starts_with("x-")) {
        message(number, out, |out| {
            bytes(1, name.as_bytes(), out);
            any(2, Some(value), out);
        });
    }
}

fn path_item(item: &Value, out: &mut Vec<u8>) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            message(number, out, |out| operation(found, out));
        }
    }
    parameters(9, item, out);
}

fn operation(operation: &Value, out: &mut Vec<u8>) {
    texts(1, operation.get("tags"), out);
    text(5, operation.get("operationId"), out);
    texts(6, operation.get("produces"), out);
    texts(7, operation.get("consumes"), out);
    parameters(8, operation, out);
    message(9, out, |out| {
        for (code, response) in operation.get("responses").map(Value::entries).unwrap_or_default() {
            named(1, code, out, |out| {
                message(1, out, |out| {
                    text(1, response.get("description"), out);
                    if let Some(found) = response.get("schema") {
                        message(2, out, |out| message(1, out, |out| schema(found, out)));
                    }
                });
            });
        }
    });
    vendor(13, operation, out);
}

fn parameters(number: u32, holder: &Value, out: &mut Vec<u8>) {
    for parameter in holder.items_at("parameters") {
        message(number, out, |out| message(1, out, |out| self::parameter(parameter, out)));
    }
}

fn parameter(parameter: &Value, out: &mut Vec<u8>) {
    let part = |name: &str| parameter.get(name);
    match parameter.str_at("in") {
        Some("body") => message(1, out, |out| {
            text(2, part("name"), out);
            text(3, part("in"), out);
            flag(4, part("required"), out);
            if let Some(found) = part("schema") {
                message(5, out, |out| schema(found, out));
            }
        }),
        // The two kinds differ in where what follows the name is numbered.
        place => {
            let (kind, type_number, unique) = if place == Some("path") { (4, 5, 19) } else { (3, 6, 20) };
            message(2, out, |out| {
                message(kind, out, |out| {
                    flag(1, part("required"), out);
                    text(2, part("in"), out);
                    text(4, part("name"), out);
                    text(type_number, part("type"), out);
                    flag(unique, part("uniqueItems"), out);
                });
            });
        }
    }
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    let part = |name: &str| value.get(name);
    for (number, name) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description"), (13, "pattern")] {
        text(number, part(name), out);
    }
    any(5, part("default"), out);
    for (number, name) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        double(number, part(name), out);
    }
    for (number, name) in [(8, "exclusiveMaximum"), (10, "exclusiveMinimum"), (16, "uniqueItems")] {
        flag(number, part(name), out);
    }
    for (number, name) in [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ] {
        int(number, part(name), out);
    }
    texts(19, part("required"), out);
    part("enum").map(Value::items).unwrap_or_default().iter().for_each(|v| any(20, Some(v), out));
    match part("additionalProperties") {
        Some(values @ Value::Map(_)) => message(21, out, |out| message(1, out, |out| schema(values, out))),
        Some(allowed @ Value::Bool(_)) => message(21, out, |out| flag(2, Some(allowed), out)),
        _ => {}
    }
    if let Some(kind) = part("type") {
        message(22, out, |out| text(1, Some(kind), out));
    }
    if let Some(items) = part("items") {
        message(23, out, |out| message(1, out, |out| schema(items, out)));
    }
    if let Some(properties) = part("properties") {
        message(25, out, |out| {
            for (name, property) in properties.entries() {
                named(1, name, out, |out| schema(property, out));
            }
        });
    }
    vendor(31, value, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn a_small_document() {
        let out = document(&value!({"swagger": "2.0", "info": {"title": "T", "version": "V"}, "paths": {},
            "definitions": {"a": {"type": "object", "x-y": [1]}}}));
        let head = b"\x0a\x032.0\x12\x06\x0a\x01T\x12\x01V\x42\x00\x4a\x22\x0a\x20\x0a\x01a\x12\x1b";
        assert_eq!(&out[..head.len()], head);
        assert_eq!(
            &out[head.len()..],
            b"\xb2\x01\x08\x0a\x06object\xfa\x01\x0d\x0a\x03x-y\x12\x06\x12\x04[1]\n"
        );
    }
}
