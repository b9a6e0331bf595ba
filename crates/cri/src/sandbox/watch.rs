//! Follows a sandbox's shim: containers that end, and the shim's own end.

use std::sync::Arc;

use proto::cri::v1::ContainerEventType;
use shim::{ContainerPhase as ShimPhase, Event, Events, SandboxState, Shim};

use super::{Sandbox, SandboxPhase};
use crate::container::Ending;
use crate::error::Result;
use crate::node::Node;

impl Node {
    /// Follows the shim until it ends.
    pub(super) fn watch(self: &Arc<Self>, sandbox: Arc<Sandbox>, shim: Shim, events: Events) {
        let node = self.clone();
        self.scope.spawn(async move { node.follow(&sandbox, &shim, events).await });
    }

    /// Finds the shim of a sandbox that was there before this server started.
    pub async fn adopt(self: &Arc<Self>, sandbox: Arc<Sandbox>) -> Result<()> {
        match sandbox.record.with(|r| r.phase) {
            SandboxPhase::Creating => {
                tracing::info!(sandbox = sandbox.id, "removing a sandbox that was never finished");
                let _turn = sandbox.turn.lock().await;
                return self.dismantle(&sandbox).await;
            }
            SandboxPhase::Ready | SandboxPhase::NotReady => {}
        }
        let found = match Shim::connect(&sandbox.shim_dir()).await {
            Ok(shim) => shim.subscribe().await.map(|(state, events)| (shim, state, events)),
            Err(error) => Err(error),
        };
        match found {
            Ok((shim, state, events)) => {
                self.reconcile(&sandbox, &shim, state).await;
                self.watch(sandbox, shim, events);
            }
            Err(error) => {
                if sandbox.is_ready() {
                    tracing::warn!(sandbox = sandbox.id, %error, "its shim is gone");
                }
                self.shim_died(&sandbox).await;
            }
        }
        Ok(())
    }

    async fn reconcile(self: &Arc<Self>, sandbox: &Arc<Sandbox>, shim: &Shim, state: SandboxState) {
        if !state.ready {
            self.not_ready(sandbox).await;
        }
        for container in self.containers_of(&sandbox.id) {
            match state.containers.get(&container.id) {
                Some(known) if known.phase == ShimPhase::Exited => {
                    if let Some(exit) = known.exit.clone() {
                        self.container_ended(&container, Ending::Exit(exit), Some(shim)).await;
                    }
                }
                Some(known) if known.phase == ShimPhase::Running => {
                    self.container_found_running(&container, known).await;
                }
                Some(_) => {}
                None if container.is_running() => {
                    self.container_ended(&container, Ending::Unknown, Some(shim)).await;
                }
                None => {}
            }
        }
    }

    async fn follow(self: &Arc<Self>, sandbox: &Arc<Sandbox>, shim: &Shim, mut events: Events) {
        while let Some(event) = events.next().await {
            match event {
                Event::ContainerExited { id, exit } => {
                    if let Ok(container) = self.container(&id) {
                        self.container_ended(&container, Ending::Exit(exit), Some(shim)).await;
                    }
                }
                Event::SandboxDown { message } => {
                    tracing::warn!(sandbox = sandbox.id, message, "sandbox is down");
                    self.not_ready(sandbox).await;
                }
            }
        }
        if !sandbox.shim_end_is_expected() {
            tracing::warn!(sandbox = sandbox.id, "the shim ended");
            self.shim_died(sandbox).await;
        }
    }

    /// What a dead shim left is killed: nobody would see it end.
    async fn shim_died(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        self.not_ready(sandbox).await;
        let left = match shim::clean_up_dead(&sandbox.shim_dir()).await {
            Ok(left) => left,
            Err(error) => {
                // After a restart of the machine there is nothing left to clean up.
                tracing::debug!(sandbox = sandbox.id, %error, "nothing found of a dead shim");
                Vec::new()
            }
        };
        for container in self.containers_of(&sandbox.id) {
            if !container.is_running() {
                continue;
            }
            let seen = left.iter().find(|c| c.container.id == container.id).and_then(|c| c.exit.clone());
            let ending = seen.filter(|exit| exit.signal.is_some() || exit.code != UNSEEN_EXIT_CODE);
            self.container_ended(&container, ending.map_or(Ending::Unknown, Ending::Exit), None).await;
        }
    }

    async fn not_ready(&self, sandbox: &Arc<Sandbox>) {
        let changed = sandbox
            .record
            .update(|r| (r.phase == SandboxPhase::Ready).then(|| r.phase = SandboxPhase::NotReady))
            .await;
        match changed {
            Ok(Some(())) => self.emit_sandbox(sandbox, ContainerEventType::ContainerStoppedEvent),
            Ok(None) => {}
            Err(error) => tracing::error!(sandbox = sandbox.id, %error, "state not written"),
        }
    }
}

/// The code that a shim's remains give to a container whose end nobody saw.
const UNSEEN_EXIT_CODE: i32 = 255;
