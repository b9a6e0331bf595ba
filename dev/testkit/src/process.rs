//! Running programs and waiting for what they bring about.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program that takes longer than this has hung.
const LIMIT: Duration = Duration::from_secs(180);

/// What a program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its error stream.
    pub stderr: String,
}

impl Output {
    /// Its standard output, trimmed. Panics with all it said if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }

    /// Its error stream, trimmed. Panics if it did not fail.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(!self.status.success(), "should have failed\n{}{}", self.stdout, self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

/// A program to run, with what it reads.
pub struct Run {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
}

impl Run {
    /// The program of these words.
    pub fn new<S: AsRef<std::ffi::OsStr>>(words: &[S]) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Self { command, input: Vec::new(), limit: LIMIT }
    }

    /// It reads `input`.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// It has an environment variable.
    pub fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// It may take this long.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it and leaves it running.
    pub fn spawn(mut self) -> std::process::Child {
        self.command.stdin(Stdio::null()).spawn().expect("the program starts")
    }

    /// The command itself, for streams of the caller's own.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end; one that hangs is killed and counts as failed.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let shown = format!("{:?}", self.command);
        let spawned =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|e| panic!("{shown}: {e}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.input;
        // A program that does not read all of its input is no failure.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = drain(child.stdout.take().expect("piped"));
        let stderr = drain(child.stderr.take().expect("piped"));
        let deadline = Instant::now() + self.limit;
        let status = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("{shown}: not done after {} s", self.limit.as_secs());
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let _ = writer.join();
        Output { status, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits until `check` gives something; what a user would look at again and again. Panics with `what` and the last
/// complaint after a minute and a half.
#[track_caller]
pub fn wait_until<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match check() {
            Ok(found) => return found,
            Err(complaint) if Instant::now() > deadline => panic!("{what}: {complaint}"),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// True if a program of this name can be started.
pub fn on_path(program: &str) -> bool {
    find_program(program).is_some()
}

/// Where a program is, links followed.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.and_then(|file| file.canonicalize().ok())
}
