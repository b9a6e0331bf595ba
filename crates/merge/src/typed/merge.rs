//! Lays an applied configuration over a live object.

use schema::{Map, Node, Value};

use super::compare::zip;
use super::kind::ListShape;
use super::{Shape, Type, list_element};
use crate::fields::Element;

/// `live` with everything that `applied` sets. What `applied` does not name stays.
pub fn merge(node: Node<'_>, live: &Value, applied: &Value) -> Value {
    walk(Type::Known(node), Some(live), Some(applied)).unwrap_or_default()
}

fn walk(ty: Type<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (live, applied) = match (live, applied) {
        (live, None) => return live.cloned(),
        (None, Some(applied)) => (&Value::Null, applied),
        (Some(live), Some(applied)) => (live, applied),
    };
    let shape = ty.shape(if applied.is_null() { live } else { applied });
    match shape {
        Shape::List(list) if !(live.items().is_empty() && applied.items().is_empty()) => {
            Some(merge_lists(list, live.items(), applied.items()))
        }
        Shape::Map(map) if !(live.entries().is_empty() && applied.entries().is_empty()) => {
            let mut out = Vec::with_capacity(live.entries().len() + applied.entries().len());
            zip(live.entries(), applied.entries(), |name, live, applied| {
                if let Some(value) = walk(map.field_or_leaf(name), live, applied) {
                    out.push((name.clone(), value));
                }
            });
            Some(Value::Map(Map::from_unsorted(out)))
        }
        // Leaves, and containers that are empty on both sides: the newer form of nothing stays.
        _ => Some(applied.clone()),
    }
}

/// Items of a list by their elements, the first of equal ones.
fn indexed<'v>(list: &ListShape<'_>, items: &'v [Value]) -> Vec<(Element, &'v Value)> {
    let mut out: Vec<(Element, &Value)> = Vec::with_capacity(items.len());
    for item in items {
        if let Ok(element) = list_element(list, item)
            && !out.iter().any(|(e, _)| *e == element)
        {
            out.push((element, item));
        }
    }
    out
}

fn find<'v>(items: &[(Element, &'v Value)], element: &Element) -> Option<&'v Value> {
    items.iter().find(|(e, _)| e == element).map(|(_, item)| *item)
}

/// Merges items by key or value. The applied order wins for items it names; others keep their place between them.
fn merge_lists(list: ListShape<'_>, live: &[Value], applied: &[Value]) -> Value {
    let right = indexed(&list, applied);
    let left_all: Vec<(Element, &Value)> =
        live.iter().filter_map(|item| list_element(&list, item).ok().map(|e| (e, item))).collect();
    let left = indexed(&list, live);
    let mut shared = right.iter().map(|(e, _)| e).filter(|e| find(&left, e).is_some());
    let mut next_shared = shared.next();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let (mut l, mut r) = (0, 0);
    while l < left_all.len() || r < right.len() {
        if let (Some((le, item)), Some((re, applied))) = (left_all.get(l), right.get(r)) {
            if le == re {
                out.extend(walk(list.items, Some(item), Some(applied)));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if find(&right, le).is_some() && next_shared.is_some_and(|next| next != le) {
                l += 1;
                continue;
            }
        }
        if let Some((element, item)) = left_all.get(l)
            && find(&right, element).is_none()
        {
            out.push((*item).clone());
            l += 1;
            continue;
        }
        match right.get(r) {
            Some((element, item)) => {
                out.extend(walk(list.items, find(&left, element), Some(item)));
                r += 1;
                if next_shared == Some(element) {
                    next_shared = shared.next();
                }
            }
            None => l += 1,
        }
    }
    Value::List(out)
}
