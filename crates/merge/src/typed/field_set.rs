//! The fields that an object sets.

use schema::{Node, Value};

use super::{Shape, Type, list_element};
use crate::fields::{Element, Set};

/// Every field, item and key that `value` sets (`ToFieldSet`).
pub fn field_set(node: Node<'_>, value: &Value) -> Set {
    collect(Type::Known(node), value).1
}

/// Whether the place itself is a leaf, and what is below.
fn collect(ty: Type<'_>, value: &Value) -> (bool, Set) {
    let mut set = Set::new();
    match ty.shape(value) {
        Shape::Leaf => return (true, set),
        Shape::List(list) => {
            for item in value.items() {
                let Ok(element) = list_element(&list, item) else { continue };
                if set.has(&element) {
                    // Duplicates are owned as one, by their key alone.
                    set = set.recursive_difference(&single(&element));
                    set.put(element, true, Set::new());
                } else {
                    set.put(element, true, collect(list.items, item).1);
                }
            }
        }
        Shape::Map(map) => {
            for (name, value) in value.entries() {
                let (leaf, below) = collect(map.field_or_leaf(name), value);
                let empty = value.is_null() || value.as_map().is_some_and(|m| m.is_empty());
                set.put(Element::Field(name.clone()), leaf || empty || !map.is_named(name), below);
            }
        }
    }
    (false, set)
}

fn single(element: &Element) -> Set {
    let mut set = Set::new();
    set.put(element.clone(), true, Set::new());
    set
}

/// The set with every field that the schema names made a member when anything below it is one
/// (`EnsureNamedFieldsAreMembers`).
pub fn with_named_fields(set: &Set, node: Node<'_>) -> Set {
    named(set, Type::Known(node))
}

fn named(set: &Set, ty: Type<'_>) -> Set {
    let mut out = Set::new();
    // Which shape it is follows from the elements: fields are in maps, all else in lists.
    let as_map = ty.shape(&Value::map());
    for (element, member, below) in set.iter() {
        let (is_named, inner) = match (element, as_map) {
            (Element::Field(name), Shape::Map(map)) => (map.is_named(name), map.field_or_leaf(name)),
            (_, Shape::List(list)) => (false, list.items),
            _ => (false, Type::Deduced),
        };
        out.put(element.clone(), member || is_named, named(below, inner));
    }
    out
}
