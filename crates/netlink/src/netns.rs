//! Doing something in another network namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::Error;

/// Runs `work` on a thread of its own that is in the network namespace at `path`: a file of `/run/netns` or
/// `/proc/<pid>/ns/net`. The caller's thread stays where it is.
///
/// # Errors
/// [`Error::Netns`] if there is no such namespace, or it may not be entered.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let fail = |source| Error::Netns { path: path.display().to_string(), source };
    let namespace = File::open(path).map_err(fail)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            // SAFETY: setns() changes this thread only, which ends with `work`.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(work())
        });
        match thread.join() {
            Ok(result) => result.map_err(fail),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
