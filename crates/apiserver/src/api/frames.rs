//! Watch events as they are sent, made once for all clients that watch in the same form.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use openapi::table::{IncludeObject, Seconds};
use parking_lot::Mutex;
use store::Entry;
use tokio::sync::OnceCell;

use crate::http::negotiate::Accept;
use crate::registry::Served;
use crate::status::ApiResult;

/// Frames kept at most, the newest.
const MAX_FRAMES: usize = 128;
/// Stored bytes of their objects at most.
const MAX_BYTES: usize = 4 << 20;

/// What makes two frames of one event the same bytes, besides the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The encoding and form.
    pub accept: Accept,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    /// The revision shown, which for deletions is not the entry's own.
    pub revision: u64,
    /// With the definitions of a Table's columns.
    pub columns: bool,
    /// What a Table's rows hold.
    pub include: IncludeObject,
    /// The moment that a Table's ages are counted to; zero for all else.
    pub now_s: Seconds,
}

/// The newest frames, whoever made them.
///
/// A change that a thousand clients watch is encoded once, and they are sent the same memory. Who comes later than the
/// frame lasts here makes it anew.
#[derive(Debug, Default)]
pub struct Frames(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
}

/// Entry and resource are told by their addresses, which nothing else can have while they are held here.
struct Frame {
    entry: Arc<Entry>,
    served: Arc<Served>,
    shape: Shape,
    made: OnceCell<Bytes>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} as {:?}", self.entry, self.shape)
    }
}

impl Frames {
    /// The frame of `entry` in that shape, made by `make` if nobody has made it yet.
    pub async fn get<F>(
        &self,
        served: &Arc<Served>,
        entry: &Arc<Entry>,
        shape: Shape,
        make: impl FnOnce() -> F,
    ) -> ApiResult<Bytes>
    where
        F: Future<Output = ApiResult<Vec<u8>>>,
    {
        let frame = self.frame(served, entry, shape);
        if let Some(made) = frame.made.get() {
            return Ok(made.clone());
        }
        frame.made.get_or_try_init(|| async { make().await.map(Bytes::from) }).await.cloned()
    }

    fn frame(&self, served: &Arc<Served>, entry: &Arc<Entry>, shape: Shape) -> Arc<Frame> {
        let mut recent = self.0.lock();
        let same = |frame: &&Arc<Frame>| {
            Arc::ptr_eq(&frame.entry, entry) && frame.shape == shape && Arc::ptr_eq(&frame.served, served)
        };
        if let Some(frame) = recent.frames.iter().rev().find(same) {
            return frame.clone();
        }
        let frame =
            Arc::new(Frame { entry: entry.clone(), served: served.clone(), shape, made: OnceCell::new() });
        recent.add(frame.clone());
        frame
    }
}

impl Recent {
    fn add(&mut self, frame: Arc<Frame>) {
        self.bytes += frame.entry.size();
        self.frames.push_back(frame);
        while self.frames.len() > MAX_FRAMES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.frames.pop_front() else { return };
            self.bytes -= oldest.entry.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use schema::Catalog;
    use store::{LeaseId, Revision};

    use super::*;
    use crate::registry::ResourceTable;

    fn entry(bytes: usize) -> Arc<Entry> {
        let revisions = (Revision(1), Revision(1), 1);
        Arc::new(Entry::new("k".into(), vec![b'x'; bytes].into(), revisions, LeaseId::NONE))
    }

    fn shape(kind: &'static str) -> Shape {
        Shape {
            accept: Accept::JSON,
            kind,
            revision: 1,
            columns: false,
            include: IncludeObject::Metadata,
            now_s: 0,
        }
    }

    #[tokio::test]
    async fn a_frame_is_made_once_for_all_and_anew_for_what_differs() {
        let (frames, made) = (Frames::default(), AtomicUsize::new(0));
        let table = ResourceTable::builtin(Catalog::builtin());
        let [first, second] = [&table.all()[0], &table.all()[1]];
        let (entry, twin) = (entry(1), entry(1));
        let number = |served, entry, shape| {
            let make = || async { Ok(vec![made.fetch_add(1, Ordering::Relaxed) as u8]) };
            let frame = frames.get(served, entry, shape, make);
            async { frame.await.unwrap()[0] }
        };
        assert_eq!(number(first, &entry, shape("ADDED")).await, 0);
        assert_eq!(number(first, &entry, shape("ADDED")).await, 0);
        assert_eq!(number(first, &entry, shape("DELETED")).await, 1);
        assert_eq!(number(first, &entry, Shape { revision: 2, ..shape("ADDED") }).await, 2);
        assert_eq!(number(second, &entry, shape("ADDED")).await, 3);
        assert_eq!(number(first, &twin, shape("ADDED")).await, 4);
        assert_eq!(number(first, &entry, shape("ADDED")).await, 0);
        let failed = frames.get(first, &twin, shape("DELETED"), || async {
            Err(crate::status::ApiError::internal("not made"))
        });
        assert!(failed.await.is_err());
        assert_eq!(number(first, &twin, shape("DELETED")).await, 5);
    }

    #[tokio::test]
    async fn few_frames_and_few_bytes_are_kept() {
        let frames = Frames::default();
        let table = ResourceTable::builtin(Catalog::builtin());
        let kept = || {
            let recent = frames.0.lock();
            (recent.frames.len(), recent.bytes)
        };
        for _ in 0..2 * MAX_FRAMES {
            frames.frame(&table.all()[0], &entry(1), shape("ADDED"));
        }
        assert_eq!(kept(), (MAX_FRAMES, 2 * MAX_FRAMES));
        for _ in 0..8 {
            frames.frame(&table.all()[0], &entry(MAX_BYTES / 4), shape("ADDED"));
        }
        assert_eq!(kept().0, 3);
        frames.frame(&table.all()[0], &entry(MAX_BYTES), shape("ADDED"));
        assert_eq!(kept(), (0, 0));
    }
}
