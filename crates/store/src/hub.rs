//! Hands every change to the watchers of its range.
//!
//! Watchers of the same range form a group: a change is filtered once per group and the batch is shared. Groups of
//! one key are found by the key, groups of a prefix that ends in a slash (all of the API server's) by the slashes of
//! the changed key; only other ranges are tried one by one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

use crate::history::Change;
use crate::{Error, Event, Key, KeyRange, Revision, WATCH_BUFFER_BATCHES, WatchBatch};

#[derive(Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    dispatched: AtomicU64,
}

#[derive(Default)]
struct Inner {
    groups: HashMap<KeyRange, Group>,
    by_slash: HashMap<Key, KeyRange>,
    others: Vec<KeyRange>,
    next_id: u64,
    closed: bool,
}

#[derive(Default)]
struct Group {
    members: HashMap<u64, Arc<Queue>>,
    /// What of the change being handed out lies in the range.
    picked: Vec<usize>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    batches: VecDeque<WatchBatch>,
    start: Revision,
    cut: bool,
    closed: bool,
    waker: Option<Waker>,
}

/// One watcher's place in the hub; dropping it gives the place up.
pub(crate) struct Subscription {
    keyspace: Arc<crate::keyspace::Keyspace>,
    range: KeyRange,
    id: u64,
    queue: Arc<Queue>,
}

impl Hub {
    /// The newest revision whose changes are in every live watcher's queue.
    pub(crate) fn dispatched(&self) -> Revision {
        Revision(self.dispatched.load(Ordering::Acquire))
    }

    /// Starts out at `revision`, before there are watchers.
    pub(crate) fn start_at(&self, revision: Revision) {
        self.dispatched.store(revision.0, Ordering::Release);
    }

    /// Hands out changes that the keyspace already shows.
    pub(crate) fn dispatch(&self, changes: &[Change], reached: Revision) {
        let mut inner = self.inner.lock();
        if !inner.groups.is_empty() {
            for change in changes {
                inner.dispatch_one(change);
            }
        }
        self.dispatched.store(reached.0, Ordering::Release);
    }

    /// Goes on at `revision` although changes before it are missing: all watchers have to look into the history.
    pub(crate) fn skip_to(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        self.dispatched.store(revision.0, Ordering::Release);
        inner.by_slash.clear();
        inner.others.clear();
        for queue in inner.groups.drain().flat_map(|(_, group)| group.members.into_values()) {
            let mut state = queue.state.lock();
            state.cut = true;
            wake(&mut state);
        }
    }

    /// Cuts all watchers off and goes on at `revision`: each looks into the history, which no longer reaches back.
    pub(crate) fn cut_all(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        for queue in inner.groups.drain().flat_map(|(_, group)| group.members.into_values()) {
            let mut state = queue.state.lock();
            state.cut = true;
            wake(&mut state);
        }
        inner.by_slash.clear();
        inner.others.clear();
        self.start_at(revision);
    }

    /// Ends all watches with [`Error::Closed`] once they have taken what is queued.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for queue in inner.groups.drain().flat_map(|(_, group)| group.members.into_values()) {
            let mut state = queue.state.lock();
            state.closed = true;
            wake(&mut state);
        }
    }

    /// Joins if no change from `next` on has been handed out yet; else the newest that has been.
    pub(crate) fn subscribe(
        keyspace: &Arc<crate::keyspace::Keyspace>,
        range: &KeyRange,
        next: Revision,
    ) -> Result<Subscription, Revision> {
        let hub = &keyspace.hub;
        let mut inner = hub.inner.lock();
        let dispatched = hub.dispatched();
        if next <= dispatched {
            return Err(dispatched);
        }
        let queue = Arc::new(Queue::default());
        {
            let mut state = queue.state.lock();
            state.start = next;
            state.closed = inner.closed;
        }
        let id = inner.join(range, queue.clone());
        drop(inner);
        Ok(Subscription { keyspace: keyspace.clone(), range: range.clone(), id, queue })
    }
}

