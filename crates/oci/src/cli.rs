//! The command line, as runc's as far as container engines use it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::state::Store;
use crate::{create, exec, lifecycle, process, seal};

/// Flags before the command; those with a value, and those without.
const GLOBAL_VALUES: [&str; 5] = ["root", "log", "log-format", "criu", "rootless"];
const GLOBAL_SWITCHES: [&str; 2] = ["debug", "systemd-cgroup"];
const DEFAULT_ROOT: &str = "/run/corten-oci";
/// The exit code of a command of ours that failed; `exec` and `run` pass on those of the container's process.
const FAILURE: i32 = 1;
/// `exec` failed before there was a process (as runc).
const EXEC_FAILURE: i32 = 255;

/// Runs `corten oci`: `args` are the process's own from the program's name on, of which the first `skip` lead here
/// (`["corten", "oci"]`: 2). The process must have one thread. Returns the exit code.
pub fn main(args: &[OsString], skip: usize) -> i32 {
    // The shim may do without huge pages; a container decides for itself.
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0) };
    let texts: Vec<String> = args.iter().skip(skip).map(|a| a.to_string_lossy().into_owned()).collect();
    let (global, rest) = match Flags::parse(&texts, &GLOBAL_VALUES, &GLOBAL_SWITCHES, true) {
        Ok(parsed) => parsed,
        Err(error) => return fail(&Log::default(), &error, FAILURE),
    };
    let log = Log::new(global.path("log"), global.values.get("log-format").is_some_and(|f| f == "json"));
    let Some((name, rest)) = rest.split_first() else {
        return fail(&log, &Error::Usage("a command is missing".to_owned()), FAILURE);
    };
    if global.has("systemd-cgroup") {
        return fail(
            &log,
            &Error::Unsupported("--systemd-cgroup: cgroups are made as directories".to_owned()),
            FAILURE,
        );
    }
    let root = global.path("root").unwrap_or_else(|| DEFAULT_ROOT.into());
    let code = if name == "exec" { EXEC_FAILURE } else { FAILURE };
    match (Command { root, log: log.clone(), process_args: args }).run(name, rest) {
        Ok(code) => code,
        Err(error) => fail(&log, &describe(name, error), code),
    }
}

fn fail(log: &Log, error: &Error, code: i32) -> i32 {
    log.error(&error.to_string());
    code
}

fn describe(command: &str, error: Error) -> Error {
    match (command, error) {
        ("exec", Error::Init(text)) => {
            Error::State(format!("exec failed: unable to start container process: {text}"))
        }
        (_, error) => error,
    }
}

struct Command<'a> {
    root: PathBuf,
    log: Log,
    process_args: &'a [OsString],
}

