//! StopPodSandbox and RemovePodSandbox, which may come at any time and any number of times.

use std::sync::Arc;
use std::time::Duration;

use proto::cri::v1::ContainerEventType;
use shim::Shim;

use super::{Sandbox, SandboxPhase, network};
use crate::disk::{self, blocking};
use crate::error::Result;
use crate::node::Node;
use crate::snapshots::unmount_below;

impl Node {
    /// Kills the sandbox's containers and gives back its network. Not an error if there is no such sandbox.
    pub async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let sandbox = match self.sandbox(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let _turn = sandbox.turn.lock().await;
        self.halt(&sandbox).await
    }

    /// Stops the sandbox and removes everything of it. Not an error if there is no such sandbox.
    pub async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let sandbox = match self.sandbox(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let _turn = sandbox.turn.lock().await;
        if self.sandbox(&sandbox.id).is_err() {
            return Ok(());
        }
        self.dismantle(&sandbox).await?;
        self.emit_sandbox(&sandbox, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    async fn halt(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        for container in self.containers_of(&sandbox.id) {
            self.stop_container_in(&container, Duration::ZERO).await?;
        }
        let was_ready = sandbox
            .record
            .update(|r| {
                let ready = r.phase == SandboxPhase::Ready;
                (r.phase != SandboxPhase::Creating).then(|| r.phase = SandboxPhase::NotReady)?;
                Some(ready)
            })
            .await?;
        network::detach(&self.cni, sandbox).await.map_err(|error| {
            error.context(format!("failed to destroy network for sandbox {:?}", sandbox.id))
        })?;
        end_shim(sandbox).await?;
        let shm = sandbox.shm_dir();
        blocking(move || unmount_below(&shm)).await?;
        if was_ready == Some(true) {
            self.emit_sandbox(sandbox, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }

    /// Undoes everything, from whatever state; the record goes last, so that it can be tried again.
    pub(super) async fn dismantle(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        self.halt(sandbox).await?;
        for container in self.containers_of(&sandbox.id) {
            self.remove_container(&container.id).await?;
        }
        let (run_dir, state_dir) = (sandbox.run_dir.clone(), sandbox.state_dir.clone());
        blocking(move || {
            unmount_below(&run_dir)?;
            disk::remove_tree(&run_dir)?;
            let record = state_dir.join(super::RECORD);
            if record.exists() {
                std::fs::remove_file(&record).map_err(crate::Error::io("remove", &record))?;
            }
            disk::remove_tree(&state_dir)
        })
        .await?;
        self.forget_sandbox(&sandbox.id);
        Ok(())
    }
}

async fn end_shim(sandbox: &Sandbox) -> Result<()> {
    sandbox.expect_shim_end();
    let dir = sandbox.shim_dir();
    match Shim::connect(&dir).await {
        Ok(shim) => Ok(shim.shutdown().await?),
        Err(_) if !dir.exists() => Ok(()),
        Err(error) if error.is_gone() => {
            // It may never have got so far as to have a configuration.
            if !shim::scan(&sandbox.run_dir)?.is_empty() {
                shim::clean_up_dead(&dir).await?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
