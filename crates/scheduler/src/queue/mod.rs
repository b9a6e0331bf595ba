//! The scheduling queue (upstream's PriorityQueue): pods to try now, pods that wait out a back-off, pods that wait for
//! the cluster to change, and pods that may not be tried yet.

mod heap;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::framework::{ClusterEvent, Profile};
use crate::pod_info::PodInfo;
use heap::Heap;

/// Back-off of a pod that was tried: doubles from the first to the last (upstream's defaults).
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LAST: Duration = Duration::from_secs(10);
/// A pod that waits for an event is tried again after this long all the same.
const UNSCHEDULABLE_LIMIT: Duration = Duration::from_secs(300);

/// The profiles by scheduler name.
pub type Profiles = Arc<HashMap<String, Arc<Profile>>>;

/// A pod in the queue and how it fared so far.
#[derive(Debug, Clone)]
pub struct QueuedPod {
    /// The pod.
    pub info: Arc<PodInfo>,
    /// When it first came: ties of priority go to who waits longest.
    pub since: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// Which plugins refused it last.
    pub refused_by: Vec<&'static str>,
    /// The move number when its cycle began; see [`Queue::give_back`].
    moves_seen: u64,
}

/// Where a pod is.
enum Place {
    Active,
    Backoff(Instant, u64),
    /// Until an event of interest, or this moment.
    Unschedulable(Instant),
    /// PreEnqueue refuses it.
    Gated,
}

struct Entry {
    pod: QueuedPod,
    place: Place,
}

/// The queue. Clones share it. Bounded by the number of unbound pods of the cluster.
#[derive(Clone)]
pub struct Queue {
    profiles: Profiles,
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    active: Heap,
    backoff: BTreeMap<(Instant, u64), String>,
    sequence: u64,
    /// Counts moves by events: a pod that fails while one happened goes to back-off and not to sleep.
    moves: u64,
    /// Pods in a cycle, with their newest state; None if they were removed meanwhile.
    in_flight: HashMap<String, Option<Arc<PodInfo>>>,
}

impl Queue {
    /// An empty queue of the pods of `profiles`.
    pub fn new(profiles: Profiles) -> Self {
        Self { profiles, inner: Arc::default(), changed: Arc::default() }
    }

    fn profile(&self, pod: &Pod) -> Option<Arc<Profile>> {
        self.profiles.get(scheduler_name(pod)).cloned()
    }