impl Command<'_> {
    fn run(&self, name: &str, args: &[String]) -> Result<i32> {
        match name {
            "create" | "run" => self.create(args, name == "run"),
            "start" => self.simple(args, |store| lifecycle::start(store, &self.log)),
            "state" => self.simple(args, |store| print(&store.report()?)),
            "kill" => self.kill(args),
            "delete" => self.delete(args),
            "exec" => self.exec(args),
            "ps" => self.ps(args),
            "update" => self.update(args),
            "pause" => self.simple(args, |store| lifecycle::freeze(store, true)),
            "resume" => self.simple(args, |store| lifecycle::freeze(store, false)),
            "list" => self.list(args),
            "--version" | "-v" => {
                println!("corten oci version {}\nspec: 1.2.0", env!("CARGO_PKG_VERSION"));
                Ok(0)
            }
            other => Err(Error::Usage(format!("unknown command {other:?}"))),
        }
    }

    fn store(&self, id: &str) -> Result<Store> {
        Store::new(&self.root, id)
    }

    fn simple(&self, args: &[String], run: impl FnOnce(&Store) -> Result<()>) -> Result<i32> {
        let (_, rest) = Flags::parse(args, &[], &[], false)?;
        run(&self.store(only(&rest)?)?)?;
        Ok(0)
    }

    fn create(&self, args: &[String], run: bool) -> Result<i32> {
        let values = ["bundle", "b", "pid-file", "console-socket", "preserve-fds"];
        let switches = ["no-pivot", "no-new-keyring", "detach", "d", "keep"];
        let (flags, rest) = Flags::parse(args, &values, &switches, false)?;
        let id = only(&rest)?;
        let store = self.store(id)?;
        seal::ensure(self.process_args)?;
        let options = create::Options {
            bundle: flags.path("bundle").or_else(|| flags.path("b")).unwrap_or_else(|| ".".into()),
            pid_file: flags.path("pid-file"),
            console_socket: flags.path("console-socket"),
            no_pivot: flags.has("no-pivot"),
            preserve_fds: flags.number("preserve-fds")?.unwrap_or(0),
        };
        let state = create::create(&store, id, &options, &self.log)?;
        if !run {
            return Ok(0);
        }
        if let Err(error) = lifecycle::start(&store, &self.log) {
            let _ = lifecycle::delete(&store, true, &self.log);
            return Err(error);
        }
        if flags.has("detach") || flags.has("d") {
            return Ok(0);
        }
        let code = process::wait_for(state.init.pid)?;
        if !flags.has("keep") {
            lifecycle::delete(&store, true, &self.log)?;
        }
        Ok(code)
    }

    fn exec(&self, args: &[String]) -> Result<i32> {
        let values = ["process", "p", "pid-file", "console-socket", "preserve-fds"];
        let (flags, rest) = Flags::parse(args, &values, &["detach", "d"], false)?;
        let id = only(&rest)?;
        let store = self.store(id)?;
        let process = flags.path("process").or_else(|| flags.path("p"));
        seal::ensure(self.process_args)?;
        let options = exec::Options {
            process: process.ok_or_else(|| Error::Usage("exec needs --process".to_owned()))?,
            pid_file: flags.path("pid-file"),
            console_socket: flags.path("console-socket"),
            detach: flags.has("detach") || flags.has("d"),
            preserve_fds: flags.number("preserve-fds")?.unwrap_or(0),
        };
        exec::exec(&store, id, &options, &self.log)
    }

    fn kill(&self, args: &[String]) -> Result<i32> {
        let (flags, rest) = Flags::parse(args, &[], &["all", "a"], false)?;
        let (id, signal) = match rest.as_slice() {
            [id] => (id, "SIGTERM"),
            [id, signal] => (id, signal.as_str()),
            _ => return Err(Error::Usage("kill takes a container and a signal".to_owned())),
        };
        lifecycle::kill(&self.store(id)?, signal_number(signal)?, flags.has("all") || flags.has("a"))?;
        Ok(0)
    }

    fn delete(&self, args: &[String]) -> Result<i32> {
        let (flags, rest) = Flags::parse(args, &[], &["force", "f"], false)?;
        lifecycle::delete(&self.store(only(&rest)?)?, flags.has("force") || flags.has("f"), &self.log)?;
        Ok(0)
    }

    fn ps(&self, args: &[String]) -> Result<i32> {
        let (flags, rest) = Flags::parse(args, &["format", "f"], &[], false)?;
        let pids = lifecycle::ps(&self.store(only(&rest)?)?)?;
        match flags.values.get("format").or(flags.values.get("f")).map(String::as_str) {
            Some("json") => print(&pids)?,
            _ => pids.iter().for_each(|pid| println!("{pid}")),
        }
        Ok(0)
    }

    fn update(&self, args: &[String]) -> Result<i32> {
        let (flags, rest) = Flags::parse(args, &["resources", "r"], &[], false)?;
        let resources = flags.path("resources").or_else(|| flags.path("r"));
        let resources = resources.ok_or_else(|| Error::Usage("update needs --resources".to_owned()))?;
        lifecycle::update(&self.store(only(&rest)?)?, &resources)?;
        Ok(0)
    }

    fn list(&self, args: &[String]) -> Result<i32> {
        Flags::parse(args, &["format", "f"], &[], false)?;
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        let reports: Vec<_> = names.filter_map(|id| self.store(&id).ok()?.report().ok()).collect();
        print(&reports)?;
        Ok(0)
    }
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value).map_err(|e| Error::Invalid(e.to_string()))?);
    Ok(())
}

