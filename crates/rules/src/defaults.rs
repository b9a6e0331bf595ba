//! Fills in what a schema says of missing values.

use schema::{Field, Kind, Node, Presence, Value};

/// Puts defaults into `value`, from the outside in, so that a defaulted object gets the defaults of its own fields.
///
/// A field is missing when it is absent, when it is null and its type is not nullable, and, where Go cannot tell, when
/// it is zero.
pub fn apply_defaults(node: Node<'_>, value: &mut Value) {
    match (node.kind(), value) {
        (Kind::Object(object), Value::Map(map)) => {
            map.retain(|name, value| {
                !value.is_null() || object.field(name).is_none_or(|f| !is_meaningless_null(f))
            });
            for field in object.fields() {
                let child = field.node();
                let missing = match map.get(field.name()) {
                    None => true,
                    Some(Value::Null) => !child.nullable(),
                    Some(present) => field.presence() != Presence::Optional && present.is_zero(),
                };
                if missing && let Some(default) = child.default() {
                    map.insert(field.smol_name().clone(), default);
                }
            }
            for (name, value) in map.iter_mut().filter(|(_, v)| matches!(v, Value::Map(_) | Value::List(_))) {
                if let Some(field) = object.field(name) {
                    apply_defaults(field.node(), value);
                }
            }
        }
        (Kind::Map(values), Value::Map(map)) => {
            map.iter_mut().for_each(|(_, value)| default_item(values, value));
        }
        (Kind::List(items), Value::List(list)) => {
            list.iter_mut().for_each(|value| default_item(items, value));
        }
        _ => {}
    }
}

/// In a custom kind, null where it means nothing and nothing takes its place is as if it were not there.
fn is_meaningless_null(field: Field<'_>) -> bool {
    let node = field.node();
    field.presence() == Presence::Verbatim
        && !node.nullable()
        && node.default().is_none()
        && !matches!(node.kind(), Kind::Any)
}

fn default_item(node: Node<'_>, value: &mut Value) {
    if value.is_null()
        && !node.nullable()
        && let Some(default) = node.default()
    {
        *value = default.clone();
    }
    apply_defaults(node, value);
}
