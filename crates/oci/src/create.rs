//! `create`: the runtime's side.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::cgroup::{Cgroup, Hierarchies};
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::{self, Common, First, FromInit, ToInit};
use crate::log::Log;
use crate::process::{self, Identity, PidNamespace};
use crate::seccomp::Filter;
use crate::spec::{NamespaceKind, Process, Spec};
use crate::state::{State, Store, now};

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory with `config.json`.
    pub bundle: PathBuf,
    /// Where to write the first process's number.
    pub pid_file: Option<PathBuf>,
    /// Where to send a terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Do without pivot_root.
    pub no_pivot: bool,
    /// Descriptors from 3 on that the command inherits.
    pub preserve_fds: u32,
}

/// Makes a container up to where only `start` is missing. On failure nothing is left of it.
pub fn create(store: &Store, id: &str, options: &Options, log: &Log) -> Result<State> {
    let bundle =
        options.bundle.canonicalize().doing(|| format!("find the bundle {}", options.bundle.display()))?;
    let spec = Spec::load(&bundle)?;
    spec.validate()?;
    warn_of_ignored(&spec, log);
    let cgroups_path =
        if spec.linux.cgroups_path.is_empty() { format!("/{id}") } else { spec.linux.cgroups_path.clone() };
    let cgroup = Cgroup::new(Hierarchies::detect()?, &cgroups_path)?;
    store.make(&spec)?;
    let made_cgroup = !cgroup.exists();
    let result = create_in(store, id, &bundle, spec, &cgroup, options, log);
    if result.is_err() {
        if made_cgroup {
            let _ = cgroup.kill_all().and_then(|()| cgroup.remove());
        }
        let _ = store.remove();
    }
    result
}

fn create_in(
    store: &Store,
    id: &str,
    bundle: &Path,
    spec: Spec,
    cgroup: &Cgroup,
    options: &Options,
    log: &Log,
) -> Result<State> {
    let rootfs = spec.root.as_ref().map_or_else(PathBuf::new, |root| bundle.join(&root.path));
    let rootfs = rootfs.canonicalize().doing(|| format!("find the rootfs {}", rootfs.display()))?;
    cgroup.create()?;
    if let Some(resources) = &spec.linux.resources {
        cgroup.apply(resources)?;
        cgroup.apply_devices(resources)?;
    }
    let hook_state = store.hook_state(&spec, bundle, 0, "creating");
    let (ours, theirs) = init::channel()?;
    let first = First {
        common: Common {
            id: id.to_owned(),
            channel: theirs,
            console: options.console_socket.as_deref().map(init::connect_console).transpose()?,
            preserve_fds: options.preserve_fds,
            filter: spec.linux.seccomp.as_ref().map(Filter::compile).transpose()?,
            join: open_namespaces(&spec)?,
            log: log.clone(),
        },
        bundle: bundle.to_owned(),
        rootfs: rootfs.clone(),
        cgroup: cgroup.clone(),
        gate: init::make_gate_files(store.dir())?,
        no_pivot: options.no_pivot,
        hook_state,
        spec,
    };
    let pid = {
        let spec = first.spec.clone();
        let joined = first.common.join.iter().find(|(kind, _)| *kind == NamespaceKind::Pid);
        let joined = joined.map(|(_, file)| file.try_clone()).transpose().doing(|| "duplicate".to_owned())?;
        let namespace = match &joined {
            Some(file) => Some(PidNamespace::Join(file)),
            None => spec.linux.is_new(NamespaceKind::Pid).then_some(PidNamespace::New),
        };
        let ours_in_child = &ours;
        process::fork_into(namespace, move || {
            ours_in_child.close();
            init::first(first)
        })?
    };
    let parent = Parent { store, bundle, rootfs: &rootfs, cgroup, options };
    parent.accompany(pid, &ours).inspect_err(|_| process::kill_child(pid))
}

/// The runtime while its child gets ready.
struct Parent<'a> {
    store: &'a Store,
    bundle: &'a Path,
    rootfs: &'a Path,
    cgroup: &'a Cgroup,
    options: &'a Options,
}

impl Parent<'_> {
    fn accompany(&self, pid: i32, channel: &init::Channel) -> Result<State> {
        self.cgroup.add_process(pid)?;
        let init = Identity::of(pid).ok_or_else(|| Error::Init("it died at once".to_owned()))?;
        let state = State {
            init,
            bundle: self.bundle.to_owned(),
            rootfs: self.rootfs.to_owned(),
            created: now(),
            cgroup: self.cgroup.clone(),
        };
        channel.send(&ToInit::Go)?;
        loop {
            match channel.receive()? {
                Some(FromInit::Mounted) => {
                    self.run_hooks(pid)?;
                    channel.send(&ToInit::Continue)?;
                }
                Some(FromInit::Ready) => break,
                Some(FromInit::Failed(text)) => return Err(Error::Init(text)),
                None => return Err(Error::Init("it died before it was ready".to_owned())),
            }
        }
        self.store.save(&state)?;
        if let Some(path) = &self.options.pid_file {
            write_pid_file(path, pid)?;
        }
        Ok(state)
    }

    fn run_hooks(&self, pid: i32) -> Result<()> {
        let spec = self.store.spec()?;
        let state = self.store.hook_state(&spec, self.bundle, pid, "creating");
        hooks::run_all("prestart", &spec.hooks.prestart, &state)?;
        hooks::run_all("createRuntime", &spec.hooks.create_runtime, &state)
    }
}

fn open_namespaces(spec: &Spec) -> Result<Vec<(NamespaceKind, OwnedFd)>> {
    let joined = spec.linux.namespaces.iter().filter(|n| !n.path.as_os_str().is_empty());
    joined
        .map(|namespace| {
            let file = std::fs::File::open(&namespace.path);
            let file = file.doing(|| format!("open the namespace {}", namespace.path.display()))?;
            Ok((namespace.kind, file.into()))
        })
        .collect()
}

/// In one rename, so that a reader never sees half a number.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("pid");
    let temporary = path.with_file_name(format!(".{name}"));
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .doing(|| format!("write the pid file {}", path.display()))
}

fn warn_of_ignored(spec: &Spec, log: &Log) {
    warn_of_ignored_in_process(spec.process.as_ref(), log);
    if !spec.linux.mount_label.is_empty() {
        log.warning("linux.mountLabel is ignored: SELinux is not supported");
    }
}

/// Security modules that the process is not put under.
pub fn warn_of_ignored_in_process(process: Option<&Process>, log: &Log) {
    let Some(process) = process else { return };
    if !matches!(process.apparmor_profile.as_str(), "" | "unconfined") {
        log.warning(&format!("AppArmor profile {:?} is ignored: not supported", process.apparmor_profile));
    }
    if !process.selinux_label.is_empty() {
        log.warning("process.selinuxLabel is ignored: SELinux is not supported");
    }
}
