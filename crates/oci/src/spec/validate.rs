//! Refuses what cannot be done, before anything is made.

use super::{NamespaceKind, Process, Spec};
use crate::error::{Error, Result};

impl Spec {
    /// An error that names the first thing that is wrong or not supported.
    pub fn validate(&self) -> Result<()> {
        if !self.oci_version.starts_with("1.") {
            return Err(Error::Invalid(format!("ociVersion {:?} is not 1.x", self.oci_version)));
        }
        self.root.as_ref().ok_or_else(|| Error::Invalid("root is missing".to_owned()))?;
        self.process.as_ref().ok_or_else(|| Error::Invalid("process is missing".to_owned()))?.validate()?;
        self.validate_namespaces()?;
        self.validate_mounts()?;
        self.validate_linux()
    }

    fn validate_namespaces(&self) -> Result<()> {
        use NamespaceKind::{Cgroup, Ipc, Mount, Network, Time, User, Uts};
        let linux = &self.linux;
        for namespace in &linux.namespaces {
            if linux.namespaces.iter().filter(|n| n.kind == namespace.kind).count() > 1 {
                return Err(Error::Invalid(format!("namespace {} is given twice", namespace.kind.file())));
            }
            if matches!(namespace.kind, User | Time) {
                return Err(Error::Unsupported(format!("{} namespaces", namespace.kind.file())));
            }
            if namespace.kind == Cgroup && !namespace.path.as_os_str().is_empty() {
                return Err(Error::Unsupported("joining a cgroup namespace by path".to_owned()));
            }
        }
        if !linux.is_new(Mount) {
            return Err(Error::Unsupported("a container without a new mount namespace".to_owned()));
        }
        if !self.hostname.is_empty() && linux.namespace(Uts).is_none() {
            return Err(Error::Invalid("hostname without a UTS namespace".to_owned()));
        }
        for name in linux.sysctl.keys() {
            let name = name.replace('/', ".");
            let needs = if name.starts_with("net.") {
                Network
            } else if name == "kernel.domainname" || name == "kernel.hostname" {
                Uts
            } else if is_ipc_sysctl(&name) {
                Ipc
            } else {
                return Err(Error::Invalid(format!("sysctl {name:?} is not in a separate kernel namespace")));
            };
            if linux.namespace(needs).is_none() {
                let kind = needs.file();
                return Err(Error::Invalid(format!(
                    "sysctl {name:?} not allowed in the host's {kind} namespace"
                )));
            }
        }
        Ok(())
    }

    fn validate_mounts(&self) -> Result<()> {
        for mount in &self.mounts {
            let destination = &mount.destination;
            if !destination.starts_with('/') {
                return Err(Error::Invalid(format!("mount destination {destination:?} is not absolute")));
            }
            let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
            if mapped || mount.options.iter().any(|o| o == "idmap" || o == "ridmap") {
                return Err(Error::Unsupported(format!("id-mapped mounts ({destination})")));
            }
        }
        Ok(())
    }

    fn validate_linux(&self) -> Result<()> {
        let linux = &self.linux;
        let refuse = |is_set: bool, what: &str| {
            if is_set { Err(Error::Unsupported(what.to_owned())) } else { Ok(()) }
        };
        refuse(!linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty(), "user namespaces")?;
        refuse(linux.intel_rdt.is_some(), "linux.intelRdt")?;
        refuse(linux.personality.as_ref().is_some_and(|p| p.domain != "LINUX"), "linux.personality")?;
        refuse(!linux.time_offsets.is_empty(), "linux.timeOffsets")?;
        refuse(!linux.net_devices.is_empty(), "linux.netDevices")?;
        refuse(linux.resources.as_ref().is_some_and(|r| !r.rdma.is_empty()), "linux.resources.rdma")?;
        if linux.cgroups_path.split('/').any(|part| part == "..") || linux.cgroups_path.contains(':') {
            return Err(Error::Invalid(format!(
                "cgroupsPath {:?}: a plain path is wanted",
                linux.cgroups_path
            )));
        }
        Ok(())
    }
}

impl Process {
    /// An error that names the first thing that is wrong or not supported.
    pub fn validate(&self) -> Result<()> {
        if self.args.is_empty() {
            return Err(Error::Invalid("process.args is empty".to_owned()));
        }
        if !self.cwd.starts_with('/') {
            return Err(Error::Invalid(format!("process.cwd {:?} is not absolute", self.cwd)));
        }
        let unsupported = [
            ("process.scheduler", self.scheduler.is_some()),
            ("process.ioPriority", self.io_priority.is_some()),
            ("process.execCPUAffinity", self.exec_cpu_affinity.is_some()),
        ];
        match unsupported.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(Error::Unsupported((*name).to_owned())),
            None => Ok(()),
        }
    }
}

fn is_ipc_sysctl(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    NAMES.contains(&name) || name.starts_with("fs.mqueue.")
}
