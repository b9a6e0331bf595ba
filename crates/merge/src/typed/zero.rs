//! The object that a new one is compared with: an empty struct, with the parts that Go always has.

use schema::{Kind, Map, Node, Presence, Value};

/// The zero value of a type: for objects all fields that are always written, for others what Go writes for nothing.
pub fn zero(node: Node<'_>) -> Value {
    match node.kind() {
        Kind::Object(object) => Value::Map(Map::from_unsorted(
            object
                .fields()
                .filter(|field| field.presence() == Presence::Always)
                .map(|field| (field.smol_name().clone(), zero(field.node())))
                .collect(),
        )),
        Kind::String | Kind::Bytes => Value::str(""),
        Kind::Int32 | Kind::Int64 | Kind::Number | Kind::IntOrString => Value::Int(0),
        Kind::Boolean => Value::Bool(false),
        Kind::Quantity => Value::str("0"),
        _ => Value::Null,
    }
}
