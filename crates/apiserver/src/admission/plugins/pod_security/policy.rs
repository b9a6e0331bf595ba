//! Levels, versions, and the policy that a namespace's labels make.

use std::fmt;

use rules::{FieldError, Path};
use schema::Map;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict, from lax to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Anything goes.
    Privileged,
    /// No known way to gain privileges.
    Baseline,
    /// As hardened as can be.
    Restricted,
}

impl Level {
    /// By its name; the error is what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// As of which minor version of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// This one.
    Latest,
    /// 1.x.
    Minor(u32),
}

impl Version {
    /// `latest` or `v1.x`; the error is what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").ok_or(WRONG)?;
        let plain = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
        if minor.is_empty() || !plain {
            return Err(WRONG);
        }
        minor.parse().map(Self::Minor).map_err(|_| WRONG)
    }

    /// The minor version to judge by; none is newer than `newest`.
    pub fn minor(self, newest: u32) -> u32 {
        match self {
            Self::Latest => newest,
            Self::Minor(minor) => minor.min(newest),
        }
    }
}

/// A level as of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelVersion {
    /// How strict.
    pub level: Level,
    /// As of when.
    pub version: Version,
}

impl LevelVersion {
    /// Anything goes.
    pub const PRIVILEGED: Self = Self { level: Level::Privileged, version: Version::Latest };
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.as_str()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

/// What is enforced, what is written to the audit log, and what draws a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What is refused.
    pub enforce: LevelVersion,
    /// What the audit log says.
    pub audit: LevelVersion,
    /// What clients are warned of.
    pub warn: LevelVersion,
}

impl Policy {
    /// Upstream's default: nothing is enforced.
    pub const PRIVILEGED: Self = Self {
        enforce: LevelVersion::PRIVILEGED,
        audit: LevelVersion::PRIVILEGED,
        warn: LevelVersion::PRIVILEGED,
    };

    /// True if anything goes in every way.
    pub fn is_privileged(&self) -> bool {
        self.modes().iter().all(|(_, mode)| mode.level == Level::Privileged)
    }

    fn modes(&self) -> [(&'static str, LevelVersion); 3] {
        [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)]
    }

    /// What is not privileged, in short.
    pub fn compact(&self) -> String {
        let strict = self.modes().into_iter().filter(|(_, mode)| mode.level != Level::Privileged);
        strict.map(|(name, mode)| format!("{name}={mode}")).collect::<Vec<_>>().join(", ")
    }

    /// What a namespace's labels say, on top of `defaults`. What cannot be read is enforced as restricted, and
    /// neither audited nor warned of.
    pub fn of(labels: Option<&Map>, defaults: Self) -> (Self, Vec<FieldError>) {
        let (mut policy, mut errors) = (defaults, Vec::new());
        let Some(labels) = labels else { return (policy, errors) };
        let modes = [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ];
        for (name, mode, otherwise) in modes {
            let mut wrong = |key: &str, value: &str, why: &'static str| {
                let path = Path::new("metadata.labels");
                errors.push(FieldError::invalid(&path.key(key), value, why));
            };
            let key = format!("{PREFIX}{name}");
            if let Some(text) = labels.get_str(&key) {
                mode.level = Level::parse(text).unwrap_or_else(|why| {
                    wrong(&key, text, why);
                    otherwise
                });
            }
            let key = format!("{PREFIX}{name}-version");
            if let Some(text) = labels.get_str(&key) {
                mode.version = Version::parse(text).unwrap_or_else(|why| {
                    wrong(&key, text, why);
                    Version::Latest
                });
            }
        }
        (policy, errors)
    }
}
