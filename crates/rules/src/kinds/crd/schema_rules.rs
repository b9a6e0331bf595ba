//! Schemas of custom resources: what OpenAPI v3 may say there, and that they are structural.

use schema::Value;

use crate::kinds::rbac::not_supported;
use crate::Cursor;
use crate::field::{BadValue, ErrorKind, Errors, FieldError, quote};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What a path leads to.
pub(super) enum Found {
    /// No field.
    Nothing,
    /// A field of metadata.
    Metadata,
    /// A string, boolean or integer.
    Scalar,
    /// A field of another type.
    Other,
}

/// Follows `properties` by names.
pub(super) fn find_field(schema: &Value, names: &[&str]) -> Found {
    if names.first() == Some(&"metadata") {
        return Found::Metadata;
    }
    let field = names.iter().try_fold(schema, |schema, name| schema["properties"].get(name));
    match field {
        None => Found::Nothing,
        Some(field) => match field["type"].as_str() {
            Some("string" | "boolean" | "integer") => Found::Scalar,
            _ => Found::Other,
        },
    }
}

/// Checks the schema of a version.
pub(super) fn validate_root(root: &Cursor<'_>, out: &mut Errors) {
    if root.bool_of("nullable") {
        root.field("nullable").forbidden(out, "nullable cannot be true at the root");
    }
    match root.text_of("type") {
        "" => root.field("type").required(out, "must not be empty at the root"),
        "object" => {}
        kind if TYPES.contains(&kind) => root.field("type").invalid(out, "must be object at the root"),
        _ => {}
    }
    validate_typed(root, out);
    validate_schema(root, true, out);
}

/// Every specified field says its type, outside of logical combinations.
fn validate_typed(c: &Cursor<'_>, out: &mut Errors) {
    let needs_type = |schema: &Cursor<'_>| {
        schema.map().is_some()
            && schema.text_of("type").is_empty()
            && !schema.bool_of("x-kubernetes-int-or-string")
            && !schema.bool_of("x-kubernetes-preserve-unknown-fields")
    };
    const FIELDS: &str = "must not be empty for specified object fields";
    let properties = c.field("properties");
    for (name, value) in properties.entries() {
        let field = Cursor::new(value, properties.path.key(name));
        if needs_type(&field) {
            field.field("type").required(out, FIELDS);
        }
        validate_typed(&field, out);
    }
    for (name, words) in
        [("additionalProperties", FIELDS), ("items", "must not be empty for specified array items")]
    {
        let child = c.field(name);
        if needs_type(&child) {
            child.field("type").required(out, words);
        }
        if child.map().is_some() {
            validate_typed(&child, out);
        }
    }
    if c.bool_of("x-kubernetes-embedded-resource") && c.text_of("type") != "object" {
        c.field("type").invalid_as(
            out,
            c.text_of("type"),
            "must be object if x-kubernetes-embedded-resource is true",
        );
    }
    if c.bool_of("x-kubernetes-int-or-string") && c.has("type") && !c.text_of("type").is_empty() {
        c.field("type").invalid(out, "must be empty if x-kubernetes-int-or-string is true");
    }
    if c.text_of("type") == "array" && !c.has("items") {
        c.field("items").required(out, "must be specified");
    }
}

/// One schema and those within it. `plain` is false inside of logical combinations.
fn validate_schema(c: &Cursor<'_>, plain: bool, out: &mut Errors) {
    validate_vocabulary(c, plain, out);
    let properties = c.field("properties");
    let additional = c.field("additionalProperties");
    if !properties.is_empty() && (additional.map().is_some() || additional.value.as_bool() == Some(false)) {
        additional.forbidden(out, "additionalProperties and properties are mutual exclusive");
    }
    if additional.map().is_some() {
        validate_schema(&additional, plain, out);
    }
    for (name, value) in properties.entries() {
        validate_schema(&Cursor::new(value, properties.path.key(name)), plain, out);
    }
    let items = c.field("items");
    match items.value {
        Value::Map(_) => validate_schema(&items, plain, out),
        Value::List(_) => items.forbidden(out, "items must be a schema object and not an array"),
        _ => {}
    }
    let not = c.field("not");
    if not.is_set() {
        validate_schema(&not, false, out);
    }
    for list in ["allOf", "oneOf", "anyOf"] {
        c.field(list).items().for_each(|schema| validate_schema(&schema, false, out));
    }
    validate_extensions(c, out);
    for rule in c.field("x-kubernetes-validations").items() {
        validate_rule(&rule, out);
    }
}

