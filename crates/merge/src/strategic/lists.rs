//! Lists in strategic merge patches: by merge key, by value, deleted from, and put in order.

use schema::{Map, Node, Value};

use super::{Field, PATCH, Result, SET_ORDER, StrategicError, merge_map, plain, unknown_directive};
use crate::equality::same;
use crate::go_text::{GoText, go_type};

/// Merges the lists whose order the patch states with `$setElementOrder/…`, and takes them out of the patch.
pub(super) fn merge_ordered_lists(
    original: &mut Map,
    patch: &mut Map,
    node: Option<Node<'_>>,
    depth: usize,
) -> Result<()> {
    let directives: Vec<_> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let name = &directive[SET_ORDER.len()..];
        let order = as_list(patch.remove(&directive).unwrap_or_default())?;
        let in_original = original.remove(name).map(as_list).transpose()?;
        let in_patch = patch.remove(name).map(as_list).transpose()?;
        let field = Field::of(node, name);
        let key = field.merge_key();
        if let Some(items) = &in_patch {
            check_order(items, &order, key)?;
        }
        let before = in_original.clone().unwrap_or_default();
        let merged = match (in_original, in_patch) {
            (None, None) => continue,
            (Some(present), None) => present,
            (None, Some(added)) => match plain(Value::List(added), depth + 1)? {
                Some(added) => as_list(added)?,
                None => continue,
            },
            (Some(present), Some(changes)) => merge_list(present, changes, field, false, depth + 1)?,
        };
        let (named, others) = partition(merged, &order, key);
        original.insert(
            directive[SET_ORDER.len()..].to_owned(),
            Value::List(in_order(named, others, &order, &before, key)),
        );
    }
    Ok(())
}

fn as_list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::List(list) => Ok(list),
        Value::Null => Ok(Vec::new()),
        other => Err(StrategicError::Internal(format!(
            "expected a []interface {{}}, but received a {}",
            go_type(&other)
        ))),
    }
}

/// The items of the patch must appear in the stated order, in the same relative order.
fn check_order(items: &[Value], order: &[Value], key: Option<&str>) -> Result<()> {
    let mut rest = order.iter();
    for item in items {
        let directive = item.get(PATCH).and_then(Value::as_str);
        if directive == Some("delete") || directive == Some("replace") {
            continue;
        }
        if !rest.any(|o| matches(o, item, key)) {
            return Err(StrategicError::Internal(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                GoText(&Value::List(items.to_vec())),
                GoText(&Value::List(order.to_vec()))
            )));
        }
    }
    Ok(())
}

/// The same item: equal by merge key for objects, by value for others.
fn matches(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => same(a, b),
            _ => false,
        },
        None => same(a, b),
    }
}

fn position(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| matches(other, item, key))
}

/// One list field: merged when its strategy says so, otherwise replaced.
pub(super) fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: Field<'_>,
    delete: bool,
    depth: usize,
) -> Result<Vec<Value>> {
    if !delete && !field.strategy().merge {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let objects = match element_kind(original.iter().chain(&patch))? {
        ElementKind::Object => true,
        ElementKind::Scalar => false,
    };
    if !objects {
        if delete {
            return Ok(original.into_iter().filter(|v| position(&patch, v, None).is_none()).collect());
        }
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for item in original.iter().chain(&patch) {
            if position(&merged, item, None).is_none() {
                merged.push(item.clone());
            }
        }
        let (named, others) = partition(merged, &patch, None);
        return Ok(in_order(named, others, &patch, &original, None));
    }
    let Some(key) = field.merge_key() else {
        return Err(StrategicError::Internal(format!(
            "cannot merge lists without merge key for {}",
            field.items().map_or("", Node::type_name)
        )));
    };
    let (original, patch) = special_items(original, patch, key)?;
    let Some(patch) = patch else { return Ok(original) };
    let merged = merge_objects(original.clone(), &patch, key, field.items(), depth)?;
    let (named, others) = partition(merged, &patch, Some(key));
    Ok(in_order(named, others, &patch, &original, Some(key)))
}

enum ElementKind {
    Object,
    Scalar,
}

fn element_kind<'v>(items: impl Iterator<Item = &'v Value>) -> Result<ElementKind> {
    let mut kind = None;
    for item in items {
        let this = match item {
            Value::List(_) => {
                return Err(StrategicError::Unprocessable("lists of lists are not supported".to_owned()));
            }
            other => go_type(other),
        };
        if *kind.get_or_insert(this) != this {
            return Err(StrategicError::Internal(format!(
                "list element types are not identical: {} and {this}",
                kind.unwrap_or("<nil>")
            )));
        }
    }
    Ok(if kind == Some("map[string]interface {}") { ElementKind::Object } else { ElementKind::Scalar })
}

fn no_merge_key(item: &Value, key: &str) -> StrategicError {
    StrategicError::Internal(format!("map: {} does not contain declared merge key: {key}", GoText(item)))
}

/// Carries out `$patch` items. Gives the original without deleted items and what is left of the patch; `None` when
/// the patch replaces the list, which is then the first of the two.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Option<Vec<Value>>)> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(PATCH) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let wanted = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                original.retain(|o| !o.get(key).is_some_and(|v| same(v, wanted)));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(StrategicError::Internal(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => {
                let directive = directive.clone();
                return Err(unknown_directive(&directive, item.as_map().unwrap_or(&Map::new())));
            }
        }
    }
    Ok(if replace { (rest, None) } else { (original, Some(rest)) })
}

fn merge_objects(
    mut original: Vec<Value>,
    patch: &[Value],
    key: &str,
    items: Option<Node<'_>>,
    depth: usize,
) -> Result<Vec<Value>> {
    for item in patch {
        if item.get(key).is_none() {
            return Err(no_merge_key(item, key));
        }
        match (position(&original, item, Some(key)), item) {
            (Some(at), Value::Map(changes)) => {
                let present = std::mem::take(original[at].make_map());
                original[at] = Value::Map(merge_map(present, changes.clone(), items, depth + 1)?);
            }
            _ => original.extend(plain(item.clone(), depth + 1)?),
        }
    }
    Ok(original)
}

/// Items that `list` names too, and the others.
fn partition(items: Vec<Value>, list: &[Value], key: Option<&str>) -> (Vec<Value>, Vec<Value>) {
    items.into_iter().partition(|item| position(list, item, key).is_some())
}

/// Interleaves the items that the patch names, in its order, with those that only the server has, in theirs. An item
/// unknown to the server goes before the next server-only one.
fn in_order(
    mut named: Vec<Value>,
    mut others: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let rank = |list: &[Value], item: &Value| position(list, item, key);
    named.sort_by_key(|item| rank(patch_order, item).unwrap_or(usize::MAX));
    others.sort_by_key(|item| rank(server_order, item).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(n), Some(o)) = (named.peek(), others.peek()) {
        let other_first = match (rank(server_order, o), rank(server_order, n)) {
            (Some(o), Some(n)) => o < n,
            _ => false,
        };
        out.extend(if other_first { others.next() } else { named.next() });
    }
    out.extend(named);
    out.extend(others);
    out
}
