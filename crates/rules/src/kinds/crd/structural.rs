//! Structural schemas (KEP-1111, `apiserver/schema`): every field has one type, quantors add no structure.

use schema::{Schema, Value};

use super::openapi::TYPES;
use crate::field::{BadValue, ErrorKind, Errors, FieldError};
use crate::{Cursor, prune, validate_custom};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural, sorted.
pub(super) fn validate_structural(root: &Cursor<'_>) -> Errors {
    let mut out = Errors::new();
    validate(root, Level::Root, &mut out);
    for quantor in quantors(root.value) {
        complete(&quantor.of(root), root.value, root, &mut out);
    }
    out.sort_by_cached_key(ToString::to_string);
    out
}

/// One schema among the quantors of another.
struct Quantor {
    name: &'static str,
    index: Option<usize>,
}

fn quantors(value: &Value) -> Vec<Quantor> {
    let mut all: Vec<Quantor> = Vec::new();
    if !value["not"].is_null() {
        all.push(Quantor { name: "not", index: None });
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        all.extend((0..value[name].items().len()).map(|i| Quantor { name, index: Some(i) }));
    }
    all
}

impl Quantor {
    /// The quantor's schema below `c`, whose path is written out as this is rarely needed.
    fn of<'a>(&self, c: &Cursor<'a>) -> Nested<'a> {
        let value = match self.index {
            Some(i) => &c.value[self.name][i],
            None => &c.value[self.name],
        };
        let at = self.index.map_or(String::new(), |i| format!("[{i}]"));
        Nested { value, path: format!("{}.{}{at}", c.path, self.name) }
    }
}

/// A schema within a quantor.
struct Nested<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Nested<'a> {
    fn child(&self, value: &'a Value, step: &str) -> Self {
        Nested { value, path: format!("{}.{step}", self.path) }
    }

    fn cursor(&self) -> Cursor<'_> {
        Cursor::new(self.value, crate::Path::new(&self.path))
    }
}

/// Fields that a quantor speaks of must be in the structure: `structure` at `at`.
fn complete(nested: &Nested<'_>, structure: &Value, at: &Cursor<'_>, out: &mut Errors) {
    let required = |path: &crate::Path<'_>, by: &str| {
        FieldError::required(path, format!("because it is defined in {by}"))
    };
    let cursor = nested.cursor();
    for quantor in quantors(nested.value) {
        complete(&quantor.of(&cursor), structure, at, out);
    }
    let items = &nested.value["items"];
    if !items.is_null() {
        let (inner, below) = (nested.child(items, "items"), at.field("items"));
        match structure["items"].is_null() {
            true => out.push(required(&below.path, &inner.path)),
            false => complete(&inner, &structure["items"], &below, out),
        }
    }
    let (properties, any) = (at.field("properties"), &structure["additionalProperties"]);
    for (name, value) in nested.value["properties"].entries() {
        let inner = nested.child(value, &format!("properties[{name}]"));
        let below = properties.key(name);
        match structure["properties"].get(name) {
            Some(found) => complete(&inner, found, &below, out),
            None if matches!(any, Value::Map(_)) => complete(&inner, any, &below, out),
            None => out.push(required(&below.path, &inner.path)),
        }
    }
}

fn validate(c: &Cursor<'_>, level: Level, out: &mut Errors) {
    let (kind, items) = (c.field("type"), c.field("items"));
    if kind.text() == "array" && !items.is_set() {
        items.required(out, "must be specified");
    }
    if matches!(items.value, Value::Map(_)) {
        validate(&items, Level::Item, out);
    }
    let (properties, additional) = (c.field("properties"), c.field("additionalProperties"));
    for (name, _) in properties.entries() {
        validate(&properties.key(name), Level::Field, out);
    }
    if level == Level::Root && additional.is_set() {
        additional.forbidden(out, "must not be used at the root");
    }
    if matches!(additional.value, Value::Map(_)) {
        validate(&additional, Level::Field, out);
    }
    validate_extensions(c, out);
    validate_values(
        c,
        is_int_or_string(&c.value["anyOf"]),
        is_int_or_string(&c.value["allOf"][0]["anyOf"]),
        out,
    );
    validate_type(c, level, out);
    if level == Level::Root || c.bool_of("x-kubernetes-embedded-resource") {
        validate_object_fields(&properties, level, out);
    }
}

