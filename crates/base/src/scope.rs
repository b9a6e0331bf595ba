//! Tasks with an owner.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The error of work that ended because its scope was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled: the owner is stopping")]
pub struct Cancelled;

/// Owns tasks: they are told to stop by [`TaskScope::cancel`] and waited for by [`TaskScope::shutdown`].
///
/// A child scope stops with its parent, and can stop alone. Dropping the last handle of a scope cancels its tasks,
/// which end at their next await.
#[derive(Debug, Clone)]
pub struct TaskScope {
    name: &'static str,
    token: CancellationToken,
    tracker: TaskTracker,
    _on_drop: std::sync::Arc<DropCancel>,
}

#[derive(Debug)]
struct DropCancel(CancellationToken);

impl Drop for DropCancel {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl TaskScope {
    /// A scope without a parent; `name` appears in logs.
    pub fn new(name: &'static str) -> Self {
        Self::with(name, CancellationToken::new())
    }

    /// A scope that stops when this one does.
    pub fn child(&self, name: &'static str) -> Self {
        Self::with(name, self.token.child_token())
    }

    fn with(name: &'static str, token: CancellationToken) -> Self {
        let guard = std::sync::Arc::new(DropCancel(token.clone()));
        Self { name, token, tracker: TaskTracker::new(), _on_drop: guard }
    }

    /// Runs `task` until it ends or the scope is cancelled, whichever is first: cancellation drops it at an await.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<Result<F::Output, Cancelled>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let token = self.token.clone();
        self.tracker.spawn(async move { token.run_until_cancelled(task).await.ok_or(Cancelled) })
    }

    /// Runs `task` to its end even after cancellation; it watches [`TaskScope::token`] itself to stop in order.
    pub fn spawn_graceful<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// The token that says when to stop.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tells every task of this scope and its children to stop; returns at once.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Cancels and waits until all tasks spawned here have ended, at most `limit`. `false` if some had not.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.cancel();
        self.tracker.close();
        let done = tokio::time::timeout(limit, self.tracker.wait()).await.is_ok();
        if !done {
            tracing::warn!(
                scope = self.name,
                limit_ms = limit.as_millis() as u64,
                "tasks did not stop in time"
            );
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_stops_with_its_parent_and_not_the_other_way() {
        let parent = TaskScope::new("parent");
        let child = parent.child("child");
        let other = parent.child("other");
        let waiting = child.spawn(std::future::pending::<()>());
        child.cancel();
        assert_eq!(waiting.await.unwrap(), Err(Cancelled));
        assert!(!other.token().is_cancelled());
        parent.cancel();
        assert!(other.token().is_cancelled());
        assert!(parent.shutdown(Duration::from_secs(5)).await);
    }
}
