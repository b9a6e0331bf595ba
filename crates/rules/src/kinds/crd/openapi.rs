//! The schema of a version, as OpenAPI: what upstream's version of it leaves out, list and map types, rules' form.

use schema::Value;

use super::parts::find;
use super::rules::validate_rules;
use super::structural::{validate_defaults, validate_structural};
use crate::Cursor;
use crate::field::Errors;

pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What may stand at the root of a schema whose status is checked apart, by the names of Go's fields.
const AT_ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];
const METADATA_FIELDS: [&str; 3] = ["metadata", "kind", "apiVersion"];
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// `validateCustomResourceDefinitionValidation`: `c` holds `openAPIV3Schema`.
pub(super) fn validate_schema(c: &Cursor<'_>, status: bool, out: &mut Errors) {
    let root = c.field("openAPIV3Schema");
    if !root.is_set() {
        return;
    }
    if status {
        validate_root(&root, out);
    }
    if root.bool_of("nullable") {
        root.field("nullable").forbidden(out, "nullable cannot be true at the root");
    }
    let mut structural = validate_structural(&root);
    if structural.is_empty() {
        validate_defaults(&root, &mut structural);
    }
    let is_structural = structural.is_empty();
    out.append(&mut structural);
    let mut node = Errors::new();
    validate_node(&root, &Inside::default(), true, &mut node);
    if is_structural {
        let mut rules = Errors::new();
        validate_rules(&root, &node, &mut rules);
        node.append(&mut rules);
    }
    out.append(&mut node);
}

