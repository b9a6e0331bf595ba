//! Watching: what changed in a range, revision by revision, without a gap.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::hub::Subscription;
use crate::keyspace::Keyspace;
use crate::{Entry, Error, KeyRange, Memo, Revision, WATCH_CATCH_UP_EVENTS};

/// How a range is watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatchOptions {
    /// The first revision to hear of; zero: the one after the current.
    pub start_revision: Revision,
    /// Whether [`Event::prev`] is wanted. Events of a store in memory come with it all the same: it is shared.
    pub prev_entry: bool,
    /// After this long without an event an empty batch says which revision has been reached.
    pub progress: Option<Duration>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted, by a request or with its lease.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// What is there now. For a deletion a tombstone: the key, the revision of the deletion, and nothing else. It is
    /// shared like any entry, so a memo of the deletion's encodings can hang on it.
    pub entry: Arc<Entry>,
    /// What was there before.
    pub prev: Option<Arc<Entry>>,
}

/// All changes of a watched range at one revision; shared by all who watch the same range.
#[derive(Clone)]
pub struct WatchBatch {
    /// The revision. A watch may be resumed from the one after it.
    pub revision: Revision,
    /// In the order of the transaction. Empty: nothing happened up to this revision.
    pub events: Arc<[Event]>,
    memo: Arc<OnceLock<Memo>>,
}

impl WatchBatch {
    /// A batch without memo.
    pub fn new(revision: Revision, events: Arc<[Event]>) -> Self {
        Self { revision, events, memo: Arc::default() }
    }

    /// What a watcher derived from the batch for all others that got the same one; made by `init` if nothing is there
    /// yet, and not kept if something of another type is.
    pub fn memo_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce(&Self) -> T) -> Arc<T> {
        if let Some(memo) = self.memo.get() {
            return memo.clone().downcast().unwrap_or_else(|_| Arc::new(init(self)));
        }
        let made = Arc::new(init(self));
        let kept: Memo = self.memo.get_or_init(|| made.clone()).clone();
        kept.downcast().unwrap_or(made)
    }
}

impl PartialEq for WatchBatch {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.events == other.events
    }
}

impl Eq for WatchBatch {}

impl fmt::Debug for WatchBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchBatch")
            .field("revision", &self.revision)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// A running watch; dropping it ends it.
///
/// A watcher holds at most [`crate::WATCH_BUFFER_BATCHES`] batches for a reader that is slow. Beyond that it is cut
/// from the live changes and reads on from the shared history, so it costs no more memory however slow it is; when
/// the history no longer reaches back far enough, it ends with [`Error::Compacted`].
pub struct Watcher {
    keyspace: Arc<Keyspace>,
    range: KeyRange,
    /// Everything below has been given out or is in `caught_up`.
    next: Revision,
    /// The newest revision given out.
    given: Revision,
    caught_up: VecDeque<WatchBatch>,
    live: Option<Subscription>,
    progress: Option<(Duration, Pin<Box<Sleep>>)>,
    ended: Option<Error>,
}

impl Watcher {
    pub(crate) fn new(
        keyspace: Arc<Keyspace>,
        range: KeyRange,
        next: Revision,
        every: Option<Duration>,
    ) -> Self {
        let progress = every.map(|every| (every, Box::pin(sleep_until(Instant::now() + every))));
        let (given, caught_up) = (Revision::ZERO, VecDeque::new());
        Self { keyspace, range, next, given, caught_up, live: None, progress, ended: None }
    }

    /// The next batch. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Closed`]; the watch has ended then.
    pub async fn next(&mut self) -> Result<WatchBatch, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next batch if there is one now.
    pub fn try_next(&mut self) -> Result<Option<WatchBatch>, Error> {
        self.advance(None)
    }

    /// [`Watcher::next`] as a poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchBatch, Error>> {
        match self.advance(Some(cx)) {
            Ok(Some(batch)) => {
                self.rearm_progress();
                Poll::Ready(Ok(batch))
            }
            Ok(None) => self.poll_progress(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The revision up to which everything has been given out: a bookmark. None while batches wait to be taken.
    pub fn progress_revision(&self) -> Option<Revision> {
        let reached = self.keyspace.hub.dispatched();
        let idle = self.caught_up.is_empty() && self.live.as_ref().is_some_and(Subscription::is_idle);
        (idle && self.ended.is_none()).then(|| reached.max(self.given))
    }

    /// The range watched.
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Takes its place among the live watchers now if nothing lies between; else the first poll reads the history.
    pub(crate) fn join(&mut self) {
        self.live = Keyspace::subscribe(&self.keyspace, &self.range, self.next).ok();
    }

    fn advance(&mut self, mut cx: Option<&mut Context<'_>>) -> Result<Option<WatchBatch>, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let result = loop {
            if let Some(batch) = self.caught_up.pop_front() {
                break Ok(Some(batch));
            }
            match &self.live {
                Some(live) => match live.take(cx.as_deref_mut()) {
                    Ok(Some(batch)) => {
                        self.next = batch.revision.next();
                        break Ok(Some(batch));
                    }
                    Ok(None) if live.is_cut() => self.live = None,
                    Ok(None) => break Ok(None),
                    Err(error) => break Err(error),
                },
                None => {
                    if let Err(error) = self.catch_up() {
                        break Err(error);
                    }
                }
            }
        };
        match &result {
            Ok(Some(batch)) => self.given = batch.revision,
            Ok(None) => {}
            Err(error) => {
                self.live = None;
                self.ended = Some(error.clone());
            }
        }
        result
    }

    /// Joins the live changes if nothing is missing before them, else takes a piece of the history.
    fn catch_up(&mut self) -> Result<(), Error> {
        match Keyspace::subscribe(&self.keyspace, &self.range, self.next) {
            Ok(live) => self.live = Some(live),
            Err(upto) => {
                let piece = self.keyspace.replay(&self.range, self.next, upto, WATCH_CATCH_UP_EVENTS)?;
                self.next = piece.next;
                self.caught_up = piece.batches;
            }
        }
        Ok(())
    }

    fn rearm_progress(&mut self) {
        if let Some((every, sleep)) = &mut self.progress {
            sleep.as_mut().reset(Instant::now() + *every);
        }
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchBatch, Error>> {
        let Some((every, sleep)) = &mut self.progress else { return Poll::Pending };
        while sleep.as_mut().poll(cx).is_ready() {
            sleep.as_mut().reset(Instant::now() + *every);
            let reached = self.keyspace.hub.dispatched();
            if self.live.as_ref().is_some_and(Subscription::is_idle) {
                self.given = self.given.max(reached);
                self.next = self.next.max(reached.next());
                return Poll::Ready(Ok(WatchBatch::new(self.given, Arc::new([]))));
            }
        }
        Poll::Pending
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("range", &self.range)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
