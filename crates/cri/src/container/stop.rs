//! StopContainer and RemoveContainer.

use std::sync::Arc;
use std::time::Duration;

use proto::cri::v1::ContainerEventType;
use shim::Shim;

use super::Container;
use crate::error::{Error, Result};
use crate::node::Node;

/// How long the kernel may take to end a killed container (containerd waits two minutes, too).
const KILL_TIMEOUT: Duration = Duration::from_secs(120);

impl Node {
    /// Asks a container to end, and kills it after `timeout`. Not an error if there is none or it has ended.
    pub async fn stop_container(self: &Arc<Self>, id: &str, timeout: Duration) -> Result<()> {
        match self.container(id) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(container) => self.stop_container_in(&container, timeout).await,
        }
    }

    /// As [`Node::stop_container`]. Others may do the same at the same time, with less patience.
    pub async fn stop_container_in(
        self: &Arc<Self>,
        container: &Arc<Container>,
        timeout: Duration,
    ) -> Result<()> {
        if !container.is_running() {
            return Ok(());
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let shim = match Shim::connect(&sandbox.shim_dir()).await {
            Ok(shim) => shim,
            // Whoever watches it cleans up; that ends the container.
            Err(error) if error.is_gone() => return self.await_end(container).await,
            Err(error) => return Err(error.into()),
        };
        if !timeout.is_zero() {
            let signal = container.record.with(|r| r.stop_signal);
            self.kill(&shim, container, signal, false).await?;
            if tokio::time::timeout(timeout, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        self.kill(&shim, container, libc::SIGKILL, true).await?;
        self.await_end(container).await
    }

    async fn kill(&self, shim: &Shim, container: &Container, signal: i32, all: bool) -> Result<()> {
        match shim.kill(&container.id, signal, all).await {
            Err(error) if error.is_not_found() || error.is_gone() => Ok(()),
            other => other.map_err(|error| {
                Error::from(error).context(format!("failed to kill container {:?}", container.id))
            }),
        }
    }

    async fn await_end(&self, container: &Container) -> Result<()> {
        tokio::time::timeout(KILL_TIMEOUT, container.ended()).await.map_err(|_| {
            Error::DeadlineExceeded(format!(
                "container {:?} did not end within {KILL_TIMEOUT:?}",
                container.id
            ))
        })
    }

    /// Removes a container, killing it if it runs. Not an error if there is none.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = match self.container(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let _turn = container.turn.lock().await;
        if self.container(&container.id).is_err() {
            return Ok(());
        }
        self.stop_container_in(&container, Duration::ZERO).await?;
        if let Ok(sandbox) = self.sandbox(&container.sandbox_id) {
            // It may have been created in the runtime without having been started.
            let shim = Shim::connect(&sandbox.shim_dir()).await.ok();
            self.clean_up_ended(&container, shim.as_ref()).await;
        }
        // Forgotten first: what is left on the disk is without an owner then, and removed at the next start.
        self.forget_container(&container.id);
        self.discard(&container.id).await;
        self.emit_container(&container, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }
}
