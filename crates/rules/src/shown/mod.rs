//! Values in messages as upstream writes them: JSON of Go's structs, not of the API.
//!
//! Validation there works on internal types, whose fields have no JSON names: messages show `{"Type":"x"}` with every
//! field, in the order of the struct. Types of `meta/v1` are the same inside and keep their JSON names.

mod diff;
mod go;

use schema::{Kind, Node};

use crate::field::{BadValue, FieldError};

/// Rewrites the values that `errors` show, by the types of a kind's schema.
pub fn show_values(errors: &mut [FieldError], root: Node<'_>) {
    for error in errors {
        let BadValue::Json(value) = &error.value else { continue };
        // A few paths of upstream's leave out or mistake their first step.
        let in_spec = |path: &str| node_at(root.field("spec")?.node(), path);
        let node = node_at(root, &error.field)
            .or_else(|| in_spec(&error.field))
            .or_else(|| in_spec(error.field.strip_prefix("metadata.")?));
        if let Some(node) = node.filter(|node| matches!(node.kind(), Kind::Object(_) | Kind::List(_))) {
            error.value = BadValue::Text(go::compact(&go::tree(value, node)));
        }
    }
}

/// How two values of a built-in type differ: line by line in the form that `json.MarshalIndent` gives them.
pub(crate) fn difference(type_name: &str, old: &schema::Value, new: &schema::Value) -> String {
    let Some(schema) = schema::Catalog::builtin().type_named(type_name) else { return String::new() };
    let lines = |value: &schema::Value| go::indented(&go::tree(value, schema.root()));
    diff::unified(&lines(old), &lines(new))
}

/// The type that the printed path of an error leads to.
fn node_at<'a>(root: Node<'a>, path: &str) -> Option<Node<'a>> {
    let mut node = root;
    let mut rest = path;
    while !rest.is_empty() {
        let (step, bracket) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (step, after) = inner.split_once(']')?;
                rest = after.strip_prefix('.').unwrap_or(after);
                (step, true)
            }
            None => {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let step = &rest[..end];
                rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
                (step, false)
            }
        };
        node = match (node.kind(), bracket) {
            (Kind::List(items), true) => items,
            (Kind::Map(values), _) => values,
            (Kind::Object(object), false) => object.field(step)?.node(),
            _ => return None,
        };
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use schema::value;

    fn shown(group: &str, version: &str, kind: &str, path: &str, value: &schema::Value) -> String {
        let catalog = schema::Catalog::builtin();
        let schema = catalog.kind(&schema::GroupVersionKind::new(group, version, kind)).unwrap();
        let mut errors = [FieldError::invalid(&Path::new(path), value, "no")];
        show_values(&mut errors, schema.root());
        errors[0].body()
    }

    #[test]
    fn internal_types_show_every_field() {
        assert_eq!(
            shown(
                "apps",
                "v1",
                "Deployment",
                "spec.strategy",
                &value!({"type": "x", "rollingUpdate": {"maxSurge": 1}})
            ),
            r#"Invalid value: {"Type":"x","RollingUpdate":{"MaxUnavailable":null,"MaxSurge":1}}: no"#
        );
        assert_eq!(
            shown("", "v1", "Service", "spec.ports[1]", &value!({"port": 80, "targetPort": 80})),
            r#"Invalid value: {"Name":"","Protocol":"","AppProtocol":null,"Port":80,"TargetPort":80,"NodePort":0}: no"#
        );
    }

    #[test]
    fn meta_types_keep_their_names() {
        assert_eq!(
            shown(
                "apps",
                "v1",
                "Deployment",
                "spec.selector",
                &value!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
                         "matchLabels": {"a": "b"}})
            ),
            r#"Invalid value: {"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}: no"#
        );
        assert_eq!(
            shown(
                "",
                "v1",
                "Pod",
                "metadata.ownerReferences",
                &value!([{"apiVersion": "v1", "controller": true, "kind": "Pod", "name": "p", "uid": "u"}])
            ),
            r#"Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":true}]: no"#
        );
    }
}