fn validate_root(root: &Cursor<'_>, out: &mut Errors) {
    let kind = root.field("type");
    if !kind.text().is_empty() && kind.text() != "object" {
        kind.invalid(
            out,
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
    }
    let other = |(name, value): &(schema::SmolStr, Value)| {
        !value.is_zero() && !AT_ROOT.iter().any(|(_, json)| json == name)
    };
    if root.value.entries().iter().any(other) {
        let names: Vec<&str> = AT_ROOT.iter().map(|(go, _)| *go).collect();
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        root.invalid(out, detail);
    }
}

/// Where in a schema another one stands.
#[derive(Default, Clone)]
struct Inside {
    metadata: bool,
    /// Why there may be no default.
    no_default: Option<String>,
}

fn validate_node(c: &Cursor<'_>, inside: &Inside, root: bool, out: &mut Errors) {
    if !c.is_set() {
        return;
    }
    validate_supported(c, inside, out);
    if c.bool_of("uniqueItems") {
        c.field("uniqueItems").forbidden(
            out,
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    validate_children(c, inside, root, out);
    let preserve = c.field("x-kubernetes-preserve-unknown-fields");
    if preserve.is_set() && !preserve.bool() {
        preserve.invalid(out, "must be true or undefined");
    }
    validate_map_type(c, out);
    validate_list_type(c, out);
    for rule in c.field("x-kubernetes-validations").items() {
        validate_rule(&rule, c.value, out);
    }
}

/// What OpenAPI has and custom resources have not.
fn validate_supported(c: &Cursor<'_>, inside: &Inside, out: &mut Errors) {
    let kind = c.field("type");
    if !kind.text().is_empty() && !TYPES.contains(&kind.text()) {
        kind.not_supported(out, &TYPES);
    }
    if c.has("default")
        && let Some(reason) = &inside.no_default
    {
        c.field("default").forbidden(out, format!("must not be set {reason}"));
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if !c.field(name).is_empty() {
            c.field(name).forbidden(out, format!("{name} is not supported"));
        }
    }
    if kind.text() == "null" {
        kind.forbidden(out, "type cannot be set to null, use nullable as an alternative");
    }
    let items = c.field("items");
    if matches!(items.value, Value::List(list) if !list.is_empty()) {
        items.forbidden(out, "items must be a schema object and not an array");
    }
    if inside.metadata && c.bool_of("x-kubernetes-embedded-resource") {
        c.field("x-kubernetes-embedded-resource").forbidden(out, "must not be used inside of resource meta");
    }
}

fn validate_children(c: &Cursor<'_>, inside: &Inside, root: bool, out: &mut Errors) {
    let (additional, properties) = (c.field("additionalProperties"), c.field("properties"));
    if additional.is_set() {
        if !properties.is_empty() && additional.value != &Value::Bool(true) {
            additional.forbidden(out, "additionalProperties and properties are mutual exclusive");
        }
        if matches!(additional.value, Value::Map(_)) {
            let mut inner = inside.clone();
            if inside.metadata {
                inner.no_default = Some("inside additionalProperties applying to object metadata".to_owned());
            }
            validate_node(&additional, &inner, false, out);
        }
    }
    let whole = root || c.bool_of("x-kubernetes-embedded-resource");
    for (name, _) in properties.entries() {
        let mut inner = inside.clone();
        if whole && METADATA_FIELDS.contains(&name.as_str()) {
            inner.metadata = true;
            if root {
                inner.no_default = Some(format!("in top-level {name}"));
            }
        }
        validate_node(&properties.key(name), &inner, false, out);
    }
    validate_node(&c.field("not"), inside, false, out);
    for name in ["allOf", "oneOf", "anyOf"] {
        c.field(name).items().for_each(|item| validate_node(&item, inside, false, out));
    }
    let items = c.field("items");
    match items.value {
        Value::List(_) => items.items().for_each(|item| validate_node(&item, inside, false, out)),
        _ => validate_node(&items, inside, false, out),
    }
}

/// The type that goes with a list or map type.
fn must_be(c: &Cursor<'_>, wanted: &str, because: &str, out: &mut Errors) -> bool {
    let kind = c.field("type");
    let detail = || format!("must be {wanted} if {because} is specified");
    match kind.text() {
        "" => kind.required(out, detail()),
        text if text == wanted => return true,
        _ => kind.invalid(out, detail()),
    }
    false
}

fn validate_map_type(c: &Cursor<'_>, out: &mut Errors) {
    let map = c.field("x-kubernetes-map-type");
    if map.is_set() {
        must_be(c, "object", "x-kubernetes-map-type", out);
        map.among(out, &["atomic", "granular"]);
    }
}

fn validate_list_type(c: &Cursor<'_>, out: &mut Errors) {
    const NO_KEYS: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
    let (list, keys, items) =
        (c.field("x-kubernetes-list-type"), c.field("x-kubernetes-list-map-keys"), c.field("items"));
    if list.is_set() {
        let is_list = must_be(c, "array", "x-kubernetes-list-type", out);
        if is_list && list.text() == "set" && matches!(items.value, Value::Map(_)) {
            validate_set_items(&items, out);
        }
        list.among(out, &["atomic", "set", "map"]);
    }
    if !keys.is_empty() {
        match list.is_set() {
            false => list.required(out, NO_KEYS),
            true if list.text() != "map" => list.invalid(out, NO_KEYS),
            true => {}
        }
    }
    if list.text() == "map" {
        validate_map_list(&keys, &items, out);
    }
    if matches!(list.text(), "map" | "set") && items.bool_of("nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {}", list.text());
        items.field("nullable").forbidden(out, detail);
    }
}

fn validate_set_items(items: &Cursor<'_>, out: &mut Errors) {
    const ATOMIC: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (list, map) = (items.field("x-kubernetes-list-type"), items.field("x-kubernetes-map-type"));
    match items.text_of("type") {
        "array" if list.is_set() && list.text() != "atomic" => list.invalid(out, ATOMIC),
        // Upstream shows the list type here too.
        "object" if map.text() != "atomic" => map.invalid_as(out, Some(list.value), ATOMIC),
        _ => {}
    }
}

fn validate_map_list(keys: &Cursor<'_>, items: &Cursor<'_>, out: &mut Errors) {
    if keys.is_empty() {
        keys.required(out, "must not be empty if x-kubernetes-list-type is map");
    }
    if !items.is_set() {
        return items.required(out, "must have a schema if x-kubernetes-list-type is map");
    }
    if !matches!(items.value, Value::Map(_)) {
        return items.invalid(out, "must only have a single schema if x-kubernetes-list-type is map");
    }
    let kind = items.field("type");
    let properties = items.field("properties");
    if kind.text() != "object" {
        kind.invalid_as(out, kind.text(), "must be object if parent array's x-kubernetes-list-type is map");
    } else {
        for (i, key) in keys.value.items().iter().enumerate() {
            let property = properties.key(key.as_str().unwrap_or(""));
            if !property.is_set() {
                keys.invalid(out, "entries must all be names of item properties");
            } else if matches!(property.text_of("type"), "array" | "object") {
                property.field("type").invalid_as(
                    out,
                    kind.text(),
                    "must be a scalar type if parent array's x-kubernetes-list-type is map",
                );
            }
            if keys.value.items()[..i].contains(key) {
                keys.invalid(out, "must not contain duplicate entries");
            }
        }
    }
    for key in keys.value.items() {
        let property = properties.key(key.as_str().unwrap_or(""));
        if !property.is_set() {
            continue;
        }
        if !items.value["required"].items().contains(key) && !property.has("default") {
            property.field("default").required(
                out,
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if property.bool_of("nullable") {
            property
                .field("nullable")
                .forbidden(out, "this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
        }
    }
}

/// The form of a validation rule; its expressions are compiled elsewhere.
fn validate_rule(rule: &Cursor<'_>, schema: &Value, out: &mut Errors) {
    let (text, message) = (rule.field("rule"), rule.field("message"));
    let (trimmed, said) = (text.text().trim(), message.text().trim());
    if trimmed.is_empty() {
        text.required(out, "rule is not specified");
    } else if !message.text().is_empty() && said.is_empty() {
        message.invalid(out, "message must be non-empty if specified");
    } else if said.contains(['\n', '\r']) {
        message.invalid(out, "message must not contain line breaks");
    } else if trimmed.contains(['\n', '\r']) && said.is_empty() {
        message.required(out, "message must be specified if rule contains line breaks");
    }
    let expression = rule.field("messageExpression");
    if !expression.text().is_empty() && expression.text().trim().is_empty() {
        expression.required(out, "messageExpression must be non-empty if specified");
    }
    if rule.has("reason") {
        rule.field("reason").among(out, &REASONS);
    }
    let path = rule.field("fieldPath");
    if path.text().is_empty() {
        return;
    }
    if path.text().trim().is_empty() {
        path.invalid(out, "fieldPath must be non-empty if specified");
    }
    if path.text().contains(['\n', '\r']) {
        path.invalid(out, "fieldPath must not contain line breaks");
    }
    if find(path.text(), schema, true).is_err() {
        path.invalid(out, "fieldPath must be a valid path");
    }
}
