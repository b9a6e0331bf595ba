//! Takes fields out of an object.

use schema::{Map, Node, Value};

use super::{Shape, Type, list_element};
use crate::fields::{Element, Set};

/// `value` without the members of `remove`. A container that loses its last part becomes null.
pub fn remove_items(node: Node<'_>, value: &Value, remove: &Set) -> Value {
    if remove.is_empty() {
        return value.clone();
    }
    walk(Type::Known(node), value, remove)
}

fn walk(ty: Type<'_>, value: &Value, remove: &Set) -> Value {
    match ty.shape(value) {
        Shape::Leaf => match value {
            // Something below an atomic container cannot be taken alone: the whole goes.
            Value::List(_) | Value::Map(_) => Value::Null,
            scalar => scalar.clone(),
        },
        Shape::List(list) => {
            let mut out = Vec::with_capacity(value.items().len());
            for item in value.items() {
                match list_element(&list, item) {
                    Ok(element) if remove.has(&element) => {}
                    Ok(element) => out.push(match remove.below(&element) {
                        Some(below) => walk(list.items, item, below),
                        None => item.clone(),
                    }),
                    Err(_) => out.push(item.clone()),
                }
            }
            if out.is_empty() { Value::Null } else { Value::List(out) }
        }
        Shape::Map(map) => {
            let mut out = Vec::with_capacity(value.entries().len());
            for (name, value) in value.entries() {
                let element = Element::Field(name.clone());
                if remove.has(&element) {
                    continue;
                }
                out.push((
                    name.clone(),
                    match remove.below(&element) {
                        Some(below) => walk(map.field_or_leaf(name), value, below),
                        None => value.clone(),
                    },
                ));
            }
            if out.is_empty() { Value::Null } else { Value::Map(Map::from_unsorted(out)) }
        }
    }
}
