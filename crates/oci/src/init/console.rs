//! A terminal for the process, made in the container's own devpts; its master goes to whoever listens on the console
//! socket.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_fd, sendmsg,
    socket,
};
use nix::sys::stat::{SFlag, makedev};

use super::nodes;
use crate::error::{Context, Error, Result};
use crate::rootfs::{Rootfs, stat};
use crate::spec::Process;
use crate::sys;

/// Magic number of devpts (statfs).
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Connects to a console socket.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let doing = || format!("connect to the console socket {}", path.display());
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).doing(doing)?;
    // A socket address holds 107 bytes; through a descriptor of the directory any path fits.
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Usage(format!("console socket {}", path.display())));
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let dir = super::mounts::open_path(dir)?;
    let address = UnixAddr::new(&sys::fd_path(&dir).join(name)).doing(doing)?;
    connect_fd(fd.as_raw_fd(), &address).doing(doing)?;
    Ok(fd)
}

/// Makes the terminal the process's own, as standard streams and controlling terminal, and sends its master away.
/// `rootfs` is the root that is still to be entered; `None` if the process is in it.
pub(super) fn set_up(rootfs: Option<&Rootfs>, console: Option<&OwnedFd>, process: &Process) -> Result<()> {
    let Some(console) = console else {
        return Err(Error::Usage("process.terminal is set, so --console-socket must be given".to_owned()));
    };
    let (master, slave) = open_pair(rootfs)?;
    if let Some(size) = process.console_size.filter(|size| size.height != 0 && size.width != 0) {
        let window = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the ioctl reads one winsize, which lives until the call returns.
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) };
    }
    if let Some(rootfs) = rootfs {
        nodes::bind_console(rootfs, &slave)?;
    }
    send_master(console, &master).doing(|| "send the terminal's master".to_owned())?;
    for stream in 0..=2 {
        // SAFETY: takes numbers only; the standard streams belong to nobody in this process.
        if unsafe { libc::dup2(slave.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error())
                .doing(|| "take the terminal as standard streams".to_owned());
        }
    }
    // SAFETY: takes numbers only.
    match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).doing(|| "take the controlling terminal".to_owned()),
    }
}

fn open_pair(rootfs: Option<&Rootfs>) -> Result<(OwnedFd, OwnedFd)> {
    let doing = || "open /dev/pts/ptmx in the container".to_owned();
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = match rootfs {
        Some(rootfs) => rootfs.open("/dev/pts/ptmx", flags),
        None => {
            let root = std::fs::File::open("/").doing(doing)?;
            let resolve = sys::RESOLVE_NO_SYMLINKS;
            sys::openat2(&root, Path::new("dev/pts/ptmx"), flags, 0, resolve)
        }
    }
    .doing(doing)?;
    if !is_ptmx(&master).doing(doing)? {
        return Err(Error::Invalid(
            "/dev/pts/ptmx of the container is not a terminal multiplexer".to_owned(),
        ));
    }
    let unlock: libc::c_int = 0;
    // SAFETY: the first ioctl reads one int, which lives until the call returns; the second takes flags.
    let slave = unsafe {
        if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) != 0 {
            return Err(io::Error::last_os_error()).doing(|| "unlock the terminal".to_owned());
        }
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags | libc::O_CLOEXEC)
    };
    if slave < 0 {
        return Err(io::Error::last_os_error()).doing(|| "open the terminal's slave".to_owned());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// An image could have put anything there.
fn is_ptmx(fd: &OwnedFd) -> io::Result<bool> {
    let found = stat(fd)?;
    let filesystem = nix::sys::statfs::fstatfs(fd.as_fd())?.filesystem_type().0 as i64;
    let is_character = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
    Ok(is_character && found.st_rdev == makedev(5, 2) && filesystem == DEVPTS_MAGIC)
}

fn send_master(console: &OwnedFd, master: &OwnedFd) -> io::Result<()> {
    let fds = [master.as_raw_fd()];
    // The name is what runc sends beside; receivers may show it.
    let name = [IoSlice::new(b"/dev/ptmx")];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<UnixAddr>(console.as_raw_fd(), &name, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
