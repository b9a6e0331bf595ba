//! A provider: what seals values of its resources, and opens what it sealed before.

use std::sync::Arc;

use super::MARK;
use super::ciphers::Cipher;
use super::kms::Plugin;

/// One provider of the configuration.
pub enum Provider {
    /// Nothing is encrypted.
    Identity,
    /// Keys by name; the first encrypts.
    Keys {
        /// `k8s:enc:PROVIDER:v1:`.
        prefix: String,
        /// With their names.
        keys: Vec<(String, Cipher)>,
    },
    /// A plugin has the key.
    Kms(Arc<Plugin>),
}

impl Provider {
    /// The stored form of `plain`; `context` is the storage key.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Identity => Ok(plain.to_vec()),
            Self::Keys { prefix, keys } => {
                let (name, cipher) = keys.first().ok_or("no key")?;
                let head = format!("{prefix}{name}:");
                Ok([head.as_bytes(), &cipher.seal(context, plain)?].concat())
            }
            Self::Kms(plugin) => plugin.seal(context, plain),
        }
    }

    /// The plain form; `None` if the value is not of this provider.
    pub async fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Result<Vec<u8>, String>> {
        match self {
            Self::Identity => None,
            Self::Keys { prefix, keys } => open_with(keys, context, sealed.strip_prefix(prefix.as_bytes())?),
            Self::Kms(plugin) => plugin.open(context, sealed).await,
        }
    }

    /// Whether this provider would write a stored value otherwise than it is: by another provider or key.
    pub fn is_stale(&self, stored: &[u8]) -> bool {
        match self {
            Self::Identity => stored.starts_with(MARK),
            Self::Keys { prefix, keys } => {
                let rest = stored.strip_prefix(prefix.as_bytes());
                let name = keys.first().map(|(name, _)| name.as_bytes()).unwrap_or_default();
                !rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with(b":"))
            }
            Self::Kms(plugin) => plugin.is_stale(stored),
        }
    }
}

fn open_with(keys: &[(String, Cipher)], context: &[u8], rest: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let mut found = None;
    for (name, cipher) in keys {
        let body = rest.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
        if let Some(body) = body {
            let outcome = cipher.open(context, body);
            if outcome.is_ok() {
                return Some(outcome);
            }
            found = Some(outcome);
        }
    }
    found
}
