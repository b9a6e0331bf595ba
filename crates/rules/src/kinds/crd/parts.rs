//! Subresources, printer columns and selectable fields of a definition.

use schema::Value;

use crate::Cursor;
use crate::field::{Errors, FieldError};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_SELECTABLE: usize = 8;

/// A path of fields that begins with a dot.
fn validate_path(c: &Cursor<'_>, out: &mut Errors) -> bool {
    let text = c.text();
    if !text.starts_with('.') {
        c.invalid_as(out, text, "must be a simple json path starting with .");
        return false;
    }
    let open = text.matches('[').count();
    if open != text.matches(']').count() {
        c.invalid_as(out, text, "must be valid json path: unterminated array");
        return false;
    }
    true
}

/// Where the numbers of replicas stand.
pub(super) fn validate_subresources(c: &Cursor<'_>, out: &mut Errors) {
    let scale = c.field("scale");
    if !scale.is_set() {
        return;
    }
    for (name, under) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let path = scale.field(name);
        if path.text().is_empty() {
            path.required(out, "");
        } else if validate_path(&path, out) && !is_under(path.text(), under) {
            path.invalid(out, format!("should be a json path under .{under}"));
        }
    }
    let selector = scale.field("labelSelectorPath");
    if !selector.text().is_empty()
        && validate_path(&selector, out)
        && !is_under(selector.text(), "spec")
        && !is_under(selector.text(), "status")
    {
        selector.invalid(out, "should be a json path under either .spec or .status");
    }
}

fn is_under(path: &str, field: &str) -> bool {
    path.strip_prefix('.').and_then(|p| p.strip_prefix(field)).is_some_and(|rest| rest.starts_with('.'))
}

/// Columns of tables.
pub(super) fn validate_columns(c: &Cursor<'_>, out: &mut Errors) {
    for column in c.items() {
        if column.text_of("name").is_empty() {
            column.field("name").required(out, "");
        }
        let (kind, format) = (column.field("type"), column.field("format"));
        let allowed = format!("must be one of {}", COLUMN_TYPES.join(","));
        match kind.text() {
            "" => kind.required(out, allowed),
            text if COLUMN_TYPES.contains(&text) => {}
            _ => kind.invalid(out, allowed),
        }
        if !format.text().is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
            format.invalid(out, format!("must be one of {}", COLUMN_FORMATS.join(",")));
        }
        let path = column.field("jsonPath");
        let path = path.at(column.path.child("JSONPath"));
        match path.text() {
            "" => path.required(out, ""),
            _ => {
                validate_path(&path, out);
            }
        }
    }
}

/// Fields by which clients may select; `schema` is that of the version.
pub(super) fn validate_selectable(c: &Cursor<'_>, schema: &Value, out: &mut Errors) {
    if c.is_empty() {
        return;
    }
    let root = &schema["openAPIV3Schema"];
    if root.is_null() {
        return c.invalid_as(out, "", "may only be set when validations.schema is included");
    }
    let mut seen: Vec<Vec<String>> = Vec::new();
    for item in c.items() {
        let path = item.field("jsonPath");
        if path.text().is_empty() {
            path.required(out, "");
            continue;
        }
        let (names, found) = match find(path.text(), root, false) {
            Ok(found) => found,
            Err(error) => {
                path.invalid(out, format!("is an invalid path: {error}"));
                continue;
            }
        };
        if names.first().is_some_and(|name| name == "metadata") {
            path.invalid(out, "must not point to fields in metadata");
        }
        if !matches!(found["type"].as_str(), Some("string" | "boolean" | "integer")) {
            path.invalid(
                out,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            );
        }
        match seen.contains(&names) {
            true => path.duplicate(out),
            false => seen.push(names),
        }
    }
    if seen.len() > MAX_SELECTABLE {
        out.push(FieldError::too_many(&c.path, seen.len(), MAX_SELECTABLE));
    }
}

/// The names of a path and the schema that it leads to.
pub(super) fn find<'a>(
    path: &str,
    root: &'a Value,
    brackets: bool,
) -> Result<(Vec<String>, &'a Value), String> {
    let (mut names, mut schema, mut rest) = (Vec::new(), root, path);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            let (name, left) = after.split_at(end);
            if name.is_empty() {
                return Err("unexpected end of JSON path".to_owned());
            }
            schema = schema["properties"].get(name).ok_or("does not refer to a valid field")?;
            names.push(name.to_owned());
            rest = left;
        } else if let Some(after) = rest.strip_prefix('[') {
            if !brackets {
                return Err("array notation is not allowed".to_owned());
            }
            let (key, left) = after.split_once(']').ok_or("unexpected end of JSON path")?;
            let name = key
                .strip_prefix('\'')
                .and_then(|k| k.strip_suffix('\''))
                .ok_or_else(|| format!("expected single quoted string but got {key}"))?;
            let entry = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
            schema = entry.ok_or("does not refer to a valid field")?;
            names.push(name.to_owned());
            rest = left;
        } else {
            let end = rest.find(['.', '[', ']']).unwrap_or(rest.len()).max(1);
            return Err(format!("expected [ or . but got: {}", rest.get(..end).unwrap_or(rest)));
        }
    }
    Ok((names, schema))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn paths_lead_to_schemas() {
        let root = value!({"properties": {"spec": {"properties": {"color": {"type": "string"}, "m": {
            "additionalProperties": {"type": "integer"}}}}}});
        let (names, found) = find(".spec.color", &root, false).unwrap();
        assert_eq!((names.len(), found["type"].as_str()), (2, Some("string")));
        assert_eq!(find(".spec['m']['x']", &root, true).unwrap().1["type"].as_str(), Some("integer"));
        for path in ["spec", ".spec.nope", ".spec[0]", ".", ".spec['m'"] {
            assert!(find(path, &root, true).is_err(), "{path}");
        }
    }
}
