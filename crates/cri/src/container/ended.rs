//! What happens when a container's command has ended.

use std::sync::Arc;

use proto::cri::v1::ContainerEventType;
use shim::{ExitStatus, Shim};

use super::{Container, ContainerPhase, ContainerRecord};
use crate::disk::{blocking, now_ns};
use crate::node::Node;
use crate::snapshots::unmount_below;

/// What containerd says of a container whose end nobody saw.
const UNKNOWN_EXIT_CODE: i32 = 255;
const UNKNOWN_REASON: &str = "Unknown";
const COMPLETED: &str = "Completed";
const ERROR: &str = "Error";
/// The kubelet matches this text.
const OOM_KILLED: &str = "OOMKilled";

/// How a container's command ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// The shim saw it.
    Exit(ExitStatus),
    /// Nobody did.
    Unknown,
}

impl Node {
    /// Notes the end of a container, once, and frees what it used.
    pub async fn container_ended(
        self: &Arc<Self>,
        container: &Arc<Container>,
        ending: Ending,
        shim: Option<&Shim>,
    ) {
        let noted = container
            .record
            .update(move |r| {
                let first = r.phase != ContainerPhase::Exited;
                first.then(|| note(r, &ending))
            })
            .await;
        match noted {
            Ok(Some(())) => {
                container.set_phase(ContainerPhase::Exited);
                self.emit_container(container, ContainerEventType::ContainerStoppedEvent);
                self.clean_up_ended(container, shim).await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(container = container.id, %error, "its end was not written"),
        }
    }

    /// Removes an ended container from the runtime and its mounts from the host. Its writable files stay.
    pub(super) async fn clean_up_ended(self: &Arc<Self>, container: &Container, shim: Option<&Shim>) {
        if let Some(shim) = shim
            && let Err(error) = shim.delete_container(&container.id, true).await
            && !error.is_not_found()
            && !error.is_gone()
        {
            tracing::warn!(container = container.id, %error, "not deleted by the runtime");
        }
        let bundle = container.bundle.clone();
        if let Err(error) = blocking(move || unmount_below(&bundle)).await {
            tracing::warn!(container = container.id, %error, "file system not unmounted");
        }
    }
}

fn note(record: &mut ContainerRecord, ending: &Ending) {
    record.phase = ContainerPhase::Exited;
    record.pid = 0;
    match ending {
        Ending::Exit(exit) => {
            record.exit_code = exit.code;
            record.finished_at_ns = exit.finished_at_ns;
            record.reason = match exit {
                ExitStatus { oom_killed: true, .. } => OOM_KILLED,
                ExitStatus { code: 0, .. } => COMPLETED,
                _ => ERROR,
            }
            .to_owned();
        }
        Ending::Unknown => {
            record.exit_code = UNKNOWN_EXIT_CODE;
            record.finished_at_ns = now_ns();
            record.reason = UNKNOWN_REASON.to_owned();
        }
    }
}
