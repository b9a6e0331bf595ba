//! The last steps: privileges are given up, the program is found, the filter goes in, exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Common, credentials};
use crate::error::{Context, Error, Result};
use crate::seccomp::Filter;
use crate::spec::Process;
use crate::sys;

/// A process that has everything but its program.
#[derive(Debug)]
pub(super) struct Launch {
    program: PathBuf,
    args: Vec<CString>,
    env: Vec<CString>,
    preserve_fds: u32,
    /// A filter that is still to be installed.
    filter: Option<Filter>,
}

/// Gives up privileges and finds the program, inside the container's root.
pub(super) fn prepare(common: &Common, process: &Process) -> Result<Launch> {
    let mut filter = common.filter.clone();
    if process.no_new_privileges {
        // SAFETY: takes numbers only.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error()).doing(|| "set no_new_privs".to_owned());
        }
    } else if let Some(filter) = filter.take() {
        // Without no_new_privs it takes a privilege that is about to go.
        filter.install()?;
    }
    // The user may not be allowed in, or root may not (on a network file system); one of both must be.
    let entered = enter(&process.cwd);
    let home = home_of(process.user.uid);
    credentials::become_user(process, &common.log)?;
    if entered.is_err() {
        enter(&process.cwd)?;
    }
    let mut env = process.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    let name = process.args.first().map_or("", String::as_str);
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    Ok(Launch {
        program: find(name, path.unwrap_or_default())?,
        args: c_strings(&process.args)?,
        env: c_strings(&env)?,
        preserve_fds: common.preserve_fds,
        filter,
    })
}

impl Launch {
    /// Becomes the program.
    pub(super) fn exec(self) -> Result<Infallible> {
        sys::close_on_exec_from(3 + self.preserve_fds).doing(|| "close descriptors".to_owned())?;
        let program = sys::c_path(&self.program).doing(|| "name the program".to_owned())?;
        if let Some(filter) = &self.filter {
            filter.install()?;
        }
        match nix::unistd::execve(&program, &self.args, &self.env) {
            Ok(never) => Ok(never),
            Err(e) => Err(Error::Exec(format!("exec {}: {}", self.program.display(), error_text(e)))),
        }
    }
}

/// A working directory that was reached through a descriptor of the host would be a way out.
fn enter(cwd: &str) -> Result<()> {
    std::env::set_current_dir(cwd).doing(|| format!("chdir to cwd ({cwd:?})"))?;
    let here = std::env::current_dir().doing(|| "find the current directory".to_owned())?;
    if here.is_absolute() {
        return Ok(());
    }
    Err(Error::Invalid(format!("cwd {cwd:?} is outside of the container's root")))
}

/// The home directory in the container's `/etc/passwd`.
fn home_of(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = uid.to_string();
    let fields = |line: &str| {
        let mut fields = line.split(':');
        (fields.nth(2).map(str::to_owned), fields.nth(2).map(str::to_owned))
    };
    let home =
        text.lines().map(fields).find(|(id, _)| id.as_deref() == Some(&uid)).and_then(|(_, home)| home);
    home.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// Looks a program up as a shell does. The texts are those that users know from other runtimes.
fn find(name: &str, path: &str) -> Result<PathBuf> {
    let failed = |text: String| Err(Error::Exec(format!("exec: {name:?}: {text}")));
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(NotExecutable::Missing(e)) => failed(format!("stat {name}: {}", error_text(e))),
            Err(NotExecutable::Directory) => failed("is a directory".to_owned()),
            Err(NotExecutable::Denied) => failed("permission denied".to_owned()),
        };
    }
    let mut denied = false;
    for dir in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(NotExecutable::Denied) => denied = true,
            Err(_) => {}
        }
    }
    failed(if denied { "permission denied" } else { "executable file not found in $PATH" }.to_owned())
}

enum NotExecutable {
    Missing(nix::Error),
    Directory,
    Denied,
}

fn executable(path: &Path) -> std::result::Result<(), NotExecutable> {
    let found = std::fs::metadata(path).map_err(|e| {
        NotExecutable::Missing(e.raw_os_error().map_or(nix::Error::UnknownErrno, nix::Error::from_raw))
    })?;
    if found.is_dir() {
        return Err(NotExecutable::Directory);
    }
    // access(2) says yes to root for files that nobody may execute.
    let allowed = nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if allowed && found.permissions().mode() & 0o111 != 0 { Ok(()) } else { Err(NotExecutable::Denied) }
}

/// The error's text with a small first letter, as in other runtimes' messages.
fn error_text(error: nix::Error) -> String {
    let text = error.desc();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>> {
    texts
        .iter()
        .map(|text| {
            CString::new(text.as_str()).map_err(|_| Error::Invalid(format!("{text:?} has a zero byte")))
        })
        .collect()
}
