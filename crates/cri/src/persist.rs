//! Records: small values that are on disk before anybody sees their change.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{self, blocking};
use crate::error::Result;

/// A value with its file.
pub struct Persisted<T> {
    path: PathBuf,
    value: RwLock<T>,
    /// Held while a change is being written, so that readers need not wait for the disk.
    writing: Mutex<()>,
}

impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Persisted<T> {
    /// Writes a new record. Blocks.
    pub fn create(path: PathBuf, value: T) -> Result<Arc<Self>> {
        disk::write_json(&path, &value)?;
        Ok(Arc::new(Self { path, value: RwLock::new(value), writing: Mutex::new(()) }))
    }

    /// Reads a record; `None` if there is none. Blocks.
    pub fn open(path: PathBuf) -> Result<Option<Arc<Self>>> {
        let value = disk::read_json(&path)?;
        Ok(value.map(|value| Arc::new(Self { path, value: RwLock::new(value), writing: Mutex::new(()) })))
    }

    /// The value as it is now.
    pub fn get(&self) -> T {
        self.value.read().clone()
    }

    /// Looks at the value without copying it.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.read())
    }

    /// Changes the value, on disk first. The edit may refuse by giving `None`; then nothing changes.
    pub async fn update<R: Send + 'static>(
        self: &Arc<Self>,
        edit: impl FnOnce(&mut T) -> Option<R> + Send + 'static,
    ) -> Result<Option<R>> {
        let this = self.clone();
        blocking(move || {
            let _turn = this.writing.lock();
            let mut changed = this.get();
            let Some(result) = edit(&mut changed) else { return Ok(None) };
            disk::write_json(&this.path, &changed)?;
            *this.value.write() = changed;
            Ok(Some(result))
        })
        .await
    }
}

/// Protobuf messages in JSON records, as base64: they may get fields that this version does not know.
pub mod message {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;
    use serde::{Deserialize, Deserializer, Serializer};

    /// For `#[serde(with)]`.
    pub fn serialize<M: Message, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(message.encode_to_vec()))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<M, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        M::decode(bytes.as_slice()).map_err(serde::de::Error::custom)
    }
}
