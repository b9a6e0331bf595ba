//! Encryption at rest: values of chosen resources are stored encrypted, in upstream's forms, and kept decrypted in
//! memory beside them.
//!
//! What is written is encrypted by the first provider of its resource; what is read may be of any. Every stored value
//! is decrypted when the server starts, and a value that is written has its plain form at hand.

mod ciphers;
mod config;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base::TaskScope;
use bytes::Bytes;
use schema::Resource;
use store::{KeyRange, RangeOptions, Store};

use crate::registry::stored;
use crate::reload::FileWatch;
use crate::status::{ApiError, ApiResult};
use crate::{Error, Options};
use config::Config;

/// What every encrypted value begins with.
const MARK: &[u8] = b"k8s:enc:";

/// The configuration, which may be replaced.
pub struct Encryption {
    config: ArcSwap<Config>,
}

impl Encryption {
    /// From the file of `--encryption-provider-config`; `None` without one.
    pub fn new(options: &Options, scope: &TaskScope) -> Result<Option<Arc<Self>>, Error> {
        let Some(path) = options.encryption_provider_config.clone() else { return Ok(None) };
        if !options.etcd_servers.is_empty() {
            let reason = "encryption at rest with an external etcd is not implemented".to_owned();
            return Err(Error::Flag { flag: "encryption-provider-config", reason });
        }
        let mut watch = FileWatch::new(path.clone());
        let encryption = Arc::new(Self { config: ArcSwap::from_pointee(read(&path)?) });
        if options.encryption_provider_config_automatic_reload {
            let kept = encryption.clone();
            scope.spawn(async move {
                loop {
                    watch.changed().await;
                    match read(&path) {
                        Ok(config) => {
                            kept.config.store(Arc::new(config));
                            tracing::info!(path = %path.display(), "encryption is configured anew");
                        }
                        Err(error) => tracing::error!(%error, "keep the previous encryption configuration"),
                    }
                }
            });
        }
        Ok(Some(encryption))
    }

    /// The stored form of `plain`, which is to be an object of `resource` under `key`; `None` if it is stored as it is.
    pub fn seal(&self, resource: &Resource, key: &str, plain: &[u8]) -> ApiResult<Option<Bytes>> {
        let config = self.config.load();
        let Some(provider) = config.writer(&resource.group, &resource.plural) else { return Ok(None) };
        let sealed = provider.seal(key.as_bytes(), plain).map_err(ApiError::internal)?;
        Ok(Some(sealed.into()))
    }

    /// Decrypts everything that is stored encrypted. A value that no provider can read stays unreadable, which is
    /// said once for each.
    pub fn open_all(&self, store: &dyn Store) -> Result<(), Error> {
        let config = self.config.load();
        let all = KeyRange::prefix("/registry/");
        let mut opened = 0;
        for entry in store.range(&all, RangeOptions::default())?.entries {
            if !entry.value.starts_with(MARK) {
                continue;
            }
            match config.open(entry.key.as_bytes(), &entry.value) {
                Ok(plain) => {
                    stored::set_plain(&entry, plain.into());
                    opened += 1;
                }
                Err(why) => tracing::error!(key = %entry.key, %why, "a stored value cannot be decrypted"),
            }
        }
        tracing::debug!(values = opened, "stored values are decrypted");
        Ok(())
    }
}

fn read(path: &PathBuf) -> Result<Config, Error> {
    let text = std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source })?;
    Config::parse(&text).map_err(|reason| Error::Config { path: path.clone(), reason })
}
