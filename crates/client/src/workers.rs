//! Workers that take keys from a queue and reconcile them.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use base::TaskScope;
use futures::FutureExt;

use crate::WorkQueue;

/// What is to happen after a reconciliation that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing until the next change.
    Done,
    /// Reconcile once more after this time, change or not.
    RequeueAfter(Duration),
}

/// Runs `workers` tasks in `scope` that reconcile the keys of `queue`. An error brings the key back with back-off.
pub fn run_workers<T, F, Fut, E>(scope: &TaskScope, queue: WorkQueue<T>, workers: usize, reconcile: F)
where
    T: Clone + Debug + Eq + Hash + Send + 'static,
    F: Fn(T) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Outcome, E>> + Send + 'static,
    E: Display,
{
    for _ in 0..workers.max(1) {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        scope.spawn(async move {
            loop {
                let key = queue.get().await;
                // A key that makes its worker panic must not take the worker away from the others.
                match AssertUnwindSafe(reconcile(key.clone())).catch_unwind().await {
                    Err(_) => {
                        tracing::error!(queue = queue.name(), ?key, "reconcile panicked");
                        queue.add_rate_limited(key.clone());
                    }
                    Ok(Ok(outcome)) => {
                        queue.forget(&key);
                        if let Outcome::RequeueAfter(delay) = outcome {
                            queue.add_after(key.clone(), delay);
                        }
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(queue = queue.name(), ?key, %error, "reconcile again after an error");
                        queue.add_rate_limited(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
}
