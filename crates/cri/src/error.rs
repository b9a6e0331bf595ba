//! What can go wrong in the runtime, and what a CRI client is told of it.

use std::io;
use std::path::Path;

use tonic::{Code, Status};

/// The error of every operation of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such sandbox, container or image. The text is whole.
    #[error("{0}: not found")]
    NotFound(String),
    /// The name or id is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// The request makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The object is not in a state in which this is possible.
    #[error("{0}")]
    FailedPrecondition(String),
    /// A feature that this runtime does not have.
    #[error("{0} is not implemented by corten")]
    Unimplemented(&'static str),
    /// It took too long.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// A bound is reached.
    #[error("{0}")]
    ResourceExhausted(String),
    /// A registry refused or could not be reached.
    #[error("{0}")]
    Registry(#[from] crate::registry::RegistryError),
    /// A blob, manifest or archive is broken.
    #[error("{0}")]
    Image(String),
    /// A network plugin failed.
    #[error("{0}")]
    Network(String),
    /// The shim or the OCI runtime failed.
    #[error(transparent)]
    Shim(#[from] shim::Error),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried, with the path.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An inner error with what it prevented.
    #[error("{doing}: {source}")]
    Context {
        /// What was tried.
        doing: String,
        /// The cause.
        #[source]
        source: Box<Error>,
    },
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] of `doing` on `path`.
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Io { doing, source }
    }

    /// An [`Error::Io`] of `doing` from a kernel error number.
    pub(crate) fn errno(doing: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: source.into() }
    }

    /// This error, as the cause why `doing` failed.
    pub(crate) fn context(self, doing: impl Into<String>) -> Self {
        Self::Context { doing: doing.into(), source: Box::new(self) }
    }

    /// True if the thing asked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::InvalidArgument(_) => Code::InvalidArgument,
            Self::FailedPrecondition(_) => Code::FailedPrecondition,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Self::ResourceExhausted(_) => Code::ResourceExhausted,
            Self::Registry(error) => error.code(),
            Self::Shim(error) => shim_code(error),
            Self::Context { source, .. } => source.code(),
            Self::Image(_) | Self::Network(_) | Self::Io { .. } | Self::Internal(_) => Code::Unknown,
        }
    }
}

fn shim_code(error: &shim::Error) -> Code {
    use shim::ErrorKind as Kind;
    match error {
        shim::Error::Timeout(_) => Code::DeadlineExceeded,
        shim::Error::Refused { kind, .. } => match kind {
            Kind::NotFound => Code::NotFound,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::FailedPrecondition => Code::FailedPrecondition,
            Kind::InvalidArgument => Code::InvalidArgument,
            Kind::DeadlineExceeded => Code::DeadlineExceeded,
            Kind::ResourceExhausted => Code::ResourceExhausted,
            Kind::Runtime | Kind::Internal => Code::Unknown,
        },
        _ => Code::Unknown,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.to_string())
    }
}
