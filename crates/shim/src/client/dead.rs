//! Finding shims again, and cleaning up after one that died.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::wire::{
    CONFIG_FILE, CONTAINER_FILE, CONTAINERS_DIR, ContainerPhase, ContainerState, ExitStatus, ShimConfig,
};

/// The directories below `root` in which a shim was started, dead or alive: those to [`crate::Shim::connect`] to.
pub fn scan(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        other => other.map_err(Error::io(format!("list {}", root.display())))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io(format!("list {}", root.display())))?.path();
        if path.join(CONFIG_FILE).exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// After a shim died: kills and deletes what it left, through the runtime, and gives the last state of its
/// containers: one whose end nobody saw gets exit code 255, one that was still being made has no exit. Says [`Error::Protocol`] while the shim lives.
pub async fn clean_up_dead(dir: &Path) -> Result<Vec<ContainerState>, Error> {
    if super::Shim::connect(dir).await.is_ok() {
        return Err(Error::Protocol(format!("the shim at {} lives; shut it down instead", dir.display())));
    }
    let config: ShimConfig = read_json(&dir.join(CONFIG_FILE))?;
    let mut containers = Vec::new();
    for mut state in stored_containers(dir)? {
        delete_by_runtime(&config, &state.container.id).await?;
        if state.exit.is_none() && state.phase != ContainerPhase::Creating {
            state.exit = Some(unseen_exit());
        }
        state.phase = ContainerPhase::Exited;
        crate::disk::write_container(dir, &state, true)
            .map_err(Error::io(format!("write the state of {}", state.container.id)))?;
        containers.push(state);
    }
    Ok(containers)
}

fn unseen_exit() -> ExitStatus {
    ExitStatus { code: 255, signal: None, oom_killed: false, finished_at_ns: crate::disk::now_ns() }
}

fn stored_containers(dir: &Path) -> Result<Vec<ContainerState>, Error> {
    let folder = dir.join(CONTAINERS_DIR);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(format!("list {}", folder.display())))?,
    };
    let mut states = Vec::new();
    for entry in entries {
        let path =
            entry.map_err(Error::io(format!("list {}", folder.display())))?.path().join(CONTAINER_FILE);
        if path.exists() {
            states.push(read_json(&path)?);
        }
    }
    Ok(states)
}

async fn delete_by_runtime(config: &ShimConfig, id: &str) -> Result<(), Error> {
    let Some((program, args)) = config.runtime.command.split_first() else {
        return Err(Error::Protocol("the shim's configuration names no runtime".to_owned()));
    };
    let mut command = tokio::process::Command::new(program);
    command.args(args).arg("--root").arg(&config.runtime.root).args(["delete", "--force", id]);
    let output = command.output().await.map_err(Error::io(format!("run {program}")))?;
    let text = String::from_utf8_lossy(&output.stderr);
    // A container that never came to be, or is deleted already, is as good as deleted.
    if output.status.success() || text.contains("does not exist") {
        return Ok(());
    }
    Err(Error::Refused {
        kind: crate::ErrorKind::Runtime,
        message: format!("delete container {id}: {}", text.trim()),
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let doing = || format!("read {}", path.display());
    let text = std::fs::read(path).map_err(Error::io(doing()))?;
    serde_json::from_slice(&text).map_err(|e| Error::io(doing())(e.into()))
}
