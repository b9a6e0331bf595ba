//! The active queue: pods in the order of the profile's QueueSort plugin.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::framework::QueueSort;
use crate::pod_info::PodInfo;

/// An ordered set of pods, each found again by its uid.
#[derive(Default)]
pub struct Heap {
    order: BTreeSet<Item>,
    items: HashMap<String, Item>,
}

#[derive(Clone)]
struct Item {
    uid: String,
    info: Arc<PodInfo>,
    since: Instant,
    sequence: u64,
    sort: Arc<dyn QueueSort>,
}

impl Heap {
    /// Adds a pod; pods that the plugin holds equal go by age, then by order of arrival.
    pub fn push(
        &mut self,
        uid: String,
        info: Arc<PodInfo>,
        since: Instant,
        sequence: u64,
        sort: Arc<dyn QueueSort>,
    ) {
        let item = Item { uid: uid.clone(), info, since, sequence, sort };
        self.remove(&uid);
        self.items.insert(uid, item.clone());
        self.order.insert(item);
    }

    /// The uid of the pod to schedule first.
    pub fn pop(&mut self) -> Option<String> {
        let item = self.order.pop_first()?;
        self.items.remove(&item.uid);
        Some(item.uid)
    }

    /// Takes a pod out.
    pub fn remove(&mut self, uid: &str) {
        if let Some(item) = self.items.remove(uid) {
            self.order.remove(&item);
        }
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_plugin = self.sort.compare(&self.info, &other.info);
        by_plugin.then(self.since.cmp(&other.since)).then(self.sequence.cmp(&other.sequence))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Item {}