    /// Puts a new pod, or a new state of a waiting one, into the queue; `event` says what of it changed.
    pub fn add(&self, pod: Arc<Pod>, event: Option<ClusterEvent>) {
        let Some(profile) = self.profile(&pod) else { return };
        let info = Arc::new(PodInfo::new(pod));
        let mut inner = self.inner.lock();
        let uid = info.uid().to_owned();
        if let Some(newest) = inner.in_flight.get_mut(&uid) {
            *newest = Some(info);
            inner.moves += u64::from(event.is_some());
            return;
        }
        match inner.entries.remove(&uid) {
            None => {
                let pod = QueuedPod {
                    info,
                    since: Instant::now(),
                    attempts: 0,
                    refused_by: Vec::new(),
                    moves_seen: 0,
                };
                inner.admit(&profile, pod);
            }
            Some(entry) => {
                inner.unlink(&uid, &entry.place);
                let pod = QueuedPod { info, ..entry.pod };
                let helps = event.is_some_and(|event| profile.is_of_interest(event, &pod.refused_by));
                match entry.place {
                    Place::Unschedulable(until) if !helps => inner.park(pod, Place::Unschedulable(until)),
                    Place::Backoff(at, _) => inner.back_off(pod, at),
                    Place::Unschedulable(_) => inner.retry(pod),
                    Place::Active | Place::Gated => inner.admit(&profile, pod),
                }
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Takes a pod out that is gone or bound.
    pub fn remove(&self, uid: &str) {
        let mut inner = self.inner.lock();
        if let Some(newest) = inner.in_flight.get_mut(uid) {
            *newest = None;
        }
        if let Some(entry) = inner.entries.remove(uid) {
            inner.unlink(uid, &entry.place);
        }
    }

    /// Waits for the next pod to schedule. It is out of the queue until it is given back or done.
    pub async fn pop(&self) -> QueuedPod {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut inner = self.inner.lock();
                let now = Instant::now();
                inner.promote(now, &self.profiles);
                if let Some(uid) = inner.active.pop()
                    && let Some(mut entry) = inner.entries.remove(&uid)
                {
                    entry.pod.attempts += 1;
                    entry.pod.moves_seen = inner.moves;
                    inner.in_flight.insert(uid, Some(entry.pod.info.clone()));
                    return entry.pod;
                }
                inner.next_wake()
            };
            match next {
                Some(at) => tokio::select! { () = changed => {}, () = tokio::time::sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    /// Puts a pod back that found no node: it waits for a change, or only backs off if one happened meanwhile.
    pub fn give_back(&self, mut pod: QueuedPod) {
        let mut inner = self.inner.lock();
        let Some(Some(newest)) = inner.in_flight.remove(pod.info.uid()) else { return };
        pod.info = newest;
        if inner.moves != pod.moves_seen || pod.refused_by.is_empty() {
            inner.retry(pod);
        } else {
            inner.park(pod, Place::Unschedulable(Instant::now() + UNSCHEDULABLE_LIMIT));
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// The cycle of a pod has ended for good.
    pub fn done(&self, uid: &str) {
        self.inner.lock().in_flight.remove(uid);
    }

    /// Something happened: pods whose refusing plugins wait for it are tried again.
    pub fn move_for(&self, event: ClusterEvent) {
        let mut inner = self.inner.lock();
        inner.moves += 1;
        let moved: Vec<String> = inner
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::Unschedulable(_)))
            .filter(|(_, entry)| {
                let profile = self.profile(&entry.pod.info.pod);
                profile.is_some_and(|p| p.is_of_interest(event, &entry.pod.refused_by))
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &moved {
            if let Some(entry) = inner.entries.remove(uid) {
                inner.retry(entry.pod);
            }
        }
        drop(inner);
        if !moved.is_empty() {
            self.changed.notify_one();
        }
    }
}

/// The scheduler a pod asks for.
pub fn scheduler_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler")
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(8)).min(BACKOFF_LAST)
}

impl Inner {
    /// To the active queue, if PreEnqueue lets it.
    fn admit(&mut self, profile: &Arc<Profile>, pod: QueuedPod) {
        if profile.run_pre_enqueue(&pod.info.pod).is_err() {
            return self.park(pod, Place::Gated);
        }
        let uid = pod.info.uid().to_owned();
        self.sequence += 1;
        self.active.push(
            uid.clone(),
            pod.info.clone(),
            pod.since,
            self.sequence,
            profile.queue_sort().clone(),
        );
        self.entries.insert(uid, Entry { pod, place: Place::Active });
    }

    /// To back-off for as long as its attempts ask.
    fn retry(&mut self, pod: QueuedPod) {
        let at = Instant::now() + backoff(pod.attempts);
        self.back_off(pod, at);
    }

    fn back_off(&mut self, pod: QueuedPod, at: Instant) {
        self.sequence += 1;
        let uid = pod.info.uid().to_owned();
        self.backoff.insert((at, self.sequence), uid.clone());
        self.entries.insert(uid, Entry { pod, place: Place::Backoff(at, self.sequence) });
    }

    fn park(&mut self, pod: QueuedPod, place: Place) {
        self.entries.insert(pod.info.uid().to_owned(), Entry { pod, place });
    }

    fn unlink(&mut self, uid: &str, place: &Place) {
        match place {
            Place::Active => self.active.remove(uid),
            Place::Backoff(at, sequence) => drop(self.backoff.remove(&(*at, *sequence))),
            Place::Unschedulable(_) | Place::Gated => {}
        }
    }

    /// Moves what is due to the active queue.
    fn promote(&mut self, now: Instant, profiles: &Profiles) {
        let mut due: Vec<String> = Vec::new();
        while let Some(entry) = self.backoff.first_entry() {
            if entry.key().0 > now {
                break;
            }
            due.push(entry.remove());
        }
        let overdue = |entry: &Entry| matches!(entry.place, Place::Unschedulable(until) if until <= now);
        due.extend(self.entries.iter().filter(|(_, e)| overdue(e)).map(|(uid, _)| uid.clone()));
        for uid in due {
            if let Some(entry) = self.entries.remove(&uid)
                && let Some(profile) = profiles.get(scheduler_name(&entry.pod.info.pod))
            {
                self.admit(profile, entry.pod);
            }
        }
    }

    /// When something becomes due.
    fn next_wake(&self) -> Option<Instant> {
        let parked = self.entries.values().filter_map(|entry| match entry.place {
            Place::Unschedulable(until) => Some(until),
            _ => None,
        });
        parked.chain(self.backoff.keys().next().map(|(at, _)| *at)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::{Action, Resource};
    use crate::plugins;

    fn queue() -> Queue {
        let profile = plugins::tests::profile();
        Queue::new(Arc::new(HashMap::from([("default-scheduler".to_owned(), Arc::new(profile))])))
    }

    fn pod(name: &str, priority: i32, gates: &[&str]) -> Arc<Pod> {
        let gates: Vec<_> = gates.iter().map(|g| serde_json::json!({"name": g})).collect();
        let json = serde_json::json!({
            "metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"containers": [], "priority": priority, "schedulingGates": gates},
        });
        Arc::new(serde_json::from_value(json).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn priority_first_then_age() {
        let queue = queue();
        for (name, priority) in [("old", 0), ("young", 0), ("high", 10)] {
            queue.add(pod(name, priority, &[]), None);
        }
        for expected in ["high", "old", "young"] {
            assert_eq!(queue.pop().await.info.name(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_pod_sleeps_until_an_event_of_interest_and_backs_off() {
        let queue = queue();
        queue.add(pod("p", 0, &[]), None);
        let mut popped = queue.pop().await;
        popped.refused_by = vec!["NodeResourcesFit"];
        queue.give_back(popped);
        let start = Instant::now();
        queue.move_for(ClusterEvent::new(Resource::Node, Action::UPDATE_TAINT));
        let waiting = tokio::time::timeout(Duration::from_secs(200), queue.pop()).await;
        assert!(waiting.is_err(), "taints do not matter to resources");
        queue.move_for(ClusterEvent::new(Resource::AssignedPod, Action::DELETE));
        assert_eq!(queue.pop().await.attempts, 2);
        assert_eq!(start.elapsed().as_secs(), 201, "one second of back-off after the event");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_during_the_cycle_is_not_lost() {
        let queue = queue();
        queue.add(pod("p", 0, &[]), None);
        let mut popped = queue.pop().await;
        queue.move_for(ClusterEvent::new(Resource::Node, Action::ADD));
        popped.refused_by = vec!["NodeResourcesFit"];
        queue.give_back(popped);
        assert_eq!(tokio::time::timeout(Duration::from_secs(2), queue.pop()).await.unwrap().info.name(), "p");
    }

    #[tokio::test(start_paused = true)]
    async fn gates_keep_a_pod_out_and_a_deleted_pod_does_not_come_back() {
        let queue = queue();
        queue.add(pod("gated", 5, &["wait"]), None);
        queue.add(pod("p", 0, &[]), None);
        let popped = queue.pop().await;
        assert_eq!(popped.info.name(), "p");
        queue.remove("p");
        queue.give_back(popped);
        assert!(tokio::time::timeout(Duration::from_secs(900), queue.pop()).await.is_err());
        queue.add(
            pod("gated", 5, &[]),
            Some(ClusterEvent::new(Resource::UnscheduledPod, Action::UPDATE_GATES)),
        );
        assert_eq!(queue.pop().await.info.name(), "gated");
    }
}
