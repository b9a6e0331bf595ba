//! Encryption at rest: values of chosen resources are stored encrypted, in upstream's forms, and kept decrypted in
//! memory beside them.
//!
//! What is written is encrypted by the first provider of its resource; what is read may be of any. Every stored value
//! is decrypted when the server starts, a value that is written has its plain form at hand, and one that another server
//! wrote to a common etcd is decrypted before anybody here sees it. A value that cannot be decrypted fails what reads
//! it, and is tried again when a plugin is well again or the configuration changes.

mod ciphers;
mod config;
mod kms;
mod provider;
mod resources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::{SharedClock, TaskScope};
use bytes::Bytes;
use schema::Resource;
use store::{Entry, EntryReader, KeyRange, RangeOptions, Store, WatchOptions};
use tokio::sync::Notify;

use crate::registry::stored;
use crate::reload::FileWatch;
use crate::status::{ApiError, ApiResult};
use crate::{Error, Options};
use config::{Config, Making};

/// What every encrypted value begins with.
pub const MARK: &[u8] = b"k8s:enc:";

/// The configuration, which may be replaced.
pub struct Encryption {
    active: ArcSwap<Active>,
    /// Whether the file is read again when it changes.
    reloads: bool,
    /// Told when values that could not be read may be readable now.
    recovered: Arc<Notify>,
}

/// A configuration with the tasks of its plugins.
struct Active {
    config: Config,
    _tasks: TaskScope,
}

impl Active {
    /// Reads the file and asks its plugins for their status.
    async fn read(path: &Path, making: &Making, scope: &TaskScope) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        let config =
            Config::parse(&text, making).map_err(|reason| Error::Config { path: path.to_owned(), reason })?;
        let tasks = scope.child("encryption");
        for plugin in config.plugins() {
            plugin.run(&tasks).await;
        }
        Ok(Self { config, _tasks: tasks })
    }

    async fn check_plugins(&self) -> Result<(), String> {
        let mut errors = Vec::new();
        for (i, plugin) in self.config.plugins().enumerate() {
            errors.extend(plugin.check().await.err().map(|e| format!("kms-provider-{i}: {e}")));
        }
        aggregate(errors).map_or(Ok(()), Err)
    }
}

/// Several errors as upstream prints them; none for none.
fn aggregate(mut errors: Vec<String>) -> Option<String> {
    match errors.len() {
        0 | 1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

impl Encryption {
    /// From the file of `--encryption-provider-config`; `None` without one. Its values are those of `store`, all of
    /// which are decrypted when this returns.
    pub async fn new(
        options: &Options,
        store: &Arc<dyn Store>,
        clock: SharedClock,
        scope: &TaskScope,
    ) -> Result<Option<Arc<Self>>, Error> {
        let Some(path) = options.encryption_provider_config.clone() else { return Ok(None) };
        let watch = FileWatch::new(path.clone());
        let recovered = Arc::new(Notify::new());
        let making = Making { clock, recovered: recovered.clone() };
        let active = Active::read(&path, &making, scope).await?;
        let reloads = options.encryption_provider_config_automatic_reload;
        let encryption = Arc::new(Self { active: ArcSwap::from_pointee(active), reloads, recovered });
        store.set_reader(encryption.clone());
        encryption.open_all(&**store).await?;
        if reloads {
            scope.spawn(encryption.clone().reload(path, watch, making, scope.child("encryption")));
        }
        let (kept, store) = (encryption.clone(), store.clone());
        scope.spawn(async move {
            loop {
                kept.recovered.notified().await;
                if let Err(error) = kept.open_all(&*store).await {
                    tracing::warn!(%error, "what could not be decrypted cannot be read");
                }
            }
        });
        Ok(Some(encryption))
    }

    async fn reload(self: Arc<Self>, path: PathBuf, mut watch: FileWatch, making: Making, scope: TaskScope) {
        loop {
            watch.changed().await;
            let active = match Active::read(&path, &making, &scope).await {
                Ok(active) => active.check_plugins().await.map(|()| active),
                Err(error) => Err(error.to_string()),
            };
            match active {
                Ok(active) => {
                    self.active.store(Arc::new(active));
                    self.recovered.notify_one();
                    tracing::info!(path = %path.display(), "encryption is configured anew");
                }
                Err(error) => tracing::error!(error, "keep the previous encryption configuration"),
            }
        }
    }

    /// The stored form of `plain`, which is to be an object of `resource` under `key`; `None` if it is stored as it is.
    pub fn seal(&self, resource: &Resource, key: &str, plain: &[u8]) -> ApiResult<Option<Bytes>> {
        let active = self.active.load();
        let Some(provider) = active.config.writer(&resource.group, &resource.plural) else { return Ok(None) };
        let sealed = provider.seal(key.as_bytes(), plain).map_err(ApiError::internal)?;
        Ok(Some(sealed.into()))
    }

    /// Whether a stored value would be written by another provider or key now: then it is written even if the object
    /// does not change.
    pub fn is_stale(&self, resource: &Resource, stored: &[u8]) -> bool {
        self.active.load().config.is_stale(&resource.group, &resource.plural, stored)
    }

    /// The health check of the plugins (`kms-providers`); `None` if there is none.
    pub async fn check(&self) -> Option<Result<(), String>> {
        let active = self.active.load_full();
        let wanted = self.reloads || active.config.plugins().next().is_some();
        if wanted { Some(active.check_plugins().await) } else { None }
    }

    /// Decrypts everything that is stored encrypted, the history as well.
    async fn open_all(&self, store: &dyn Store) -> Result<(), Error> {
        let all = KeyRange::prefix("/registry/");
        for entry in store.range(&all, RangeOptions::default())?.entries {
            self.open(&entry).await;
        }
        let options =
            WatchOptions { start_revision: store.compact_revision().next(), ..WatchOptions::default() };
        let Ok(mut history) = store.watch(all, options) else { return Ok(()) };
        let end = store.current_revision();
        while let Ok(Some(batch)) = history.try_next() {
            for event in batch.events.iter() {
                for entry in [Some(&event.entry), event.prev.as_ref()].into_iter().flatten() {
                    self.open(entry).await;
                }
            }
            if batch.revision >= end {
                break;
            }
        }
        Ok(())
    }

    async fn open(&self, entry: &Entry) {
        if !entry.value.starts_with(MARK) || stored::is_readable(entry) {
            return;
        }
        let active = self.active.load_full();
        match active.config.open(entry.key.as_bytes(), &entry.value).await {
            Ok(plain) => stored::set_plain(entry, plain.into()),
            Err(why) => {
                tracing::warn!(key = %entry.key, why, "a stored value cannot be decrypted");
                stored::set_unreadable(entry, &why);
            }
        }
    }
}

#[async_trait]
impl EntryReader for Encryption {
    async fn read(&self, entries: &[&Entry]) {
        for entry in entries {
            self.open(entry).await;
        }
    }
}
