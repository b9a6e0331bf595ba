//! From the fork to a process in the container's namespaces and root, with the runtime's privileges still.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use super::launch::{self, Launch};
use super::mounts::{Mounter, attach, mount_point, open_path};
use super::{Common, First, FromInit, ToInit, console, nodes, options};
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::rootfs::{Missing, Rootfs};
use crate::spec::{NamespaceKind, Process, Rlimit, Spec};
use crate::sys;

/// New namespaces other than PID, into which the process was born, and cgroup, which is made with the others because
/// the process is in its group by then.
const NEW_NAMESPACES: [NamespaceKind; 5] = [
    NamespaceKind::Mount,
    NamespaceKind::Network,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Cgroup,
];

/// Everything up to where only `start` is missing.
pub(super) fn prepare(init: &mut First) -> Result<Launch> {
    let process = init.spec.process.take().ok_or_else(|| Error::Invalid("process is missing".to_owned()))?;
    init.common.begin()?;
    new_session(&init.common.id)?;
    namespaces(&init.common, &init.spec)?;
    limits(&process, &init.common.log)?;
    sysctls(&init.spec)?;
    let rootfs = enter_root_mount(init)?;
    let mounter = Mounter {
        rootfs: &rootfs,
        bundle: &init.bundle,
        cgroup: &init.cgroup,
        cgroup_namespace: init.spec.linux.is_new(NamespaceKind::Cgroup),
    };
    let old_mask = umask(Mode::empty());
    let deferred = mounter.mount_all(&init.spec.mounts)?;
    nodes::fill_dev(&rootfs, &init.spec)?;
    umask(old_mask);
    if process.terminal {
        console::set_up(Some(&rootfs), init.common.console.as_ref(), &process)?;
    }
    rootfs.make(&process.cwd, Missing::Directory)?;
    hooks(init)?;
    nodes::mask(&rootfs, &init.spec.linux.masked_paths)?;
    nodes::protect(&rootfs, &init.spec.linux.readonly_paths)?;
    for (mount, attributes) in deferred {
        sys::set_mount_attr(mount, attributes, 0, 0, false).doing(|| "make a mount read-only".to_owned())?;
    }
    if init.spec.root.as_ref().is_some_and(|root| root.readonly) {
        nodes::set_readonly(rootfs.fd(), false, "the root")?;
    }
    enter_root(&rootfs, init.no_pivot)?;
    let propagation = options::root_propagation(&init.spec.linux.rootfs_propagation)?;
    if propagation.contains(MsFlags::MS_SHARED) {
        remount(Path::new("/"), propagation).doing(|| "share the root's mounts".to_owned())?;
    }
    launch::prepare(&init.common, &process)
}

/// What the shim and the language's runtime changed must not reach the command.
pub(super) fn reset_signals() {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    for number in Signal::iterator() {
        // SAFETY: the default disposition runs no code of ours. SIGKILL and SIGSTOP refuse, and need it not.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// A session of terminals, and one of keys, of its own.
pub(super) fn new_session(id: &str) -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    nix::unistd::setsid().doing(|| "make a session".to_owned())?;
    if let Ok(name) = std::ffi::CString::new(format!("_ses.{id}")) {
        // A kernel without keys has none to protect; one that is out of quota leaves us the empty user session.
        // SAFETY: the name lives until the call returns.
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    }
    Ok(())
}

fn namespaces(common: &Common, spec: &Spec) -> Result<()> {
    super::join_namespaces(&common.join)?;
    let mut flags = CloneFlags::empty();
    for kind in NEW_NAMESPACES.into_iter().filter(|kind| spec.linux.is_new(*kind)) {
        flags |= CloneFlags::from_bits_truncate(kind.flag());
    }
    unshare(flags).doing(|| "make namespaces".to_owned())?;
    if spec.linux.is_new(NamespaceKind::Network) {
        loopback_up().doing(|| "bring up the loopback interface".to_owned())?;
    }
    if !spec.hostname.is_empty() {
        nix::unistd::sethostname(&spec.hostname).doing(|| "set the host name".to_owned())?;
    }
    if !spec.domainname.is_empty() {
        let name = &spec.domainname;
        // SAFETY: the pointer and length are the string's, which lives until the call returns.
        if unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } != 0 {
            return Err(io::Error::last_os_error()).doing(|| "set the domain name".to_owned());
        }
    }
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an ifreq of zeroes is valid; the ioctl reads the name and flags set here.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Resource limits and the inclination to be killed for want of memory.
pub(super) fn limits(process: &Process, log: &Log) -> Result<()> {
    for limit in &process.rlimits {
        let values = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: reads one rlimit, which lives until the call returns.
        if unsafe { libc::setrlimit(rlimit_number(limit)?, &raw const values) } != 0 {
            let error = io::Error::last_os_error();
            return Err(error).doing(|| format!("set {} to {}/{}", limit.kind, limit.soft, limit.hard));
        }
    }
    match process.oom_score_adj {
        Some(value) => set_oom_score(value, log),
        None => Ok(()),
    }
}

fn rlimit_number(limit: &Rlimit) -> Result<libc::__rlimit_resource_t> {
    Ok(match limit.kind.as_str() {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        other => return Err(Error::Invalid(format!("rlimit {other:?}"))),
    })
}

/// Without CAP_SYS_RESOURCE a process cannot make itself less likely to be killed than it is; it then stays as it is.
fn set_oom_score(value: i32, log: &Log) -> Result<()> {
    let path = "/proc/self/oom_score_adj";
    match std::fs::write(path, value.to_string()) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            let current = std::fs::read_to_string(path).unwrap_or_default();
            let current = current.trim();
            log.warning(&format!(
                "oomScoreAdj {value} refused for want of CAP_SYS_RESOURCE: it stays {current}"
            ));
            Ok(())
        }
        other => other.doing(|| format!("write {value} to {path}")),
    }
}

