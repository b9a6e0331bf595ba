//! What is kept of a container between commands: a directory below `--root`, named by its id.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::hooks::HookState;
use crate::init::Gate;
use crate::log::rfc3339;
use crate::process::Identity;
use crate::spec::{Spec, read_json};

const STATE_FILE: &str = "state.json";
const SPEC_FILE: &str = "config.json";
/// As runc's; ids name directories, cgroups and keyrings.
const MAX_ID: usize = 1024;

/// A container's state directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    id: String,
}

/// What is in the state file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The first process.
    pub init: Identity,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root file system on the host.
    pub rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// The container's group.
    pub cgroup: Cgroup,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waiting for `start`.
    Created,
    /// Started.
    Running,
    /// Frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// The specification's word (and runc's for paused).
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What the `state` command prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    oci_version: String,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    annotations: BTreeMap<String, String>,
}

impl Store {
    /// The directory for an id, whether it exists or not.
    pub fn new(root: &Path, id: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > MAX_ID || !id.chars().all(plain) || id == "." || id == ".." {
            return Err(Error::Usage(format!("container id {id:?}: letters, digits, _ + - . only")));
        }
        Ok(Self { dir: root.join(id), id: id.to_owned() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory, with the configuration in it; there must be none.
    pub fn make(&self, spec: &Spec) -> Result<()> {
        if let Some(root) = self.dir.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
            made.doing(|| format!("make {}", root.display()))?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(self.id.clone()));
            }
            other => other.doing(|| format!("make {}", self.dir.display()))?,
        }
        self.write(SPEC_FILE, spec)
    }

    /// Replaces the state.
    pub fn save(&self, state: &State) -> Result<()> {
        self.write(STATE_FILE, state)
    }

    /// The state; `None` if creation did not come so far.
    pub fn load(&self) -> Result<Option<State>> {
        if !self.dir.exists() {
            return Err(Error::NotFound(self.id.clone()));
        }
        let path = self.dir.join(STATE_FILE);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// The state of a container whose creation is complete.
    pub fn load_complete(&self) -> Result<State> {
        self.load()?.ok_or_else(|| Error::State(format!("container {} is still being created", self.id)))
    }

    /// The configuration that it was made from.
    pub fn spec(&self) -> Result<Spec> {
        read_json(&self.dir.join(SPEC_FILE))
    }

    /// Where the container is in its life.
    pub fn status(&self, state: &State) -> Status {
        if !state.init.is_alive() {
            Status::Stopped
        } else if Gate::is_closed(&self.dir) {
            Status::Created
        } else if state.cgroup.is_frozen() {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// What hooks are told.
    pub fn hook_state(&self, spec: &Spec, bundle: &Path, pid: i32, status: &'static str) -> HookState {
        HookState {
            oci_version: spec.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid,
            bundle: bundle.to_owned(),
            annotations: spec.annotations.clone(),
        }
    }

    /// What the `state` command prints.
    pub fn report(&self) -> Result<Report> {
        let (state, spec) = (self.load_complete()?, self.spec()?);
        let status = self.status(&state);
        Ok(Report {
            oci_version: spec.oci_version,
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { state.init.pid },
            status: status.word(),
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: state.created,
            annotations: spec.annotations,
        })
    }

    /// Removes the directory.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove {}", self.dir.display())),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(format!(".{name}.tmp"));
        let text = serde_json::to_vec(value).map_err(|e| Error::Invalid(e.to_string()))?;
        std::fs::File::create(&temporary)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| std::fs::rename(&temporary, &path))
            .doing(|| format!("write {}", path.display()))
    }
}

/// Now, as the state file has it.
pub fn now() -> String {
    rfc3339(SystemTime::now())
}
