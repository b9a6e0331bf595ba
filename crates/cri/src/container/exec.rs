//! Commands in running containers: ExecSync here, and what Exec and Attach need before they stream.

use std::sync::Arc;
use std::time::Duration;

use proto::cri::v1 as cri;
use serde_json::Value;
use shim::Shim;

use super::{Container, view};
use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::spec::exec_process;

/// How a container's streams behave when somebody attaches.
#[derive(Debug, Clone, Copy)]
pub struct AttachTraits {
    /// They are a terminal.
    pub tty: bool,
    /// The end of the first client's input is the end of the container's.
    pub stdin_once: bool,
}

impl Node {
    /// Runs a command to its end. A timeout of `None` waits for ever.
    pub async fn exec_sync(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<cri::ExecSyncResponse> {
        let (container, shim) = self.running(id).await?;
        let process = process(&container, command, false).await?;
        let output = shim.exec_sync(&container.id, process, timeout).await.map_err(|error| match error {
            shim::Error::Timeout(limit) => Error::DeadlineExceeded(format!(
                "failed to exec in container: timeout {limit:?} exceeded: context deadline exceeded"
            )),
            other => Error::from(other).context("failed to exec in container"),
        })?;
        Ok(cri::ExecSyncResponse {
            stdout: output.stdout.into(),
            stderr: output.stderr.into(),
            exit_code: output.exit.code,
        })
    }

    /// What the shim needs to run a command with streams.
    pub async fn prepare_exec(
        self: &Arc<Self>,
        request: &cri::ExecRequest,
    ) -> Result<(Shim, shim::ExecRequest)> {
        check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let (container, shim) = self.running(&request.container_id).await?;
        let prepared = shim::ExecRequest {
            process: process(&container, &request.cmd, request.tty).await?,
            container_id: container.id.clone(),
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr && !request.tty,
            tty: request.tty,
        };
        Ok((shim, prepared))
    }

    /// What the shim needs to join a container's own streams, and what is particular about them.
    pub async fn prepare_attach(
        self: &Arc<Self>,
        request: &cri::AttachRequest,
    ) -> Result<(Shim, shim::AttachRequest, AttachTraits)> {
        check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let (container, shim) = self.running(&request.container_id).await?;
        let (tty, stdin_once) = container.record.with(|r| (r.config.tty, r.config.stdin_once));
        let prepared = shim::AttachRequest {
            container_id: container.id.clone(),
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr && !tty,
        };
        Ok((shim, prepared, AttachTraits { tty, stdin_once }))
    }

    /// The container and its shim, if it runs.
    pub async fn running(&self, id: &str) -> Result<(Arc<Container>, Shim)> {
        let container = self.container(id)?;
        let phase = container.record.with(|r| r.phase);
        if !container.is_running() {
            let state = view::state_name(phase);
            return Err(Error::FailedPrecondition(format!("container is in {state} state")));
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let shim = Shim::connect(&sandbox.shim_dir()).await?;
        Ok((container, shim))
    }
}

async fn process(container: &Container, command: &[String], tty: bool) -> Result<Value> {
    let path = container.spec_path();
    let spec: Value = blocking(move || disk::read_json(&path)).await?.unwrap_or_default();
    exec_process(&spec, command, tty)
}

fn check_streams(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<()> {
    if !(stdin || stdout || stderr) {
        return Err(Error::InvalidArgument("one of stdin, stdout or stderr must be set".to_owned()));
    }
    if tty && stderr {
        return Err(Error::InvalidArgument("tty and stderr cannot both be true".to_owned()));
    }
    Ok(())
}
