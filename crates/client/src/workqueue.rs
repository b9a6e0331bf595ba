//! A queue of keys to reconcile (client-go's workqueue): an item waits at most once, is worked on by one worker at a
//! time, and comes back after a growing pause when it failed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Back-off of an item that keeps failing (upstream's ItemExponentialFailureRateLimiter).
const BACKOFF_BASE: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// A queue of distinct items; its size is bounded by the number of distinct items. Clones share it.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    name: &'static str,
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    /// Items to be worked on: those in `ready`, and those added again while a worker has them.
    dirty: HashSet<T>,
    processing: HashSet<T>,
    /// Items to be added later, by time; the number tells apart what falls on the same instant.
    delayed: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    failures: HashMap<T, u32>,
    sequence: u64,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> WorkQueue<T> {
    /// An empty queue; `name` appears in logs.
    pub fn new(name: &'static str) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
        };
        Self { shared: Arc::new(Shared { name, state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// The name it was made with.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Adds `item`, unless it waits already. While a worker has it, it is given out again afterwards.
    pub fn add(&self, item: T) {
        if self.shared.state.lock().add(item) {
            self.shared.changed.notify_one();
        }
    }

    /// Adds `item` after `delay`. Of several delays the earliest counts.
    pub fn add_after(&self, item: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(item);
        }
        self.shared.state.lock().delay(item, Instant::now() + delay);
        self.shared.changed.notify_one();
    }

    /// Adds `item` after a pause that doubles with each call since the last [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, item: T) {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(item.clone()).or_default();
            *failures += 1;
            BACKOFF_BASE.saturating_mul(1 << (*failures - 1).min(24)).min(BACKOFF_MAX)
        };
        self.add_after(item, delay);
    }

    /// How often `item` was added with [`WorkQueue::add_rate_limited`] since it was forgotten.
    pub fn failures(&self, item: &T) -> u32 {
        self.shared.state.lock().failures.get(item).copied().unwrap_or(0)
    }

    /// Ends the growth of the pause of `item`.
    pub fn forget(&self, item: &T) {
        self.shared.state.lock().failures.remove(item);
    }

    /// Waits for an item to work on; [`WorkQueue::done`] gives it back.
    pub async fn get(&self) -> T {
        loop {
            let changed = self.shared.changed.notified();
            let (item, next) = {
                let mut state = self.shared.state.lock();
                state.promote(Instant::now());
                (state.take(), state.delayed.keys().next().map(|(at, _)| *at))
            };
            if let Some(item) = item {
                // Another worker may find the next one.
                self.shared.changed.notify_one();
                return item;
            }
            match next {
                Some(at) => tokio::select! { () = changed => {}, () = tokio::time::sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    /// Says that a worker has finished with `item`.
    pub fn done(&self, item: &T) {
        let again = {
            let mut state = self.shared.state.lock();
            state.processing.remove(item);
            let again = state.dirty.contains(item);
            if again {
                state.ready.push_back(item.clone());
            }
            again
        };
        if again {
            self.shared.changed.notify_one();
        }
    }

    /// How many items wait for a worker now.
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    /// True when no item waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// True if the item waits for a worker now and did not before.
    fn add(&mut self, item: T) -> bool {
        if !self.dirty.insert(item.clone()) || self.processing.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    fn delay(&mut self, item: T, at: Instant) {
        if let Some(slot) = self.due.get(&item) {
            if slot.0 <= at {
                return;
            }
            self.delayed.remove(&slot.clone());
        }
        self.sequence += 1;
        let slot = (at, self.sequence);
        self.due.insert(item.clone(), slot);
        self.delayed.insert(slot, item);
    }

    /// Adds what is due.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let item = entry.remove();
            self.due.remove(&item);
            self.add(item);
        }
    }

    fn take(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.processing.insert(item.clone());
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_waits_once_and_is_worked_on_by_one() {
        let queue = WorkQueue::new("test");
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.get().await, "a");
        queue.add("a");
        assert_eq!(queue.get().await, "b");
        assert!(queue.is_empty(), "a is being worked on");
        queue.done(&"a");
        assert_eq!(queue.get().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_the_earliest_and_back_off_doubles() {
        let queue = WorkQueue::new("test");
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(60));
        queue.add_after("late", Duration::from_secs(5));
        queue.add_after("late", Duration::from_secs(30));
        assert_eq!(queue.get().await, "late");
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&"late");
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.add_rate_limited("late");
            queue.get().await;
            queue.done(&"late");
            pauses.push(start.elapsed().as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 40]);
        queue.forget(&"late");
        assert_eq!(queue.failures(&"late"), 0);
    }

    #[tokio::test]
    async fn a_waiting_worker_is_woken() {
        let queue = WorkQueue::new("test");
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.get().await }
        });
        tokio::task::yield_now().await;
        queue.add(7);
        assert_eq!(waiting.await.unwrap(), 7);
    }
}
