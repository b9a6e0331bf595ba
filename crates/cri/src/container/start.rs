//! StartContainer.

use std::sync::Arc;

use proto::cri::v1::ContainerEventType;
use shim::{ContainerState, CreateContainer, Shim};

use super::{Container, ContainerPhase};
use crate::disk::now_ns;
use crate::error::{Error, Result};
use crate::node::Node;

/// What a container that could not be started has as its exit code and reason (containerd's).
const START_ERROR_CODE: i32 = 128;
const START_ERROR_REASON: &str = "StartError";

impl Node {
    /// Starts a created container.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let _turn = container.turn.lock().await;
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let phase = container.record.with(|r| r.phase);
        if phase != ContainerPhase::Created {
            return Err(Error::FailedPrecondition(format!(
                "container {:?} is in {} state",
                container.id,
                super::view::state_name(phase)
            )));
        }
        if !sandbox.is_ready() {
            return Err(Error::FailedPrecondition(format!(
                "sandbox container {:?} is not running",
                sandbox.id
            )));
        }
        let started = match Shim::connect(&sandbox.shim_dir()).await {
            Ok(shim) => run(&shim, &container).await.map_err(|error| (Some(shim), error)),
            Err(error) => Err((None, error.into())),
        };
        match started {
            Ok(state) => {
                self.mark_running(&container, &state).await?;
                self.emit_container(&container, ContainerEventType::ContainerStartedEvent);
                Ok(())
            }
            Err((shim, error)) => {
                let error = error.context(format!("failed to start container {:?}", container.id));
                self.mark_start_failed(&container, &error).await?;
                self.clean_up_ended(&container, shim.as_ref()).await;
                Err(error)
            }
        }
    }

    /// A container that this server, before it crashed, did not live to see running.
    pub async fn container_found_running(&self, container: &Arc<Container>, state: &ContainerState) {
        if container.record.with(|r| r.phase == ContainerPhase::Created)
            && let Err(error) = self.mark_running(container, state).await
        {
            tracing::error!(container = container.id, %error, "state not written");
        }
    }

    async fn mark_running(&self, container: &Arc<Container>, state: &ContainerState) -> Result<()> {
        let state = state.clone();
        let phase = container
            .record
            .update(move |r| {
                // A short command may have ended, and its end been seen, before we get here.
                if r.phase == ContainerPhase::Created {
                    r.phase = ContainerPhase::Running;
                    r.pid = state.pid;
                }
                r.started_at_ns = if state.started_at_ns > 0 { state.started_at_ns } else { now_ns() };
                r.cgroups = state.cgroups;
                Some(r.phase)
            })
            .await?;
        if let Some(phase) = phase {
            container.set_phase(phase);
        }
        Ok(())
    }

    async fn mark_start_failed(&self, container: &Arc<Container>, error: &Error) -> Result<()> {
        let message = error.to_string();
        container
            .record
            .update(move |r| {
                r.phase = ContainerPhase::Exited;
                r.pid = 0;
                r.exit_code = START_ERROR_CODE;
                r.reason = START_ERROR_REASON.to_owned();
                r.message = message;
                r.finished_at_ns = now_ns();
                Some(())
            })
            .await?;
        container.set_phase(ContainerPhase::Exited);
        self.emit_container(container, ContainerEventType::ContainerStoppedEvent);
        Ok(())
    }
}

async fn run(shim: &Shim, container: &Container) -> Result<ContainerState> {
    let request = container.record.with(|r| CreateContainer {
        id: r.id.clone(),
        bundle: container.bundle.clone(),
        stdin: r.config.stdin,
        stdin_once: r.config.stdin_once,
        tty: r.config.tty,
        log_path: r.log_path.clone(),
    });
    if let Some(dir) = request.log_path.as_ref().and_then(|path| path.parent()) {
        std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    }
    shim.create_container(request).await?;
    Ok(shim.start_container(&container.id).await?)
}
