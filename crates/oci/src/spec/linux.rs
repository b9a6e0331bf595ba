//! The `linux` section of the specification.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything particular to Linux.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// Refused, as user namespaces are.
    pub uid_mappings: Vec<Value>,
    /// Refused, as user namespaces are.
    pub gid_mappings: Vec<Value>,
    /// Kernel parameters of the container's namespaces.
    pub sysctl: BTreeMap<String, String>,
    /// Limits.
    pub resources: Option<Resources>,
    /// Below the root of every hierarchy.
    pub cgroups_path: String,
    /// New or joined; what is not named is the runtime's own.
    pub namespaces: Vec<Namespace>,
    /// Device nodes beside the usual ones.
    pub devices: Vec<Device>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// `private`, `slave`, `shared` or their recursive forms.
    pub rootfs_propagation: String,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to protect from writing.
    pub readonly_paths: Vec<String>,
    /// Ignored, with a message.
    pub mount_label: String,
    /// Refused.
    pub intel_rdt: Option<Value>,
    /// Refused, but for plain `LINUX`.
    pub personality: Option<Personality>,
    /// Refused.
    pub time_offsets: BTreeMap<String, Value>,
    /// Refused.
    pub net_devices: BTreeMap<String, Value>,
}

/// An execution domain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
}

/// A namespace to make, or with a path to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Namespace {
    /// Which sort.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// A namespace file; empty for a new one.
    #[serde(default)]
    pub path: PathBuf,
}

/// A sort of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Links, addresses, ports.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX queues.
    Ipc,
    /// Host name.
    Uts,
    /// User ids; refused.
    User,
    /// The view of cgroups.
    Cgroup,
    /// Clock offsets; refused.
    Time,
}

impl NamespaceKind {
    /// The flag of clone(2).
    pub fn flag(self) -> libc::c_int {
        match self {
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::User => libc::CLONE_NEWUSER,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => 0x80,
        }
    }

    /// The file's name in `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl Linux {
    /// The entry of that sort, if there is one.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces.iter().find(|n| n.kind == kind)
    }

    /// True if the container gets a namespace of that sort of its own, made new.
    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind).is_some_and(|n| n.path.as_os_str().is_empty())
    }
}

/// A device node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// Absolute, inside the container.
    pub path: String,
    /// `c`, `u` (character), `b` (block) or `p` (fifo).
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permissions.
    pub file_mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// Limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Which devices may be used, later rules above earlier ones.
    pub devices: Vec<DeviceRule>,
    /// Memory and swap.
    pub memory: Option<LinuxMemory>,
    /// Processor time and placement.
    pub cpu: Option<LinuxCpu>,
    /// Number of tasks.
    pub pids: Option<LinuxPids>,
    /// Block I/O.
    #[serde(rename = "blockIO")]
    pub block_io: Option<LinuxBlockIo>,
    /// Huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Traffic classes (cgroup v1).
    pub network: Option<LinuxNetwork>,
    /// Refused.
    pub rdma: BTreeMap<String, Value>,
    /// Files of cgroup v2 and what to write to them.
    pub unified: BTreeMap<String, String>,
}

/// Allows or denies devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Else denies.
    pub allow: bool,
    /// `a` (all, also if empty), `c` or `b`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `None` or -1: every one.
    pub major: Option<i64>,
    /// `None` or -1: every one.
    pub minor: Option<i64>,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

/// Memory limits in bytes, -1 for none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LinuxMemory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// What is protected when memory is short (soft limit).
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// 0 to 100 (cgroup v1).
    pub swappiness: Option<u64>,
    /// Pause instead of kill (cgroup v1).
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
}

/// Processor time and placement.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LinuxCpu {
    /// Relative weight, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds per period, -1 for no limit.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds per period for realtime tasks (cgroup v1).
    pub realtime_runtime: Option<i64>,
    /// Microseconds (cgroup v1).
    pub realtime_period: Option<u64>,
    /// Processors, `0-3,5`.
    pub cpus: String,
    /// Memory nodes.
    pub mems: String,
    /// 1: run only when nobody else wants to.
    pub idle: Option<i64>,
}

/// Number of tasks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxPids {
    /// -1 for no limit; 0 leaves it as it is.
    pub limit: Option<i64>,
}

/// Block I/O.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LinuxBlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// Weights of single devices.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second.
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes per second.
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// A device's weight.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    pub weight: Option<u16>,
}

/// A device's rate limit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Per second.
    pub rate: u64,
}

/// A limit on huge pages of one size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Traffic classes (cgroup v1).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxNetwork {
    /// Class of `tc`.
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priorities of interfaces.
    pub priorities: Vec<InterfacePriority>,
}

/// The priority of an interface's traffic.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfacePriority {
    /// The interface.
    pub name: String,
    /// Its priority.
    pub priority: u32,
}

/// A system call filter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp {
    /// For calls that no rule names: `SCMP_ACT_ERRNO`.
    pub default_action: String,
    /// The error for the default action, `EPERM` if not given.
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_X86_64`; the machine's own is always meant too.
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_LOG`.
    pub flags: Vec<String>,
    /// Refused.
    pub listener_path: String,
    /// Refused.
    pub listener_metadata: String,
    /// The rules.
    pub syscalls: Vec<SeccompSyscall>,
}

/// What to do about some calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompSyscall {
    /// Names of calls; those unknown on the machine are skipped.
    pub names: Vec<String>,
    /// `SCMP_ACT_ALLOW`.
    pub action: String,
    /// The error, `EPERM` if not given.
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold.
    pub args: Vec<SeccompArg>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u32,
    /// What to compare with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument must be.
    pub value_two: u64,
    /// `SCMP_CMP_EQ`.
    pub op: String,
}
