//! Capability sets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::SpecInput;
use crate::error::{Error, Result};

/// All capabilities by number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has unless it says otherwise (containerd's list).
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const ALL: &str = "ALL";

/// The capability sets of a process.
pub struct Capabilities {
    /// Also the effective and permitted ones.
    pub bounding: BTreeSet<&'static str>,
    /// Also the inheritable ones.
    pub ambient: BTreeSet<&'static str>,
}

/// The sets that a container asks for, as far as we have them ourselves.
pub fn build(input: &SpecInput<'_>) -> Result<Capabilities> {
    let ours = available(input.host.capabilities);
    if input.privileged() {
        return Ok(Capabilities { bounding: ours, ambient: BTreeSet::new() });
    }
    let Some(asked) = input.security().and_then(|s| s.capabilities.as_ref()) else {
        return Ok(Capabilities { bounding: DEFAULT.into_iter().collect(), ambient: BTreeSet::new() });
    };
    let has_all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case(ALL));
    // ALL comes first whichever side it is on, so that single ones can be taken away from it or added to nothing.
    let mut bounding: BTreeSet<&'static str> = match () {
        () if has_all(&asked.add_capabilities) => ours.clone(),
        () if has_all(&asked.drop_capabilities) => BTreeSet::new(),
        () => DEFAULT.into_iter().collect(),
    };
    for name in asked.add_capabilities.iter().chain(&asked.add_ambient_capabilities) {
        bounding.extend(known(name)?);
    }
    for name in &asked.drop_capabilities {
        if let Some(name) = known(name)? {
            bounding.remove(name);
        }
    }
    let mut ambient = BTreeSet::new();
    for name in &asked.add_ambient_capabilities {
        ambient.extend(known(name)?.filter(|name| bounding.contains(name)));
    }
    Ok(Capabilities { bounding, ambient })
}

fn available(bits: u64) -> BTreeSet<&'static str> {
    NAMES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| *name).collect()
}

/// The kernel's name for `NET_ADMIN` or `CAP_NET_ADMIN`; `None` for `ALL`.
fn known(name: &str) -> Result<Option<&'static str>> {
    if name.eq_ignore_ascii_case(ALL) {
        return Ok(None);
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    let found = NAMES.iter().find(|known| **known == full);
    found.copied().map(Some).ok_or_else(|| Error::InvalidArgument(format!("unknown capability {name:?}")))
}

impl Capabilities {
    /// The OCI form.
    pub fn to_json(&self) -> Value {
        let mut sets = json!({
            "bounding": self.bounding,
            "effective": self.bounding,
            "permitted": self.bounding,
        });
        if !self.ambient.is_empty() {
            sets["ambient"] = json!(self.ambient);
            sets["inheritable"] = json!(self.ambient);
        }
        sets
    }
}
