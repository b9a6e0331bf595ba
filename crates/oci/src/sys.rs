//! System calls that the standard library and nix do not have, each a thin safe function.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `RESOLVE_*` of openat2(2).
pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
/// Fail on any symbolic link.
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
/// Treat the directory as the root: `..` and absolute links stay inside.
pub const RESOLVE_IN_ROOT: u64 = 0x10;

/// Clone the mount instead of opening it.
pub const OPEN_TREE_CLONE: u32 = 1;
/// With everything mounted below.
pub const AT_RECURSIVE: u32 = 0x8000;
/// The descriptor itself is meant.
const AT_EMPTY_PATH: u32 = 0x1000;

/// `MOUNT_ATTR_*` of mount_setattr(2) and fsmount(2).
pub const MOUNT_ATTR_RDONLY: u64 = 0x01;
/// No set-user-id.
pub const MOUNT_ATTR_NOSUID: u64 = 0x02;
/// No devices.
pub const MOUNT_ATTR_NODEV: u64 = 0x04;
/// No programs.
pub const MOUNT_ATTR_NOEXEC: u64 = 0x08;
/// The bits that choose how access times are kept.
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
/// Never.
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
/// Always.
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
/// Not of directories.
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
/// Symbolic links are not followed.
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// struct open_how.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// struct mount_attr.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A path as the kernel wants it.
pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    // SAFETY: the system call has just returned this descriptor, which nobody else has.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// openat2(2), always close-on-exec.
pub fn openat2(dir: impl AsFd, path: &Path, flags: i32, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: u64::from(mode), resolve };
    let dir = dir.as_fd().as_raw_fd();
    loop {
        // SAFETY: path and how live until the call returns; the size is how's.
        let result =
            unsafe { libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &how, size_of::<OpenHow>()) };
        match owned(result) {
            // EAGAIN: a rename elsewhere raced with the check that the path stays inside.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            other => return other,
        }
    }
}

/// open_tree(2) on an open file: a detached copy of the mount there.
pub fn clone_mount(of: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant, empty and terminated.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, of.as_fd().as_raw_fd(), c"".as_ptr(), flags) })
}

/// move_mount(2): attaches a detached mount on an open file.
pub fn attach_mount(mount: impl AsFd, on: impl AsFd) -> io::Result<()> {
    const BOTH_EMPTY: u32 = 0x04 | 0x40;
    let (mount, on) = (mount.as_fd().as_raw_fd(), on.as_fd().as_raw_fd());
    // SAFETY: both paths are constants, empty and terminated.
    let result =
        unsafe { libc::syscall(libc::SYS_move_mount, mount, c"".as_ptr(), on, c"".as_ptr(), BOTH_EMPTY) };
    check(result).map(drop)
}

/// mount_setattr(2) on an open mount. `propagation` is one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`,
/// `MS_UNBINDABLE`, or 0 to leave it.
pub fn set_mount_attr(
    mount: impl AsFd,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr { set, clear, propagation, userns_fd: 0 };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let fd = mount.as_fd().as_raw_fd();
    let size = size_of::<MountAttr>();
    // SAFETY: the path is a constant; attr lives until the call returns, and the size is its.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &attr, size) }).map(drop)
}

/// fsopen(2), fsconfig(2) and fsmount(2): a new, detached mount of a file system. `options` are `key` or `key=value`.
pub fn new_mount(kind: &str, source: &str, options: &[String], attr: u64) -> io::Result<OwnedFd> {
    let kind = CString::new(kind)?;
    // SAFETY: the name lives until the call returns.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    let configure = |command: u32, key: Option<&CStr>, value: Option<&CStr>| {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or terminated strings that live until the call returns.
        let result =
            unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
        check(result).map(drop).map_err(|e| with_context_log(&context, e))
    };
    if !source.is_empty() {
        configure(FSCONFIG_SET_STRING, Some(c"source"), Some(&CString::new(source)?))?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => {
                configure(FSCONFIG_SET_STRING, Some(&CString::new(key)?), Some(&CString::new(value)?))?;
            }
            None => configure(FSCONFIG_SET_FLAG, Some(&CString::new(option.as_str())?), None)?,
        }
    }
    configure(FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attr) })
}

/// The kernel writes into a file system context what it did not like.
fn with_context_log(context: &OwnedFd, error: io::Error) -> io::Error {
    let mut text = [0_u8; 512];
    match nix::unistd::read(context, &mut text) {
        Ok(count @ 1..) => {
            let text = String::from_utf8_lossy(&text[..count]);
            io::Error::new(error.kind(), format!("{error} ({})", text.trim()))
        }
        _ => error,
    }
}

/// pivot_root(".", "."): the current directory becomes the root, the old root lies on top of it.
pub fn pivot_root_here() -> io::Result<()> {
    // SAFETY: both paths are constants.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// A descriptor of a process; readable when it has ended.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Sends a signal to exactly the process that was opened.
pub fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo means that the kernel makes one as kill(2) does.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, info, 0) })
        .map(drop)
}

/// Makes every descriptor from `first` on close at exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: takes numbers only; descriptors stay open until exec.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// `/proc/self/fd/N`, a path to an open file that older system calls understand.
pub fn fd_path(fd: impl AsFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}
