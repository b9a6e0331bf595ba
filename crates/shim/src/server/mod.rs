//! The shim's own process.
//!
//! [`main`] makes a daemon of itself ([`daemon`]), makes the sandbox's namespaces ([`sandbox`]), and then runs one
//! poll loop ([`core`]) over its socket, the containers' output and the ends of processes. Nothing in the loop blocks
//! but writes to log files: the OCI runtime's commands are [`jobs`] that the loop hears of when they end.

mod cgroups;
mod conn;
mod container;
mod core;
mod daemon;
mod jobs;
mod log_file;
mod ops;
mod output;
mod pipes;
mod reap;
mod sandbox;

use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::wire::{CONFIG_FILE, SOCKET, ShimConfig};

/// The names of what the shim's directory gets beside the files of [`crate::wire`]: its own messages.
const MESSAGES_FILE: &str = "shim.log";

/// Runs a shim: `args` are those after the subcommand's name, `--dir DIR`. The process must have one thread and no
/// tokio. Returns, in the starting process, when the shim is ready or could not be; the daemon never returns.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let started = parse(args).and_then(|dir| {
        let dir = dir.canonicalize().map_err(|e| format!("find {}: {e}", dir.display()))?;
        let config = read_config(&dir)?;
        daemon::start(&dir.join(MESSAGES_FILE), |ready| run(&dir, config, ready))
    });
    match started {
        Ok(()) => 0,
        Err(text) => {
            crate::say!("{text}");
            1
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<PathBuf, String> {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.as_slice() {
        [flag, dir] if flag == "--dir" => Ok(dir.into()),
        _ => Err("usage: shim --dir DIR".to_owned()),
    }
}

fn read_config(dir: &Path) -> Result<ShimConfig, String> {
    let path = dir.join(CONFIG_FILE);
    let text = std::fs::read(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The daemon: an error before it is ready goes to the starter, one after to the file of messages.
fn run(dir: &Path, config: ShimConfig, ready: daemon::Ready) -> Result<(), String> {
    daemon::settle(&config)?;
    let sandbox = sandbox::Sandbox::make(dir, &config)?;
    let listener = listen(dir)?;
    let server = core::Server::new(dir.to_owned(), config, sandbox, listener)?;
    ready.tell()?;
    server.run()
}

fn listen(dir: &Path) -> Result<UnixListener, String> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let text = |e: std::io::Error| format!("listen on {}: {e}", dir.join(SOCKET).display());
    // A socket address holds 107 bytes; through a descriptor of the directory any path fits.
    let folder = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(dir).map_err(text)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(text(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(text)?;
    listener.set_nonblocking(true).map_err(text)?;
    Ok(listener)
}