impl Inner {
    fn join(&mut self, range: &KeyRange, queue: Arc<Queue>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if !self.groups.contains_key(range) && range.as_single().is_none() {
            match slash_prefix(range) {
                Some(prefix) => _ = self.by_slash.insert(prefix, range.clone()),
                None => self.others.push(range.clone()),
            }
        }
        self.groups.entry(range.clone()).or_default().members.insert(id, queue);
        id
    }

    fn leave(&mut self, range: &KeyRange, id: u64) {
        let Some(group) = self.groups.get_mut(range) else { return };
        group.members.remove(&id);
        if group.members.is_empty() {
            self.groups.remove(range);
            self.forget(range);
        }
    }

    fn forget(&mut self, range: &KeyRange) {
        match slash_prefix(range) {
            Some(prefix) => _ = self.by_slash.remove(&prefix),
            None => self.others.retain(|other| other != range),
        }
    }

    fn dispatch_one(&mut self, change: &Change) {
        let mut touched: Vec<KeyRange> = Vec::new();
        for (index, event) in change.events.iter().enumerate() {
            let key = &event.entry.key;
            let single = KeyRange::single(key.clone());
            let slashes = key.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &key[..=at]);
            let prefixes = slashes.filter_map(|prefix| self.by_slash.get(prefix));
            let others = self.others.iter().filter(|range| range.contains(key));
            for range in std::iter::once(&single).chain(prefixes).chain(others) {
                let Some(group) = self.groups.get_mut(range) else { continue };
                if group.picked.is_empty() {
                    touched.push(range.clone());
                }
                group.picked.push(index);
            }
        }
        for range in touched {
            let Some(group) = self.groups.get_mut(&range) else { continue };
            let picked = std::mem::take(&mut group.picked);
            let events = pick(&change.events, &picked);
            let batch = WatchBatch::new(change.revision, events);
            group.members.retain(|_, queue| queue.push(&batch));
            if group.members.is_empty() {
                self.groups.remove(&range);
                self.forget(&range);
            }
        }
    }
}

impl Queue {
    /// False if the watcher is too slow and has been cut.
    fn push(&self, batch: &WatchBatch) -> bool {
        let mut state = self.state.lock();
        if batch.revision < state.start {
            return true;
        }
        if state.batches.len() >= WATCH_BUFFER_BATCHES {
            state.cut = true;
        } else {
            state.batches.push_back(batch.clone());
        }
        wake(&mut state);
        !state.cut
    }
}

fn wake(state: &mut QueueState) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

/// The events at `picked`; the same allocation if that is all of them.
pub(crate) fn pick(events: &Arc<[Event]>, picked: &[usize]) -> Arc<[Event]> {
    if picked.len() == events.len() {
        events.clone()
    } else {
        picked.iter().map(|at| events[*at].clone()).collect()
    }
}

/// The prefix of a range that is one and ends in a slash.
fn slash_prefix(range: &KeyRange) -> Option<Key> {
    let start = range.start();
    (start.ends_with(b"/") && *range == KeyRange::prefix(start.clone())).then(|| start.clone())
}

impl Subscription {
    /// The next batch; else, with `cx`, arranges to be woken.
    pub(crate) fn take(&self, cx: Option<&mut Context<'_>>) -> Result<Option<WatchBatch>, Error> {
        let mut state = self.queue.state.lock();
        if let Some(batch) = state.batches.pop_front() {
            return Ok(Some(batch));
        }
        if state.closed {
            return Err(Error::Closed);
        }
        if let (Some(cx), false) = (cx, state.cut) {
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => state.waker = Some(cx.waker().clone()),
            }
        }
        Ok(None)
    }

    /// Whether the queue ran over, so that changes after the queued ones are missing here.
    pub(crate) fn is_cut(&self) -> bool {
        self.queue.state.lock().cut
    }

    /// Nothing waits here, and nothing is missing.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.queue.state.lock();
        state.batches.is_empty() && !state.cut && !state.closed
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.keyspace.hub.inner.lock().leave(&self.range, self.id);
    }
}
