//! How a server says what it has reached: to `corten up` over a pipe, to a service manager by its protocol.

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use std::sync::Mutex;

/// The environment variable that names the pipe's descriptor.
pub const PIPE: &str = "CORTEN_NOTIFY_FD";
/// The line after which `corten up` returns.
pub const READY: &str = "ready";

/// Tells whoever started us what was reached, and when.
pub struct Notify {
    started: Instant,
    started_at: i64,
    pipe: Mutex<Option<File>>,
}

impl Notify {
    /// Takes the pipe from the environment, if `corten up` gave one.
    pub fn from_environment() -> Self {
        let fd = std::env::var(PIPE).ok().and_then(|text| text.parse::<RawFd>().ok()).filter(|fd| *fd > 2);
        let started_at =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        // SAFETY: `corten up` opened this descriptor for us alone, and this is the only place that takes it.
        let pipe = fd.map(|fd| unsafe {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            File::from_raw_fd(fd)
        });
        Self { started: Instant::now(), started_at, pipe: Mutex::new(pipe) }
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u128 {
        self.started.elapsed().as_millis()
    }

    /// When this process started, in seconds since 1970.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }

    /// Says that a milestone was reached.
    pub fn reached(&self, what: &str) {
        let line = format!("{what} in {} ms", self.elapsed_ms());
        tracing::info!("{line}");
        self.write(&line);
    }

    /// Says that the cluster can be used, and closes the pipe.
    pub fn ready(&self) {
        self.write(READY);
        if let Ok(mut pipe) = self.pipe.lock() {
            *pipe = None;
        }
        service_manager("READY=1");
    }

    fn write(&self, line: &str) {
        if let Ok(mut pipe) = self.pipe.lock()
            && let Some(file) = pipe.as_mut()
        {
            // Whoever waited may have gone; the cluster goes on.
            let _ = writeln!(file, "{line}");
        }
    }
}

/// Sends a state in the protocol of sd_notify(3), if a service manager listens.
fn service_manager(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let sent = match path.as_bytes() {
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            std::os::unix::net::SocketAddr::from_abstract_name(name)
                .and_then(|address| socket.send_to_addr(state.as_bytes(), &address))
        }
        _ => socket.send_to(state.as_bytes(), &path),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "service manager not told");
    }
}
