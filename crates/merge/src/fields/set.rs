//! The set itself: a tree of sorted elements.

use std::cmp::Ordering;

use super::Element;

/// A set of field paths (`fieldpath.Set`): every node may be a member, and may have members below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    nodes: Vec<(Element, Entry)>,
}

/// What a set holds at and below one element. Never empty inside a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub member: bool,
    pub below: Set,
}

impl Entry {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// The empty set; allocates nothing.
    pub const fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// A set of plain fields, each given as dotted names, e.g. `["status", "metadata.name"]`.
    pub fn of_fields(paths: &[&str]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let elements: Vec<Element> = path.split('.').map(|name| Element::Field(name.into())).collect();
            set.insert(&elements);
        }
        set
    }

    /// True when no path is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|(_, e)| usize::from(e.member) + e.below.len()).sum()
    }

    fn search(&self, element: &Element) -> Result<usize, usize> {
        // Walks append in order almost always.
        match self.nodes.last() {
            Some((last, _)) if last < element => Err(self.nodes.len()),
            None => Err(0),
            _ => self.nodes.binary_search_by(|(e, _)| e.cmp(element)),
        }
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = self.entry(first.clone());
        match rest.is_empty() {
            true => entry.member = true,
            false => entry.below.insert(rest),
        }
    }

    fn entry(&mut self, element: Element) -> &mut Entry {
        let at = match self.search(&element) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, (element, Entry::default()));
                at
            }
        };
        &mut self.nodes[at].1
    }

    /// Adds `element` itself when `member`, and `below` under it.
    pub fn put(&mut self, element: Element, member: bool, below: Set) {
        if !member && below.is_empty() {
            return;
        }
        let entry = self.entry(element);
        entry.member |= member;
        if entry.below.is_empty() {
            entry.below = below;
        } else if !below.is_empty() {
            entry.below = entry.below.union(&below);
        }
    }

    /// True when `element` itself is a member.
    pub fn has(&self, element: &Element) -> bool {
        self.search(element).is_ok_and(|at| self.nodes[at].1.member)
    }

    /// What is in the set below `element`.
    pub fn below(&self, element: &Element) -> Option<&Set> {
        let at = self.search(element).ok()?;
        Some(&self.nodes[at].1.below).filter(|below| !below.is_empty())
    }

    /// True when the path is a member.
    pub fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.below(first).is_some_and(|below| below.contains(rest)),
        }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Element, &Entry)> {
        self.nodes.iter().map(|(element, entry)| (element, entry))
    }

    /// Elements with their membership and what is below, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.nodes.iter().map(|(element, entry)| (element, entry.member, &entry.below))
    }

    fn zip(&self, other: &Set, keep: impl Fn(Option<&Entry>, Option<&Entry>) -> Entry) -> Set {
        let (mut a, mut b) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return Set { nodes },
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let left = if order.is_le() { a.next() } else { None };
            let right = if order.is_ge() { b.next() } else { None };
            let entry = keep(left.map(|n| &n.1), right.map(|n| &n.1));
            if let (false, Some((element, _))) = (entry.is_empty(), left.or(right)) {
                nodes.push((element.clone(), entry));
            }
        }
    }

    /// Paths in either.
    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => Entry { member: a.member || b.member, below: a.below.union(&b.below) },
            (a, b) => a.or(b).cloned().unwrap_or_default(),
        })
    }

    /// Paths in both.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        if self.is_empty() || other.is_empty() {
            return Set::new();
        }
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => {
                Entry { member: a.member && b.member, below: a.below.intersection(&b.below) }
            }
            _ => Entry::default(),
        })
    }

    /// Paths that `other` has not. What is below a member of `other` stays.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        if self.is_empty() || other.is_empty() {
            return self.clone();
        }
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => {
                Entry { member: a.member && !b.member, below: a.below.difference(&b.below) }
            }
            (Some(a), None) => a.clone(),
            _ => Entry::default(),
        })
    }

    /// Paths that are neither in `other` nor below a member of it.
    #[must_use]
    pub fn recursive_difference(&self, other: &Set) -> Set {
        if self.is_empty() || other.is_empty() {
            return self.clone();
        }
        self.zip(other, |a, b| match (a, b) {
            (Some(_), Some(b)) if b.member => Entry::default(),
            (Some(a), Some(b)) => Entry { member: a.member, below: a.below.recursive_difference(&b.below) },
            (Some(a), None) => a.clone(),
            _ => Entry::default(),
        })
    }

    /// The members that have nothing below them, as printed paths: `.spec.containers[name="c"].image`.
    pub fn leaf_paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_leaves(&mut String::new(), &mut out);
        out
    }

    fn collect_leaves(&self, prefix: &mut String, out: &mut Vec<String>) {
        for (element, entry) in &self.nodes {
            let len = prefix.len();
            prefix.push_str(&element.to_string());
            match entry.below.is_empty() {
                true => out.push(prefix.clone()),
                false => entry.below.collect_leaves(prefix, out),
            }
            prefix.truncate(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets() -> impl Strategy<Value = Set> {
        proptest::collection::vec("[a-c](\\.[a-c]){0,2}", 0..8)
            .prop_map(|paths| Set::of_fields(&paths.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn algebra(a in sets(), b in sets()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.union(&a), a.clone());
            prop_assert_eq!(a.union(&b).len(), a.len() + b.len() - a.intersection(&b).len());
        }
    }

    #[test]
    fn recursive_difference_takes_what_is_below() {
        let set = Set::of_fields(&["a", "a.b", "a.c.d", "e"]);
        assert_eq!(set.recursive_difference(&Set::of_fields(&["a"])), Set::of_fields(&["e"]));
        assert_eq!(set.difference(&Set::of_fields(&["a"])), Set::of_fields(&["a.b", "a.c.d", "e"]));
        assert_eq!(set.leaf_paths(), [".a.b", ".a.c.d", ".e"]);
    }
}
