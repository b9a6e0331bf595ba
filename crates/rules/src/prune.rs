//! Drops what a custom resource's schema does not name (`structural-schema/pruning`).

use schema::{Kind, Node, Value};

/// Fields of a whole object that every object may have.
const OBJECT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes unknown fields from `value` and gives their paths, e.g. `spec.list[0].wrong`. With `root`, `value` is a
/// whole object whose `apiVersion`, `kind` and `metadata` stay.
pub fn prune(node: Node<'_>, value: &mut Value, root: bool) -> Vec<String> {
    let mut pruned = Vec::new();
    walk(node, value, root, &mut String::new(), &mut pruned);
    pruned
}

fn walk(node: Node<'_>, value: &mut Value, whole: bool, path: &mut String, pruned: &mut Vec<String>) {
    let len = path.len();
    match (node.kind(), value) {
        (Kind::Object(object), Value::Map(map)) => {
            let whole = whole || node.embedded_resource();
            map.retain(|name, value| {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let keep = match object.field(name) {
                    _ if whole && OBJECT_FIELDS.contains(&name) => true,
                    Some(field) => {
                        walk(field.node(), value, false, path, pruned);
                        true
                    }
                    None => node.preserve_unknown(),
                };
                if !keep {
                    pruned.push(path.clone());
                }
                path.truncate(len);
                keep
            });
        }
        (Kind::Map(values), Value::Map(map)) => {
            for (name, value) in map.iter_mut() {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                walk(values, value, false, path, pruned);
                path.truncate(len);
            }
        }
        (Kind::List(items), Value::List(list)) => {
            for (i, value) in list.iter_mut().enumerate() {
                path.push_str(&format!("[{i}]"));
                walk(items, value, false, path, pruned);
                path.truncate(len);
            }
        }
        _ => {}
    }
}
