//! What differs between two versions of an object.

use schema::{Node, Value};

use super::kind::ListShape;
use super::{Shape, Type, list_element};
use crate::equality::same;
use crate::fields::{Element, Set};

/// The fields in which two objects differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only in the new one.
    pub added: Set,
    /// In both, with other values.
    pub modified: Set,
    /// Only in the old one.
    pub removed: Set,
}

impl Comparison {
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Leaves out what is in `excluded` or below it.
    #[must_use]
    pub fn without(self, excluded: &Set) -> Self {
        if excluded.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(excluded),
            modified: self.modified.recursive_difference(excluded),
            removed: self.removed.recursive_difference(excluded),
        }
    }

    fn put(&mut self, element: Element, change: Change, below: Comparison) {
        let (added, modified, removed) =
            (change == Change::Added, change == Change::Modified, change == Change::Removed);
        if added || !below.added.is_empty() {
            self.added.put(element.clone(), added, below.added);
        }
        if modified || !below.modified.is_empty() {
            self.modified.put(element.clone(), modified, below.modified);
        }
        if removed || !below.removed.is_empty() {
            self.removed.put(element, removed, below.removed);
        }
    }
}

/// What happened to a place itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Modified,
    Removed,
}

/// Compares two objects of one type.
pub fn compare(node: Node<'_>, old: &Value, new: &Value) -> Comparison {
    walk(Type::Known(node), Some(old), Some(new)).1
}

fn walk(ty: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> (Change, Comparison) {
    let mut out = Comparison::default();
    let change = match (old, new) {
        (None, None) => return (Change::None, out),
        (Some(old), Some(new)) if same(old, new) => return (Change::None, out),
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(_), Some(_)) => Change::Modified,
    };
    // A null takes the form of the other side.
    let shape = match new.filter(|value| !value.is_null()).or(old) {
        Some(value) => ty.shape(value),
        None => ty.shape(&Value::Null),
    };
    let empty = |value: Option<&Value>| match value {
        None => true,
        Some(value) => match shape {
            Shape::List(_) => value.items().is_empty(),
            _ => value.entries().is_empty(),
        },
    };
    match shape {
        Shape::Leaf => return (change, out),
        _ if empty(old) && empty(new) => return (change, out),
        Shape::List(list) => walk_list(list, old, new, &mut out),
        Shape::Map(map) => {
            let (old, new) = (old.map_or(&[][..], Value::entries), new.map_or(&[][..], Value::entries));
            zip(old, new, |name, old, new| {
                let (change, below) = walk(map.field_or_leaf(name), old, new);
                out.put(Element::Field(name.clone()), change, below);
            });
        }
    }
    // A container in both is not itself modified.
    (if change == Change::Modified { Change::None } else { change }, out)
}

/// Visits the keys of two sorted objects in order.
pub(super) fn zip<'v>(
    mut a: &'v [(schema::SmolStr, Value)],
    mut b: &'v [(schema::SmolStr, Value)],
    mut visit: impl FnMut(&'v schema::SmolStr, Option<&'v Value>, Option<&'v Value>),
) {
    loop {
        let order = match (a.first(), b.first()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let mut left = None;
        let mut right = None;
        if order.is_le() {
            left = a.first();
            a = &a[1..];
        }
        if order.is_ge() {
            right = b.first();
            b = &b[1..];
        }
        if let Some((key, _)) = left.or(right) {
            visit(key, left.map(|e| &e.1), right.map(|e| &e.1));
        }
    }
}

fn walk_list(list: ListShape<'_>, old: Option<&Value>, new: Option<&Value>, out: &mut Comparison) {
    let (old, new) = (grouped(&list, old), grouped(&list, new));
    let find = |groups: &[(Element, Vec<&Value>)], wanted: &Element| {
        groups.iter().position(|(element, _)| element == wanted)
    };
    let visit = |element: &Element, old: &[&Value], new: &[&Value], out: &mut Comparison| {
        let (change, below) = compare_items(list, old, new);
        out.put(element.clone(), change, below);
    };
    for (element, items) in &old {
        let others = find(&new, element).map_or(&[][..], |at| &new[at].1);
        visit(element, items, others, out);
    }
    for (element, items) in new.iter().filter(|(element, _)| find(&old, element).is_none()) {
        visit(element, &[], items, out);
    }
}

fn grouped<'v>(list: &ListShape<'_>, value: Option<&'v Value>) -> Vec<(Element, Vec<&'v Value>)> {
    let mut groups: Vec<(Element, Vec<&Value>)> = Vec::new();
    for item in value.map_or(&[][..], Value::items) {
        let Ok(element) = list_element(list, item) else { continue };
        match groups.iter_mut().find(|(e, _)| *e == element) {
            Some((_, items)) => items.push(item),
            None => groups.push((element, vec![item])),
        }
    }
    groups
}

/// Items of one key. Several of the same key are compared as a whole and marked by their key alone.
fn compare_items(list: ListShape<'_>, old: &[&Value], new: &[&Value]) -> (Change, Comparison) {
    match (old.len(), new.len()) {
        (0 | 1, 0 | 1) => walk(list.items, old.first().copied(), new.first().copied()),
        (0 | 1, _) => {
            let (_, below) = walk(list.items, old.first().copied(), None);
            (Change::Added, below)
        }
        (_, 0 | 1) => {
            let (_, below) = walk(list.items, None, new.first().copied());
            (if new.is_empty() { Change::Removed } else { Change::Modified }, below)
        }
        _ => {
            let equal = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same(a, b));
            (if equal { Change::None } else { Change::Modified }, Comparison::default())
        }
    }
}
