//! What can go wrong in making, entering or ending a container.

use std::io;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// The runtime's error. Its text is what a caller finds in the log, and a user of a pod in the pod's events.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("invalid configuration: {0}")]
    Invalid(String),
    /// The configuration asks for something that is not implemented.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Sys {
        /// What was tried.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The program cannot be run: `exec: "foo": executable file not found in $PATH`.
    #[error("{0}")]
    Exec(String),
    /// What the container's own process said before it gave up.
    #[error("unable to start container process: {0}")]
    Init(String),
    /// There is no container of that id.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// There is one already.
    #[error("container with id exists already: {0}")]
    Exists(String),
    /// The container is in another state than the command needs.
    #[error("{0}")]
    State(String),
    /// A hook failed.
    #[error("{name} hook {path}: {message}")]
    Hook {
        /// Which sort of hook.
        name: &'static str,
        /// Its program.
        path: String,
        /// What happened.
        message: String,
    },
}

/// Says what was being done when a system call failed.
pub trait Context<T> {
    /// Names what was tried.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Sys { doing: what(), source: e.into() })
    }
}

impl Error {
    /// The error number of a failed system call.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Sys { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
