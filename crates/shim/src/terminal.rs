//! Terminal sizes.

use std::io;
use std::os::fd::RawFd;

use crate::wire::TerminalSize;

/// Sets the size of the terminal behind `fd`; its foreground processes get SIGWINCH.
pub(crate) fn set_size(fd: RawFd, size: TerminalSize) -> io::Result<()> {
    let window = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the ioctl reads one winsize, which lives until the call returns.
    match unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &window) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
