//! Pods whose binding waits for permission.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::framework::{Status, Verdict};

/// Pods that Permit plugins made wait; plugins allow or reject them here. Clones share the set.
#[derive(Clone, Default)]
pub struct WaitingPods {
    inner: Arc<Mutex<HashMap<String, Waiting>>>,
}

struct Waiting {
    pending: BTreeSet<&'static str>,
    answer: Option<oneshot::Sender<Verdict>>,
}

impl WaitingPods {
    /// Waits until every plugin of `waits` has allowed the pod, one has rejected it, or the shortest time is over.
    pub async fn wait(&self, uid: &str, waits: Vec<(&'static str, Duration)>) -> Verdict {
        let Some((slowest, timeout)) = waits.iter().min_by_key(|(_, timeout)| *timeout).copied() else {
            return Ok(());
        };
        let (answer, answered) = oneshot::channel();
        let pending = waits.into_iter().map(|(plugin, _)| plugin).collect();
        self.inner.lock().insert(uid.to_owned(), Waiting { pending, answer: Some(answer) });
        let verdict = tokio::time::timeout(timeout, answered).await;
        self.inner.lock().remove(uid);
        match verdict {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) | Err(_) => {
                let reason = format!("rejected due to timeout after waiting {timeout:?} at plugin {slowest}");
                Err(Status::unschedulable(reason).by(slowest))
            }
        }
    }

    /// `plugin` allows the pod; it is bound once no other plugin makes it wait.
    pub fn allow(&self, uid: &str, plugin: &'static str) {
        let mut inner = self.inner.lock();
        let Some(waiting) = inner.get_mut(uid) else { return };
        waiting.pending.remove(plugin);
        if waiting.pending.is_empty()
            && let Some(answer) = waiting.answer.take()
        {
            // The waiter may have timed out this very moment.
            let _ = answer.send(Ok(()));
        }
    }

    /// `plugin` rejects the pod.
    pub fn reject(&self, uid: &str, plugin: &'static str, reason: &str) {
        if let Some(answer) = self.inner.lock().get_mut(uid).and_then(|waiting| waiting.answer.take()) {
            let _ = answer.send(Err(Status::unschedulable(reason).by(plugin)));
        }
    }

    /// The pods that wait.
    pub fn uids(&self) -> Vec<String> {
        self.inner.lock().keys().cloned().collect()
    }
}
