//! What can go wrong between a CRI server, a shim and its runtime.

use std::io;

use serde::{Deserialize, Serialize};

/// The error of every call of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No shim answers at that directory: it died or was shut down.
    #[error("the shim at {dir} is gone: {source}")]
    Gone {
        /// The shim's directory.
        dir: String,
        /// Why the connection failed.
        #[source]
        source: io::Error,
    },
    /// The connection broke in the middle of a call, usually because the shim died.
    #[error("connection to the shim lost while {doing}: {source}")]
    Connection {
        /// The call.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The shim could not be started; the text says why.
    #[error("start shim: {0}")]
    Start(String),
    /// The shim answered with an error.
    #[error("{message}")]
    Refused {
        /// What sort of error.
        kind: ErrorKind,
        /// The text, for a runtime error the runtime's own (e.g. `exec: "foo": executable file not found in $PATH`).
        message: String,
    },
    /// A file operation on the client's side failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried, with the path.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The peer speaks another protocol version or broke the protocol.
    #[error("shim protocol: {0}")]
    Protocol(String),
    /// A command of [`crate::Shim::exec_sync`] did not end in time; it was killed.
    #[error("command timed out after {0:?}")]
    Timeout(std::time::Duration),
}

/// The sort of an error that a shim answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// There is no container with that id.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The container is not in a phase in which this is possible.
    FailedPrecondition,
    /// The request makes no sense.
    InvalidArgument,
    /// The OCI runtime failed.
    Runtime,
    /// The runtime or command did not end in time.
    DeadlineExceeded,
    /// A bound of the shim is reached (connections, containers).
    ResourceExhausted,
    /// Anything else.
    Internal,
}

impl Error {
    /// The sort of error if the shim itself refused the call.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// True if there is no such container.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(ErrorKind::NotFound)
    }

    /// True if the shim itself is not there any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Connection { .. })
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
