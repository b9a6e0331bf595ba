//! How a created container waits for `start`: two named pipes in its state directory. A byte through the first one
//! opens the gate. Through the second the process says why its command could not be executed; its close without a word
//! means that it was. The waiting process holds both open already and needs only read and write, which no system call
//! filter can do without.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;

use crate::error::{Context, Error, Result};

const GATE: &str = "start.fifo";
const RESULT: &str = "result.fifo";
/// The longest error text.
const MAX_TEXT: u64 = 16 << 10;

/// The waiting side.
#[derive(Debug)]
pub struct Gate {
    gate: File,
    result: File,
}

/// Where the outcome goes.
#[derive(Debug)]
pub struct Outcome(File);

/// The side of `start`.
#[derive(Debug)]
pub struct GateOpener {
    gate: File,
    result: File,
}

/// Makes the pipes in a state directory, and opens the waiting side.
pub fn make_files(dir: &Path) -> Result<Gate> {
    for name in [GATE, RESULT] {
        let path = dir.join(name);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600))
            .doing(|| format!("make {}", path.display()))?;
    }
    let open = |name: &str, options: &mut OpenOptions| {
        let path = dir.join(name);
        options.open(&path).doing(|| format!("open {}", path.display()))
    };
    // Open for both, the gate never ends; and with a reader there, opening for writing does not wait for one.
    let gate = open(GATE, OpenOptions::new().read(true).write(true))?;
    let _reader = open(RESULT, OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK))?;
    let result = open(RESULT, OpenOptions::new().write(true))?;
    Ok(Gate { gate, result })
}

impl Gate {
    /// True if the container in this state directory was not started yet.
    pub fn is_closed(dir: &Path) -> bool {
        dir.join(GATE).exists()
    }

    /// Waits for `start`.
    pub fn wait(mut self) -> Result<Outcome> {
        self.gate.read_exact(&mut [0]).doing(|| "wait for start".to_owned())?;
        Ok(Outcome(self.result))
    }
}

impl Outcome {
    /// Says why the command could not be executed.
    pub fn report(mut self, error: &Error) {
        let _ = self.0.write_all(error.to_string().as_bytes());
    }
}

impl GateOpener {
    /// The gate of a state directory, still closed.
    pub fn new(dir: &Path) -> Result<Self> {
        let dead = |e: std::io::Error| match e.raw_os_error() {
            Some(libc::ENXIO) => Error::State("cannot start a container that has stopped".to_owned()),
            Some(libc::ENOENT) => Error::State("cannot start a container that is started already".to_owned()),
            _ => Error::Sys { doing: "open the gate".to_owned(), source: e },
        };
        let mut options = OpenOptions::new();
        let result =
            options.read(true).custom_flags(libc::O_NONBLOCK).open(dir.join(RESULT)).map_err(dead)?;
        let mut options = OpenOptions::new();
        let gate = options.write(true).custom_flags(libc::O_NONBLOCK).open(dir.join(GATE)).map_err(dead)?;
        Ok(Self { gate, result })
    }

    /// Opens it and waits until the command was executed, or could not be.
    pub fn open(mut self, dir: &Path) -> Result<()> {
        std::fs::remove_file(dir.join(GATE)).doing(|| "remove the gate".to_owned())?;
        self.gate.write_all(&[1]).doing(|| "open the gate".to_owned())?;
        let mut text = String::new();
        loop {
            let mut fds = [PollFd::new(self.result.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(e).doing(|| "wait for the container's command".to_owned()),
            }
            match (&mut self.result).take(MAX_TEXT).read_to_string(&mut text) {
                Ok(_) => break,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e).doing(|| "hear from the container's command".to_owned()),
            }
        }
        let _ = std::fs::remove_file(dir.join(RESULT));
        if text.is_empty() { Ok(()) } else { Err(Error::Init(text)) }
    }
}
