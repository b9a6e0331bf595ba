//! Pieces of JSON lists, laid out once for all lists of the same objects that are sent at the same time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use codec::json;
use parking_lot::Mutex;
use store::Entry;

use crate::core::Core;
use crate::registry::stored::memo;

/// Stored bytes of the objects of one piece, about; laid out they are nearly twice as many.
const PIECE: usize = 80 * 1024;
/// Stored bytes of the objects of all pieces that are kept.
const MAX_BYTES: usize = 5 << 20;
/// The level of a list's items when laid out.
const ITEM_DEPTH: usize = 2;

/// How the items of a list are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// What each begins with: `{`, or [`crate::registry::stored::header`]'s text.
    pub header: Arc<[u8]>,
    /// Indented.
    pub pretty: bool,
    /// Nothing comes before them.
    pub first: bool,
}

impl Style {
    /// These objects as items.
    pub fn write(&self, entries: &[Arc<Entry>]) -> Vec<u8> {
        let stored: usize = entries.iter().map(|entry| entry.value.len() + 64).sum();
        let mut out = Vec::with_capacity(if self.pretty { stored * 2 } else { stored });
        let mut compact = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if at > 0 || !self.first {
                out.push(b',');
            }
            let memo = memo(entry);
            if self.pretty {
                json::new_line(ITEM_DEPTH, &mut out);
                compact.clear();
                memo.write_json(&mut compact, entry, &self.header, entry.mod_revision.0);
                json::indent(&compact, ITEM_DEPTH, &mut out);
            } else {
                memo.write_json(&mut out, entry, &self.header, entry.mod_revision.0);
            }
        }
        out
    }

    /// What follows the items.
    pub fn end(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.pretty && !self.first {
            json::new_line(ITEM_DEPTH - 1, &mut out);
        }
        out.extend_from_slice(if self.pretty { b"]\n}\n" } else { b"]}\n" });
        out
    }
}

/// How many of these objects make a piece: the same for all who come to the first of them.
pub fn length(entries: &[Arc<Entry>]) -> usize {
    let mut bytes = 0;
    let full = entries.iter().position(|entry| {
        bytes += entry.value.len();
        bytes >= PIECE
    });
    full.map_or(entries.len(), |last| last + 1)
}

/// The newest pieces while there is more than one list.
#[derive(Debug, Default)]
pub struct Pieces {
    recent: Mutex<Recent>,
    lists: AtomicUsize,
}

#[derive(Debug, Default)]
struct Recent {
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    /// Told by their addresses, which nothing else can have while they are held here.
    entries: Vec<Arc<Entry>>,
    style: Style,
    bytes: usize,
    made: OnceLock<Bytes>,
}

impl Piece {
    fn is(&self, entries: &[Arc<Entry>], style: &Style) -> bool {
        self.entries.len() == entries.len()
            && self.entries.iter().zip(entries).all(|(one, other)| Arc::ptr_eq(one, other))
            && self.style == *style
    }
}

impl Pieces {
    fn piece(&self, entries: &[Arc<Entry>], style: &Style) -> Arc<Piece> {
        let mut recent = self.recent.lock();
        if let Some(piece) = recent.pieces.iter().rev().find(|piece| piece.is(entries, style)) {
            return piece.clone();
        }
        let bytes = entries.iter().map(|entry| entry.size()).sum();
        let (entries, style, made) = (entries.to_vec(), style.clone(), OnceLock::new());
        let piece = Arc::new(Piece { entries, style, bytes, made });
        recent.bytes += bytes;
        recent.pieces.push_back(piece.clone());
        while recent.bytes > MAX_BYTES {
            let Some(oldest) = recent.pieces.pop_front() else { break };
            recent.bytes -= oldest.bytes;
        }
        piece
    }
}

/// One list that is being sent. With the last of them go the pieces.
pub struct Reader(Arc<Core>);

impl Reader {
    /// One more list.
    pub fn new(core: &Arc<Core>) -> Self {
        core.pieces.lists.fetch_add(1, Ordering::Relaxed);
        Self(core.clone())
    }

    /// These objects as items, which another list may have had laid out.
    pub fn get(&self, entries: &[Arc<Entry>], style: &Style) -> Bytes {
        if self.0.pieces.lists.load(Ordering::Relaxed) < 2 {
            return style.write(entries).into();
        }
        let piece = self.0.pieces.piece(entries, style);
        piece.made.get_or_init(|| style.write(entries).into()).clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.0.pieces.lists.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.pieces.recent.lock() = Recent::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use store::{LeaseId, Revision};

    use super::*;

    fn entries(count: u64, bytes: usize) -> Vec<Arc<Entry>> {
        let text =
            format!(r#"{{"kind":"A","apiVersion":"v1","metadata":{{"name":"{}"}}}}"#, "x".repeat(bytes));
        let entry = |at| {
            let revisions = (Revision(at), Revision(at), 1);
            Arc::new(Entry::new("k".into(), text.clone().into(), revisions, LeaseId::NONE))
        };
        (1..=count).map(entry).collect()
    }

    fn style(pretty: bool) -> Style {
        Style { header: b"{".as_slice().into(), pretty, first: false }
    }

    #[test]
    fn a_piece_is_made_once_for_the_same_objects_in_the_same_style() {
        let pieces = Pieces::default();
        let (some, other) = (entries(3, 10), entries(3, 10));
        let piece = |entries: &[Arc<Entry>], pretty| pieces.piece(entries, &style(pretty));
        let first = piece(&some, false);
        assert!(Arc::ptr_eq(&first, &piece(&some, false)));
        assert!(!Arc::ptr_eq(&first, &piece(&some, true)));
        assert!(!Arc::ptr_eq(&first, &piece(&some[..2], false)));
        assert!(!Arc::ptr_eq(&first, &piece(&other, false)));
    }

    #[test]
    fn few_bytes_are_kept() {
        let pieces = Pieces::default();
        let many = entries(200, PIECE / 2);
        for group in many.chunks(2) {
            pieces.piece(group, &style(true));
        }
        let recent = pieces.recent.lock();
        assert!(recent.bytes <= MAX_BYTES && recent.bytes > MAX_BYTES / 2, "{}", recent.bytes);
    }

    #[test]
    fn pieces_have_a_size_and_take_in_all() {
        assert_eq!(length(&entries(10, PIECE)), 1);
        assert_eq!(length(&entries(10, PIECE / 2)), 2);
        assert_eq!(length(&entries(10, 10)), 10);
        assert_eq!(length(&[]), 0);
    }
}