/// Through the host's /proc, which shows a process the values of its own namespaces.
fn sysctls(spec: &Spec) -> Result<()> {
    for (name, value) in &spec.linux.sysctl {
        // With a slash in it the name is a path already; interface names may have dots.
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        if path.split('/').any(|part| part == "..") {
            return Err(Error::Invalid(format!("sysctl {name:?}")));
        }
        std::fs::write(Path::new("/proc/sys").join(path), value)
            .doing(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(())
}

/// Makes the root file system a mount of its own, private to this mount namespace.
fn enter_root_mount(init: &First) -> Result<Rootfs> {
    let propagation = options::root_propagation(&init.spec.linux.rootfs_propagation)?;
    remount(Path::new("/"), propagation).doing(|| "set the propagation of mounts".to_owned())?;
    let path = &init.rootfs;
    let target = open_path(path)?;
    // What is attached to a shared mount would appear on the host too, and pivot_root refuses it.
    let point = mount_point(&target)?;
    remount(&point, MsFlags::MS_PRIVATE).doing(|| format!("make the mount {} private", point.display()))?;
    let tree = sys::clone_mount(&target, true).doing(|| format!("clone {}", path.display()))?;
    attach(&tree, &target)?;
    Ok(Rootfs::new(tree))
}

fn remount(path: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

fn hooks(init: &First) -> Result<()> {
    let hooks = &init.spec.hooks;
    if !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty()) {
        init.common.channel.send(&FromInit::Mounted)?;
        if !matches!(init.common.channel.receive()?, Some(ToInit::Continue)) {
            return Err(Error::State("the runtime died".to_owned()));
        }
    }
    crate::hooks::run_all("createContainer", &hooks.create_container, &init.hook_state)
}

/// The root mount becomes `/`, and the host's is gone.
fn enter_root(rootfs: &Rootfs, no_pivot: bool) -> Result<()> {
    nix::unistd::fchdir(rootfs.fd()).doing(|| "enter the rootfs".to_owned())?;
    if no_pivot {
        let moved = mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>);
        moved.doing(|| "move the rootfs to /".to_owned())?;
        nix::unistd::chroot(".").doing(|| "chroot to the rootfs".to_owned())?;
    } else {
        let old = open_path(Path::new("/"))?;
        sys::pivot_root_here().doing(|| "pivot_root".to_owned())?;
        nix::unistd::fchdir(&old).doing(|| "go to the old root".to_owned())?;
        // Or unmounting it here would unmount it on the host.
        remount(Path::new("."), MsFlags::MS_SLAVE | MsFlags::MS_REC)
            .doing(|| "detach from the host".to_owned())?;
        umount2(".", MntFlags::MNT_DETACH).doing(|| "unmount the old root".to_owned())?;
    }
    nix::unistd::chdir("/").doing(|| "go to /".to_owned())
}
