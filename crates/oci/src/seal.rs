//! Keeps a container from overwriting the runtime's executable (the class of CVE-2019-5736).
//!
//! A process of ours inside a container can be made to execute `/proc/self/exe`, that is this binary, with libraries
//! of the container, and from then on its code holds a reference to the binary. So whatever enters a container runs
//! from a reference that cannot be written through: a private read-only mount of the file, or a sealed copy in memory
//! where the kernel has no such mounts.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{AtFlags, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Context, Error, Result};
use crate::sys;

/// Set on re-entry, only so that a kernel on which it does not help is not tried for ever.
const MARK: &str = "_CORTEN_OCI_SEALED";

/// Returns if this process's executable cannot be written through; else executes it anew in such a way.
pub fn ensure(program_args: &[OsString]) -> Result<()> {
    // Nor may processes of a container look into this one.
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let executable = File::open("/proc/self/exe").doing(|| "open /proc/self/exe".to_owned())?;
    if is_sealed(&executable) {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(Error::State(
            "the executable cannot be protected from containers on this machine".to_owned(),
        ));
    }
    let sealed = match read_only_mount(&executable) {
        Ok(fd) => fd,
        Err(_) => memory_copy(&executable).doing(|| "copy the executable into memory".to_owned())?,
    };
    let error = execute(&sealed, program_args);
    Err(error).doing(|| "execute the sealed executable".to_owned())
}

fn is_sealed(executable: &File) -> bool {
    let read_only = fstatvfs(executable).is_ok_and(|s| s.flags().contains(FsFlags::ST_RDONLY));
    let seals = fcntl(executable, FcntlArg::F_GET_SEALS).unwrap_or(0);
    read_only || SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE)
}

/// The file over a mount that is in no namespace; it lives as long as it is open or executed.
fn read_only_mount(executable: &File) -> io::Result<OwnedFd> {
    let path =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(sys::fd_path(executable))?;
    let tree = sys::clone_mount(&path, false)?;
    sys::set_mount_attr(&tree, sys::MOUNT_ATTR_RDONLY, 0, 0, false)?;
    Ok(tree)
}

fn memory_copy(executable: &File) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = File::from(memfd_create(c"corten-oci", flags)?);
    io::copy(&mut &*executable, &mut &copy)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

fn execute(program: &OwnedFd, program_args: &[OsString]) -> io::Error {
    let c_string = |text: &std::ffi::OsStr| CString::new(text.as_bytes());
    let environment = std::env::vars_os().chain([(MARK.into(), "1".into())]).map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        c_string(&entry)
    });
    let env: std::result::Result<Vec<_>, _> = environment.collect();
    let args: std::result::Result<Vec<_>, _> = program_args.iter().map(|a| c_string(a)).collect();
    let (Ok(env), Ok(args)) = (env, args) else { return io::ErrorKind::InvalidInput.into() };
    match nix::unistd::execveat(program, c"", &args, &env, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}
