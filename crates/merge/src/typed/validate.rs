//! Whether an object fits its schema well enough to be applied.

use schema::{Kind, Node, Value};

use super::{Shape, Type, list_element};
use crate::fields::{Element, Set};
use crate::go_text::go_type;

/// Whether lists may hold several items of one key, as stored objects of old may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// They may.
    Allowed,
    /// They may not.
    Refused,
}

/// Checks types, field names and, unless allowed, duplicates. The error is the text that follows
/// `failed to create typed patch object (...): `.
pub fn validate(node: Node<'_>, value: &Value, duplicates: Duplicates) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(Type::Known(node), value, duplicates, &mut String::new(), &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [only] => Err(only.clone()),
        several => Err(format!("errors:\n  {}", several.join("\n  "))),
    }
}

fn walk(ty: Type<'_>, value: &Value, duplicates: Duplicates, path: &mut String, errors: &mut Vec<String>) {
    let mut error = |path: &str, text: String| {
        errors.push(if path.is_empty() { text } else { format!("{path}: {text}") });
    };
    if let Type::Known(node) = ty
        && let Some(text) = mismatch(node, value)
    {
        return error(path, text);
    }
    let len = path.len();
    match ty.shape(value) {
        Shape::Leaf => walk_leaf(ty, value, path, errors),
        Shape::List(list) => {
            let mut seen = Set::new();
            for (i, item) in value.items().iter().enumerate() {
                let element = match list_element(&list, item) {
                    Ok(element) => element,
                    Err(text) => {
                        errors.push(format!("{path}: element {i}: {text}"));
                        continue;
                    }
                };
                if duplicates == Duplicates::Refused && seen.has(&element) {
                    errors.push(format!("{path}: duplicate entries for key {element}"));
                }
                path.push_str(&element.to_string());
                seen.put(element, true, Set::new());
                walk(list.items, item, duplicates, path, errors);
                path.truncate(len);
            }
        }
        Shape::Map(map) => {
            for (name, value) in value.entries() {
                path.push_str(&Element::Field(name.clone()).to_string());
                match map.field(name) {
                    Some(field) => walk(field, value, duplicates, path, errors),
                    None => errors.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(len);
            }
        }
    }
}

/// Goes on below atomic lists and maps, where only types and names matter.
fn walk_leaf(ty: Type<'_>, value: &Value, path: &mut String, errors: &mut Vec<String>) {
    let Type::Known(node) = ty else { return };
    let len = path.len();
    match (node.kind(), value) {
        (Kind::List(items), Value::List(list)) => {
            for (i, item) in list.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                walk(Type::Known(items), item, Duplicates::Refused, path, errors);
                path.truncate(len);
            }
        }
        (Kind::Object(_) | Kind::Map(_), Value::Map(map)) => {
            for (name, value) in map {
                path.push_str(&format!(".{name}"));
                let field = match node.kind() {
                    Kind::Map(values) => Some(values),
                    _ => node.field(name).map(|field| field.node()),
                };
                match field {
                    Some(field) => walk(Type::Known(field), value, Duplicates::Refused, path, errors),
                    None if node.preserve_unknown() => {}
                    None => errors.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(len);
            }
        }
        _ => {}
    }
}

fn mismatch(node: Node<'_>, value: &Value) -> Option<String> {
    let shown = || crate::fields_json(value);
    match (node.kind(), value) {
        (_, Value::Null) | (Kind::Any | Kind::Variant(..), _) => None,
        (Kind::Object(_) | Kind::Map(_), Value::Map(_)) | (Kind::List(_), Value::List(_)) => None,
        (Kind::Object(_) | Kind::Map(_), _) => Some(format!("expected map, got {}", shown())),
        (Kind::List(_), _) => Some(format!("expected list, got {}", shown())),
        (Kind::Int32 | Kind::Int64 | Kind::Number, Value::Int(_) | Value::Float(_)) => None,
        (Kind::Int32 | Kind::Int64 | Kind::Number, other) => {
            Some(format!("expected numeric (int or float), got {}", go_type(other)))
        }
        (Kind::String | Kind::Bytes, Value::Str(_)) => None,
        (Kind::String | Kind::Bytes, _) => Some(format!("expected string, got {}", shown())),
        (Kind::Boolean, Value::Bool(_)) => None,
        (Kind::Boolean, _) => Some(format!("expected boolean, got {}", shown())),
        (_, Value::List(_) | Value::Map(_)) => Some(format!("expected any scalar, got {}", shown())),
        _ => None,
    }
}