fn validate_extensions(c: &Cursor<'_>, out: &mut Errors) {
    if !c.bool_of("x-kubernetes-int-or-string") {
        return;
    }
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if c.bool_of(name) {
            c.field(name).invalid(out, "must be false if x-kubernetes-int-or-string is true");
        }
    }
}

fn validate_type(c: &Cursor<'_>, level: Level, out: &mut Errors) {
    let kind = c.field("type");
    let embedded = c.bool_of("x-kubernetes-embedded-resource");
    let open = c.bool_of("x-kubernetes-preserve-unknown-fields");
    if embedded && kind.text() != "object" {
        const WHOLE: &str = "must be object if x-kubernetes-embedded-resource is true";
        match kind.text().is_empty() {
            true => kind.required(out, WHOLE),
            false => kind.invalid(out, WHOLE),
        }
    } else if kind.text().is_empty() && !open && !c.bool_of("x-kubernetes-int-or-string") {
        kind.required(
            out,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if embedded && c.has("additionalProperties") {
        c.field("additionalProperties")
            .forbidden(out, "must not be used if x-kubernetes-embedded-resource is set");
    }
    if embedded && !open && c.value["properties"].is_zero() {
        c.field("properties").required(
            out,
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
    if level == Level::Root && !kind.text().is_empty() && kind.text() != "object" {
        kind.invalid(out, "must be object at the root");
    }
}

/// `kind`, `apiVersion` and `metadata` of a whole object are as they are; little may be said of them.
fn validate_object_fields(properties: &Cursor<'_>, level: Level, out: &mut Errors) {
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let field = properties.key(name);
        if field.is_set() && field.text_of("type") != wanted {
            let kind = field.field("type");
            kind.invalid_as(out, kind.text(), format!("must be {wanted}"));
        }
    }
    let metadata = properties.key("metadata");
    let names_only = |fields: &Value| {
        fields.entries().iter().all(|(name, _)| matches!(name.as_str(), "name" | "generateName"))
    };
    let plain = metadata.value.entries().iter().all(|(name, value)| match name.as_str() {
        "type" | "default" => true,
        "properties" => names_only(value),
        _ => value.is_zero(),
    });
    if level == Level::Root && !plain {
        metadata.forbidden(
            out,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

/// The one quantor over types that is allowed.
fn is_int_or_string(any_of: &Value) -> bool {
    let only = |value: &Value, kind: &str| matches!(value.entries(), [(name, v)] if name == "type" && v.as_str() == Some(kind));
    matches!(any_of.items(), [a, b] if only(a, "integer") && only(b, "string"))
}

/// Quantors and pattern of a schema or of a quantor's schema.
fn validate_values(c: &Cursor<'_>, skip_any: bool, skip_first_all: bool, out: &mut Errors) {
    for quantor in quantors(c.value) {
        if skip_any && quantor.name == "anyOf" {
            continue;
        }
        let skip = skip_first_all && quantor.name == "allOf" && quantor.index == Some(0);
        validate_nested(&quantor.of(c), skip, out);
    }
    let pattern = c.field("pattern");
    if !pattern.text().is_empty()
        && let Err(error) = cel::regex(pattern.text())
    {
        pattern.invalid(out, format!("must be a valid regular expression, but isn't: {error}"));
    }
}

/// Quantors may not add structure.
fn validate_nested(nested: &Nested<'_>, skip_any: bool, out: &mut Errors) {
    const UNSET: [(&str, &str); 13] = [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ];
    let c = nested.cursor();
    validate_values(&c, skip_any, false, out);
    if matches!(nested.value["items"], Value::Map(_)) {
        validate_nested(&nested.child(&nested.value["items"], "items"), false, out);
    }
    for (name, value) in nested.value["properties"].entries() {
        validate_nested(&nested.child(value, &format!("properties[{name}]")), false, out);
    }
    for (name, must) in UNSET {
        let field = c.field(name);
        let there = if must == "undefined" { field.is_set() } else { !field.is_empty() };
        if there {
            field.forbidden(out, format!("must be {must} to be structural"));
        }
    }
    if !nested.value["properties"]["metadata"].is_null() {
        let properties = c.field("properties");
        properties.key("metadata").forbidden(out, "must not be specified in a nested context");
    }
}

/// Defaults must be valid by their own schema. Those below `additionalProperties` are not looked at, as upstream.
pub(super) fn validate_defaults(c: &Cursor<'_>, out: &mut Errors) {
    let default = c.field("default");
    if default.is_set() {
        validate_default(c.value, &default, out);
    }
    let (properties, items) = (c.field("properties"), c.field("items"));
    for (name, _) in properties.entries() {
        validate_defaults(&properties.key(name), out);
    }
    if matches!(items.value, Value::Map(_)) {
        validate_defaults(&items, out);
    }
}

fn validate_default(openapi: &Value, default: &Cursor<'_>, out: &mut Errors) {
    let kind = openapi["type"].as_str().unwrap_or("");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        let found = match default.value {
            Value::Str(_) => "string",
            Value::Bool(_) => "boolean",
            Value::List(_) => "array",
            Value::Map(_) => "object",
            Value::Int(_) => "integer",
            _ => "number",
        };
        let detail = format!(" in body must be of type {kind}: {found:?}");
        out.push(FieldError::new(ErrorKind::TypeInvalid, &default.path, BadValue::from(found), detail));
        return;
    }
    // A schema that cannot be read has been reported elsewhere.
    let Ok(schema) = Schema::from_openapi(openapi, false) else { return };
    let mut pruned = default.value.clone();
    if !prune(schema.root(), &mut pruned, false).is_empty() {
        return default.invalid(out, "must not have unknown fields");
    }
    for mut error in validate_custom(schema.root(), default.value, false) {
        error.field = match error.field.is_empty() || error.field.starts_with('[') {
            true => format!("{}{}", default.path, error.field),
            false => format!("{}.{}", default.path, error.field),
        };
        out.push(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use schema::value;

    fn errors(schema: &Value) -> Vec<String> {
        let c = Cursor::new(schema, Path::new("s"));
        let mut out = validate_structural(&c);
        validate_defaults(&c, &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tables() {
        let structural = value!({"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "names": {"type": "array", "items": {"type": "string", "default": "a"}},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}
        }, "anyOf": [{"required": ["port"]}, {"properties": {"names": {"minItems": 1}}}]});
        assert_eq!(errors(&structural), Vec::<String>::new());
        for (schema, error) in [
            (
                value!({"type": "array", "items": {"type": "string"}}),
                "s.type: Invalid value: \"array\": must be object at the root",
            ),
            (
                value!({"type": "object", "properties": {"a": {"type": "array"}}}),
                "s.properties[a].items: Required value: must be specified",
            ),
            (
                value!({"type": "object", "not": {"properties": {"a": {"minimum": 1}}}}),
                "s.properties[a]: Required value: because it is defined in s.not.properties[a]",
            ),
            (
                value!({"type": "object", "allOf": [{"type": "object"}]}),
                "s.allOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                value!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but \
                 metadata is implicitly specified",
            ),
            (
                value!({"type": "object", "properties": {"a": {"type": "object", "default": {"b": 1}, "properties": {"c": {"type": "string"}}}}}),
                "s.properties[a].default: Invalid value: {\"b\":1}: must not have unknown fields",
            ),
        ] {
            assert_eq!(errors(&schema), [error]);
        }
    }
}