fn only(rest: &[String]) -> Result<&str> {
    match rest {
        [id] => Ok(id),
        _ => Err(Error::Usage(format!("one container id is wanted, not {}", rest.len()))),
    }
}

/// `9`, `KILL`, `SIGKILL`, and the realtime signals as `SIGRTMIN+3` or `RTMAX-1`.
fn signal_number(text: &str) -> Result<i32> {
    let unknown = || Error::Usage(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let realtime = [("RTMIN+", 34, 1), ("RTMIN", 34, 1), ("RTMAX-", 64, -1), ("RTMAX", 64, -1)];
    for (prefix, base, sign) in realtime {
        if let Some(rest) = name.strip_prefix(prefix) {
            let offset = if rest.is_empty() { 0 } else { rest.parse().map_err(|_| unknown())? };
            let number = base + sign * offset;
            return if (34..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
        }
    }
    format!("SIG{name}").parse::<Signal>().map(|s| s as i32).map_err(|_| unknown())
}

/// Flags of one command.
#[derive(Debug, Default)]
struct Flags {
    values: BTreeMap<String, String>,
    switches: Vec<String>,
}

impl Flags {
    /// Splits flags from the other arguments; `stop` at the first of those, which is then a command.
    fn parse(args: &[String], values: &[&str], switches: &[&str], stop: bool) -> Result<(Self, Vec<String>)> {
        let mut flags = Self::default();
        let mut rest = Vec::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(name) =
                arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|n| !n.is_empty())
            else {
                rest.push(arg.clone());
                if stop {
                    rest.extend(args.by_ref().cloned());
                }
                continue;
            };
            let (name, inline) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v.to_owned())));
            if switches.contains(&name) {
                if inline.as_deref() != Some("false") {
                    flags.switches.push(name.to_owned());
                }
            } else if values.contains(&name) {
                let value = inline.or_else(|| args.next().cloned());
                let value = value.ok_or_else(|| Error::Usage(format!("flag --{name} needs a value")))?;
                flags.values.insert(name.to_owned(), value);
            } else if stop && matches!(name, "version" | "v") {
                rest.push("--version".to_owned());
            } else {
                return Err(Error::Usage(format!("unknown flag {arg:?}")));
            }
        }
        Ok((flags, rest))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.values.get(name).map(PathBuf::from)
    }

    fn number(&self, name: &str) -> Result<Option<u32>> {
        let parse = |text: &String| text.parse().map_err(|_| Error::Usage(format!("--{name} {text:?}")));
        self.values.get(name).map(parse).transpose()
    }

    fn has(&self, name: &str) -> bool {
        self.switches.iter().any(|s| s == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(args: &[&str]) -> Vec<String> {
        args.iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn flags_before_and_after_the_id() {
        let args = texts(&["--bundle", "/b", "id", "--pid-file=/p", "--no-pivot"]);
        let (flags, rest) = Flags::parse(&args, &["bundle", "pid-file"], &["no-pivot"], false).unwrap();
        assert_eq!(rest, ["id"]);
        assert_eq!(flags.path("bundle"), Some("/b".into()));
        assert_eq!(flags.path("pid-file"), Some("/p".into()));
        assert!(flags.has("no-pivot"));
        assert!(Flags::parse(&texts(&["--what"]), &[], &[], false).is_err());
    }

    #[test]
    fn signals_by_name_and_number() {
        let table =
            [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)];
        for (text, number) in table {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        assert!(signal_number("SIGNOT").is_err());
        assert!(signal_number("65").is_err());
    }
}
