//! How Go's decoder names a place and a type in its errors.

use std::fmt::Write;

use schema::{Field, Kind, Member, Node, Object, SmolStr};

use crate::Error;

/// One step from the root to the value at hand.
#[derive(Clone)]
pub(super) enum Step<'s> {
    Field(Object<'s>, Field<'s>),
    Index(usize),
    Key(SmolStr),
}

/// `spec.containers[0].name`: the path in errors about unknown and duplicate fields.
pub(super) fn path(steps: &[Step<'_>], last: Option<&str>) -> String {
    let mut out = String::new();
    let name = |out: &mut String, name: &str| {
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(name);
    };
    for step in steps {
        match step {
            Step::Field(_, field) => name(&mut out, field.name()),
            Step::Key(key) => name(&mut out, key),
            Step::Index(index) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "[{index}]");
            }
        }
    }
    if let Some(last) = last {
        name(&mut out, last);
    }
    out
}

/// `json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32`.
pub(super) fn mismatch(steps: &[Step<'_>], found: &str, target: &str) -> Error {
    let mut names = String::new();
    let mut holder = None;
    for step in steps {
        if let Step::Field(object, field) = step {
            holder = Some(*object);
            if field.inlined() {
                containers(*object, field.name(), &mut names);
            }
            names.push('.');
            names.push_str(field.name());
        }
    }
    Error::Type(match holder {
        Some(object) => format!(
            "json: cannot unmarshal {found} into Go struct field {}{names} of type {target}",
            short(object.name())
        ),
        None => format!("json: cannot unmarshal {found} into Go value of type {target}"),
    })
}

/// The embedded structs on the way to an inlined field.
fn containers(object: Object<'_>, field: &str, names: &mut String) {
    for member in object.members() {
        if let Member::Inline(inline) = member
            && let Some(found) = inline.object.field(field)
        {
            names.push('.');
            names.push_str(short(inline.object.name()));
            if found.inlined() {
                containers(inline.object, field, names);
            }
            return;
        }
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Go's name of the type at the end of `steps`, where fields may have types with names of their own.
pub(super) fn target(steps: &[Step<'_>], node: Node<'_>) -> String {
    let within = steps.iter().rev().take_while(|step| !matches!(step, Step::Field(..))).count();
    let field = steps.len().checked_sub(within + 1).and_then(|at| steps.get(at));
    let named = match field {
        Some(Step::Field(object, field)) => super::go_types::named(object.name(), field.name()),
        _ => None,
    };
    match (named, node.kind(), within) {
        (Some(name), Kind::Map(values), 0) => match name.strip_prefix("map.") {
            Some(key) => {
                let value = type_name(values);
                let package = value.split('.').next().unwrap_or_default();
                format!("map[{package}.{key}]{value}")
            }
            None => type_name(node),
        },
        (Some(name), Kind::List(_), 0) => format!("[]{name}"),
        (Some(name), Kind::String | Kind::Any, 0 | 1) => name,
        _ => type_name(node),
    }
}

/// Go's name of a type: `int32`, `[]v1.Container`, `map[string]string`.
pub(super) fn type_name(node: Node<'_>) -> String {
    match node.kind() {
        Kind::Object(object) => {
            let mut parts = object.name().rsplit('.');
            let name = parts.next().unwrap_or_default();
            format!("{}.{name}", parts.next().unwrap_or_default())
        }
        Kind::Map(values) if matches!(values.kind(), Kind::Quantity) => "v1.ResourceList".to_owned(),
        Kind::Map(values) => format!("map[string]{}", type_name(values)),
        Kind::List(items) => format!("[]{}", type_name(items)),
        Kind::Int32 | Kind::IntOrString => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Number => "float64".to_owned(),
        Kind::Boolean => "bool".to_owned(),
        Kind::Bytes => "[]uint8".to_owned(),
        _ => "string".to_owned(),
    }
}
