//! The CNI protocol: environment, versions, errors.

use std::path::PathBuf;

use serde_json::{Value, json};

/// How a plugin reads its environment.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The versions of the specification that the plugins speak, oldest first.
pub(crate) const SUPPORTED_VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

const INCOMPATIBLE_VERSION: u32 = 1;
const UNSUPPORTED_FIELD: u32 = 2;
const INVALID_ENVIRONMENT: u32 = 4;
const IO_FAILURE: u32 = 5;
const DECODING_FAILURE: u32 = 6;
const INVALID_CONFIG: u32 = 7;
/// Upstream's code for what has no other.
const INTERNAL: u32 = 999;
/// The kernel's limit of a link's name, without the final zero.
const MAX_IFNAME: usize = 15;

/// A failure, as the specification wants it told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: u32,
    message: String,
}

impl Error {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(INVALID_CONFIG, message)
    }

    pub(crate) fn unsupported(field: &str) -> Self {
        Self::new(UNSUPPORTED_FIELD, format!("the configuration's {field} is not implemented"))
    }

    pub(crate) fn decoding(message: impl Into<String>) -> Self {
        Self::new(DECODING_FAILURE, message)
    }

    pub(crate) fn io(operation: &str, error: &std::io::Error) -> Self {
        Self::new(IO_FAILURE, format!("{operation}: {error}"))
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, message)
    }

    /// The error that another plugin answered with.
    pub(crate) fn of_delegate(plugin: &str, answer: &[u8]) -> Self {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let code = answer["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or(INTERNAL);
        Self::new(code, format!("{plugin}: {}", answer["msg"].as_str().unwrap_or("failed without a message")))
    }

    /// The error object of the specification.
    pub fn to_json(&self, version: &str) -> String {
        json!({"cniVersion": version, "code": self.code, "msg": self.message}).to_string()
    }
}

impl From<netlink::Error> for Error {
    fn from(error: netlink::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            // Some variants have the system's words in their own text already.
            let words = inner.to_string();
            if !message.contains(&words) {
                message = format!("{message}: {words}");
            }
            cause = inner.source();
        }
        Self::failed(message)
    }
}

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub(crate) fn parse(env: &Env<'_>) -> Result<Self, Error> {
        match env("CNI_COMMAND").unwrap_or_default().as_str() {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            "" => Err(Error::new(INVALID_ENVIRONMENT, "required env variables [CNI_COMMAND] missing")),
            other => Err(Error::new(INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND: {other}"))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

/// What is asked of a plugin, beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) container: String,
    /// Where the container's network namespace is. At a deletion it may be gone, or not be known.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) ifname: String,
    /// `CNI_ARGS`: `KEY=VALUE;…`.
    pub(crate) args: String,
    /// `CNI_PATH`: where other plugins are.
    pub(crate) path: String,
}

impl Request {
    pub(crate) fn parse(command: Command, env: &Env<'_>) -> Result<Self, Error> {
        let get = |name| env(name).unwrap_or_default();
        let request = Self {
            command,
            container: get("CNI_CONTAINERID"),
            netns: env("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from),
            ifname: get("CNI_IFNAME"),
            args: get("CNI_ARGS"),
            path: get("CNI_PATH"),
        };
        if matches!(command, Command::Add | Command::Del | Command::Check) {
            request.check()?;
        }
        Ok(request)
    }

    fn check(&self) -> Result<(), Error> {
        let needs_netns = self.command != Command::Del;
        let missing: Vec<&str> = [
            ("CNI_CONTAINERID", self.container.is_empty()),
            ("CNI_NETNS", needs_netns && self.netns.is_none()),
            ("CNI_IFNAME", self.ifname.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
        if !missing.is_empty() {
            let message = format!("required env variables [{}] missing", missing.join(","));
            return Err(Error::new(INVALID_ENVIRONMENT, message));
        }
        let mut id = self.container.bytes();
        let id_is_valid = id.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && id.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !id_is_valid {
            return Err(Error::new(INVALID_ENVIRONMENT, format!("invalid container ID: {}", self.container)));
        }
        let name = &self.ifname;
        let name_is_valid = name.len() <= MAX_IFNAME
            && name != "."
            && name != ".."
            && !name.bytes().any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace());
        if !name_is_valid {
            return Err(Error::new(INVALID_ENVIRONMENT, format!("invalid interface name: {name}")));
        }
        Ok(())
    }

    pub(crate) fn check_version(&self, version: &str) -> Result<(), Error> {
        let Some(at) = SUPPORTED_VERSIONS.iter().position(|supported| *supported == version) else {
            let message = format!("version {version:?} is not one of {}", SUPPORTED_VERSIONS.join(", "));
            return Err(Error::new(INCOMPATIBLE_VERSION, message));
        };
        let since = match self.command {
            Command::Check => "0.4.0",
            Command::Gc | Command::Status => "1.1.0",
            Command::Add | Command::Del | Command::Version => "0.3.0",
        };
        if SUPPORTED_VERSIONS[at] < since {
            let message = format!("config version {version:?} does not allow {}", self.command.name());
            return Err(Error::new(INCOMPATIBLE_VERSION, message));
        }
        Ok(())
    }

    /// The container's network namespace, which [`Request::parse`] found for every command but a deletion.
    pub(crate) fn netns(&self) -> Result<&PathBuf, Error> {
        self.netns.as_ref().ok_or_else(|| Error::new(INVALID_ENVIRONMENT, "CNI_NETNS is missing"))
    }

    /// The value of a key of `CNI_ARGS`.
    pub(crate) fn arg(&self, key: &str) -> Option<&str> {
        self.args.split(';').find_map(|pair| pair.split_once('=').filter(|(k, _)| *k == key)).map(|(_, v)| v)
    }
}

/// The answer to `VERSION`.
pub(crate) fn version_answer(input: &[u8]) -> String {
    let asked: Value = serde_json::from_slice(input).unwrap_or_default();
    let version = asked["cniVersion"].as_str().unwrap_or(SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.len() - 1]);
    json!({"cniVersion": version, "supportedVersions": SUPPORTED_VERSIONS}).to_string()
}