fn validate_vocabulary(c: &Cursor<'_>, plain: bool, out: &mut Errors) {
    let kind = c.field("type");
    match kind.text() {
        "null" => kind.forbidden(out, "type cannot be set to null, use nullable as an alternative"),
        "" => {}
        text if TYPES.contains(&text) => {}
        _ => kind.not_supported(out, &TYPES),
    }
    for field in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if !c.field(field).is_empty() {
            c.field(field).forbidden(out, format!("{field} is not supported"));
        }
    }
    if c.bool_of("uniqueItems") {
        c.field("uniqueItems").forbidden(
            out,
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let default = c.field("default");
    if !default.is_set() {
        return;
    }
    match plain {
        true => validate_default(c, &default, out),
        false => default.forbidden(out, "must be undefined to be structural"),
    }
}

/// A default must be of the field's type and among its choices.
fn validate_default(c: &Cursor<'_>, default: &Cursor<'_>, out: &mut Errors) {
    let fits = match (c.text_of("type"), default.value) {
        (_, Value::Null) => c.bool_of("nullable"),
        ("string", Value::Str(_)) | ("boolean", Value::Bool(_)) | ("integer", Value::Int(_)) => true,
        ("number", Value::Int(_) | Value::Float(_)) => true,
        ("object", Value::Map(_)) | ("array", Value::List(_)) | ("", _) => true,
        _ => false,
    };
    if !fits {
        let (kind, given) = (c.text_of("type"), default.value.type_name());
        let shown = if given == "bool" { "boolean" } else { given };
        let words = format!(" in body must be of type {kind}: {}", quote(shown));
        return out.push(FieldError::new(ErrorKind::TypeInvalid, &default.path, shown, words));
    }
    let choices = c.field("enum");
    if !choices.is_empty() && !choices.value.items().contains(default.value) {
        let texts: Vec<String> = choices
            .value
            .items()
            .iter()
            .map(|v| v.as_str().map_or_else(|| quote(&crate::field::json(v)), quote))
            .collect();
        let words = format!("supported values: {}", texts.join(", "));
        out.push(FieldError::new(ErrorKind::NotSupported, &default.path, BadValue::from(default.value), words));
    }
}

fn must_be(c: &Cursor<'_>, wanted: &str, extension: &str, out: &mut Errors) {
    let kind = c.field("type");
    let words = format!("must be {wanted} if {extension} is specified");
    match kind.text() {
        text if text == wanted => {}
        "" => kind.required(out, words),
        _ => kind.invalid(out, words),
    }
}

fn validate_extensions(c: &Cursor<'_>, out: &mut Errors) {
    let preserve = c.field("x-kubernetes-preserve-unknown-fields");
    if preserve.value.as_bool() == Some(false) {
        preserve.invalid(out, "must be true or undefined");
    }
    let (map, list, keys) =
        (c.field("x-kubernetes-map-type"), c.field("x-kubernetes-list-type"), c.field("x-kubernetes-list-map-keys"));
    if map.is_set() {
        must_be(c, "object", "x-kubernetes-map-type", out);
        map.among(out, &["atomic", "granular"]);
    }
    if list.is_set() {
        must_be(c, "array", "x-kubernetes-list-type", out);
        let choices = ["atomic", "set", "map"];
        if !choices.contains(&list.text()) {
            not_supported(&list, &choices, out);
        }
    }
    if !keys.is_empty() {
        const MAP: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        match (list.is_set(), list.text()) {
            (false, _) => list.required(out, MAP),
            (true, "map") => {}
            _ => list.invalid(out, MAP),
        }
    }
    if list.text() != "map" {
        return;
    }
    if keys.is_empty() {
        keys.required(out, "must not be empty if x-kubernetes-list-type is map");
    }
    let items = c.field("items");
    if !items.is_set() {
        return items.required(out, "must have a schema if x-kubernetes-list-type is map");
    }
    if items.text_of("type") != "object" {
        items.field("type").invalid_as(
            out,
            items.text_of("type"),
            "must be object if parent array's x-kubernetes-list-type is map",
        );
    }
    for (i, key) in keys.items().enumerate() {
        if items.value["properties"].get(key.text()).is_none() {
            key.invalid(out, "entries must all be names of item properties");
        }
        if keys.value.items()[..i].contains(key.value) {
            key.duplicate(out);
        }
    }
}

/// A CEL rule but for its expression.
fn validate_rule(c: &Cursor<'_>, out: &mut Errors) {
    if c.text_of("rule").trim().is_empty() {
        c.field("rule").required(out, "rule is not specified");
    }
    let (message, expression) = (c.field("message"), c.field("messageExpression"));
    if !message.text().is_empty() && message.text().trim().is_empty() {
        message.invalid(out, "message must be non-empty if specified");
    } else if message.text().trim().contains(['\n', '\r']) {
        message.invalid(out, "message must not contain line breaks");
    } else if message.text().trim().is_empty() && c.text_of("rule").trim().contains(['\n', '\r']) {
        message.required(out, "message must be specified if rule contains line breaks");
    }
    if !expression.text().is_empty() && expression.text().trim().is_empty() {
        expression.required(out, "messageExpression must be non-empty if specified");
    }
    if c.has("reason") {
        c.field("reason").among(
            out,
            &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn schemas() {
        for (schema, errors) in [
            (value!({"type": "object", "properties": {"a": {"type": "string"}}}), "[]"),
            (value!({}), "type: Required value: must not be empty at the root"),
            (
                value!({"type": "object", "properties": {"a": {}}}),
                "properties[a].type: Required value: must not be empty for specified object fields",
            ),
            (
                value!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"], "default": "y"}}}),
                "properties[a].default: Unsupported value: \"y\": supported values: \"x\"",
            ),
        ] {
            let mut out = Errors::new();
            validate_root(&Cursor::root(&schema), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
