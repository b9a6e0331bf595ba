//! Keys and ranges of keys.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, Deref};
use std::sync::Arc;

/// A key: bytes, shared by its entry, the index and events.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum End {
    Single,
    Before(Key),
    Unbounded,
}

/// A run of keys in byte order: one key, or from a first key up to (without) a last, or to the end of the keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    start: Key,
    end: End,
}

impl KeyRange {
    /// This key alone.
    pub fn single(key: impl Into<Key>) -> Self {
        Self { start: key.into(), end: End::Single }
    }

    /// All keys that begin with `prefix`; an empty prefix is the whole keyspace.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start = prefix.into();
        let end = match prefix_end(&start) {
            Some(end) => End::Before(end),
            None => End::Unbounded,
        };
        Self { start, end }
    }

    /// `first` and every key after it below `end`. Empty if `end` is not above `first`.
    pub fn between(first: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: first.into(), end: End::Before(end.into()) }
    }

    /// `first` and every key after it.
    pub fn from(first: impl Into<Key>) -> Self {
        Self { start: first.into(), end: End::Unbounded }
    }

    /// Every key.
    pub fn all() -> Self {
        Self::from("")
    }

    /// The rest of this range from `first` on: how a page goes on after the last one (`last key + "\0"`).
    pub fn starting_at(&self, first: impl Into<Key>) -> Self {
        let first = first.into();
        match &self.end {
            End::Single if *first == *self.start => self.clone(),
            End::Single => Self::between(first.clone(), first),
            end => Self { start: first.max(self.start.clone()), end: end.clone() },
        }
    }

    /// The first key that the range can hold.
    pub fn start(&self) -> &Key {
        &self.start
    }

    /// The first key after the range, if it is of several keys and has an end.
    pub fn end(&self) -> Option<&Key> {
        match &self.end {
            End::Before(end) => Some(end),
            End::Single | End::Unbounded => None,
        }
    }

    /// The key, if the range is of one key.
    pub fn as_single(&self) -> Option<&Key> {
        matches!(self.end, End::Single).then_some(&self.start)
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == &*self.start,
            End::Before(end) => key >= &*self.start && key < end.as_bytes(),
            End::Unbounded => key >= &*self.start,
        }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// Whether some key may lie in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        fn below(a: &KeyRange, b: &KeyRange) -> bool {
            match &a.end {
                End::Single => a.start < b.start,
                End::Before(end) => *end <= b.start,
                End::Unbounded => false,
            }
        }
        !self.is_empty() && !other.is_empty() && !below(self, other) && !below(other, self)
    }

    /// The range as bounds of an ordered map. The range must not be empty.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(self.start.as_bytes()),
            End::Before(end) => Bound::Excluded(end.as_bytes()),
            End::Unbounded => Bound::Unbounded,
        };
        (Bound::Included(self.start.as_bytes()), end)
    }
}

/// The first key above all keys with this prefix, none if the prefix is empty or all 0xff.
fn prefix_end(prefix: &[u8]) -> Option<Key> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        assert!(KeyRange::prefix("/a/").contains(b"/a/x"));
        assert!(!KeyRange::prefix("/a/").contains(b"/a0"));
        assert!(KeyRange::prefix(&b"\xff\xff"[..]).contains(b"\xff\xff\x01"));
        assert!(KeyRange::prefix("").contains(b""));
        assert!(!KeyRange::single("/a").contains(b"/a/"));
        assert!(KeyRange::between("b", "a").is_empty());
        let page = KeyRange::prefix("/a/").starting_at("/a/m\0");
        assert!(page.contains(b"/a/n") && !page.contains(b"/a/m") && !page.contains(b"/b"));
    }

    #[test]
    fn overlap_is_symmetric() {
        let cases = [
            (KeyRange::single("b"), KeyRange::prefix("a"), false),
            (KeyRange::single("ab"), KeyRange::prefix("a"), true),
            (KeyRange::between("a", "c"), KeyRange::between("b", "d"), true),
            (KeyRange::between("a", "b"), KeyRange::between("b", "d"), false),
            (KeyRange::from("x"), KeyRange::single("z"), true),
            (KeyRange::single("z"), KeyRange::single("z"), true),
        ];
        for (a, b, expect) in cases {
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (expect, expect), "{a:?} {b:?}");
        }
    }
}
