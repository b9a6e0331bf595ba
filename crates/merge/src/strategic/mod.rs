//! Strategic merge patch: a merge patch that knows from the schema how lists merge, with the directives `$patch`,
//! `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…` (`apimachinery/pkg/util/strategicpatch`).

mod check;
mod lists;

pub use check::check_convertible;

use schema::{Kind, Map, Node, PatchStrategy, Schema, SmolStr, Value};

use crate::go_text::GoText;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
/// Deepest nesting of a patch; the decoder's own limit is far below.
const MAX_DEPTH: usize = 1_000;

/// Why a strategic merge patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// A malformed directive: answered 400.
    #[error("{0}")]
    BadPatch(String),
    /// A patch that does not fit: answered 422.
    #[error("{0}")]
    Unprocessable(String),
    /// Whatever else upstream reports as an internal error: answered 500.
    #[error("{0}")]
    Internal(String),
}

type Result<T> = std::result::Result<T, StrategicError>;

/// Applies `patch` to `target`, whose type is `schema`.
pub fn strategic_merge_patch(target: &mut Value, patch: Value, schema: &Schema) -> Result<()> {
    let Value::Map(patch) = patch else {
        return Err(StrategicError::BadPatch(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            patch.type_name()
        )));
    };
    let original = std::mem::take(target.make_map());
    *target.make_map() = merge_map(original, patch, Some(schema.root()), 0)?;
    Ok(())
}

/// What the schema says of one field of an object or map; nothing for fields that it does not know.
#[derive(Clone, Copy)]
struct Field<'a> {
    node: Option<Node<'a>>,
}

impl<'a> Field<'a> {
    fn of(parent: Option<Node<'a>>, name: &str) -> Self {
        let node = parent.and_then(|parent| match parent.kind() {
            Kind::Object(object) => object.field(name).map(|field| field.node()),
            Kind::Map(values) => Some(values),
            _ => None,
        });
        Self { node }
    }

    fn strategy(self) -> PatchStrategy {
        self.node.map(Node::patch_strategy).unwrap_or_default()
    }

    fn merge_key(self) -> Option<&'a str> {
        self.node.and_then(Node::merge_key)
    }

    fn items(self) -> Option<Node<'a>> {
        self.node.and_then(Node::child)
    }
}

fn merge_map(mut original: Map, mut patch: Map, node: Option<Node<'_>>, depth: usize) -> Result<Map> {
    if depth > MAX_DEPTH {
        return Err(StrategicError::BadPatch("the patch is nested too deeply".to_owned()));
    }
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    lists::merge_ordered_lists(&mut original, &mut patch, node, depth)?;
    for (key, value) in patch {
        let (name, delete_from_list) = match key.strip_prefix(DELETE_FROM_LIST) {
            Some(name) => (SmolStr::new(name), true),
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        let merged = match (original.remove(&name), value) {
            (None, _) if delete_from_list => continue,
            (Some(Value::Map(present)), Value::Map(value)) => {
                let field = Field::of(node, &name);
                match field.strategy().replace {
                    true => Value::Map(value),
                    false => Value::Map(merge_map(present, value, field.node, depth + 1)?),
                }
            }
            (Some(Value::List(present)), Value::List(value)) => {
                let field = Field::of(node, &name);
                Value::List(lists::merge_list(present, value, field, delete_from_list, depth + 1)?)
            }
            (Some(present), _) if delete_from_list => present,
            (_, value) => match plain(value, depth + 1)? {
                Some(value) => value,
                None => continue,
            },
        };
        original.insert(name, merged);
    }
    Ok(original)
}

fn unknown_directive(directive: &Value, patch: &Map) -> StrategicError {
    let mut whole = patch.clone();
    whole.insert(PATCH, directive);
    StrategicError::Internal(format!(
        "unknown patch type: {} in map: {}",
        GoText(directive),
        GoText(&Value::Map(whole))
    ))
}

/// A new value out of a patch: nulls and directives are left out. `None` when a directive deletes it.
fn plain(value: Value, depth: usize) -> Result<Option<Value>> {
    if depth > MAX_DEPTH {
        return Err(StrategicError::BadPatch("the patch is nested too deeply".to_owned()));
    }
    Ok(Some(match value {
        Value::Map(mut map) => {
            if let Some(directive) = map.remove(PATCH) {
                match directive.as_str() {
                    Some("delete") => return Ok(None),
                    Some("replace" | "merge") => {}
                    _ => return Err(unknown_directive(&directive, &map)),
                }
            }
            let mut out = Vec::with_capacity(map.len());
            for (key, value) in map {
                let directive =
                    key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM_LIST);
                if directive || value.is_null() {
                    continue;
                }
                if let Some(value) = plain(value, depth + 1)? {
                    out.push((key, value));
                }
            }
            Value::Map(Map::from_unsorted(out))
        }
        Value::List(list) => {
            let mut out = Vec::with_capacity(list.len());
            for item in list {
                let only_directive = item.as_map().is_some_and(|m| m.len() == 1 && m.contains_key(PATCH));
                if !only_directive && let Some(item) = plain(item, depth + 1)? {
                    out.push(item);
                }
            }
            Value::List(out)
        }
        scalar => scalar,
    }))
}

fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<()> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || StrategicError::BadPatch("invalid patch format of retainKeys".to_owned());
    let Value::List(list) = directive else { return Err(bad()) };
    let keys: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null()
            && !key.starts_with(DELETE_FROM_LIST)
            && !key.starts_with(SET_ORDER)
            && !keys.contains(&key.as_str())
    });
    if stray {
        return Err(bad());
    }
    original.retain(|key, _| keys.contains(&key));
    Ok(())
}

#[cfg(test)]
mod tests;
