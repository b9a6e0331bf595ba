//! Encryption by a plugin of a key management service, API v2 (KEP-3299).
//!
//! The plugin encrypts a seed, not values: every value has a key of its own derived from the seed, and carries the
//! encrypted seed. So a write asks nobody, and a read asks the plugin once for each seed that is not known yet. The
//! plugin's status is asked for each minute; when it names another key, a new seed is made. Without an answer writes go
//! on for three minutes, and reads for ever.

mod envelope;
mod service;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use base::{SharedClock, TaskScope};
use parking_lot::Mutex;
use prost::Message;
use proto::kms::v2::{EncryptedDekSourceType as SourceType, EncryptedObject, StatusResponse};
use tokio::sync::Notify;

use self::envelope::{DataKey, SEED, SourceId, hash};
use self::service::Service;
use super::ciphers::random;
use crate::registry::meta::new_uid;

pub use self::service::socket;

/// How often a healthy plugin is asked for its status (`kmsv2PluginHealthzPositiveInterval`), and one that is not.
const POLL: Duration = Duration::from_secs(60);
const POLL_FAILED: Duration = Duration::from_secs(10);
/// How long a seed is written with after the last good status (`kmsv2PluginWriteDEKSourceMaxTTL`).
const WRITE_TTL: Duration = Duration::from_secs(180);
/// How long health checks take the last answer for the present one, if it was good and if it was not.
const FRESH: Duration = Duration::from_secs(20);
const FRESH_FAILED: Duration = Duration::from_secs(3);
/// Seeds that are remembered. There is one for each start of each server and each key of the plugin.
const MAX_SEEDS: usize = 4096;

/// What a plugin is configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names the provider, in stored values as well.
    pub name: String,
    /// A path, or `@` and the name of an abstract socket.
    pub socket: String,
    /// How long a call may take.
    pub timeout: Duration,
}

/// A provider. See the module.
pub struct Plugin {
    name: String,
    prefix: String,
    service: Service,
    clock: SharedClock,
    /// What is written with; none before the first good status.
    state: ArcSwapOption<WriteState>,
    /// Known seeds, and why others could not be decrypted. The failures are forgotten with the next good status.
    seeds: Mutex<HashMap<SourceId, Result<Arc<DataKey>, String>>>,
    probe: tokio::sync::Mutex<Probe>,
    /// Somebody could not read a value.
    wanted: AtomicBool,
    /// Told when values that could not be read may be readable now.
    recovered: Arc<Notify>,
}

/// A seed that is written with.
#[derive(Clone)]
struct WriteState {
    /// Without data.
    object: EncryptedObject,
    key: Arc<DataKey>,
    expires: SystemTime,
}

/// What is known of the plugin's health.
#[derive(Default)]
struct Probe {
    last: Option<(Instant, Result<(), String>)>,
    /// The version of its first answer.
    version: String,
}

fn timestamp(time: SystemTime) -> String {
    let seconds = jiff::Timestamp::try_from(time).map(|t| t.as_second()).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

impl Plugin {
    /// Not connected yet. `recovered` is told when reads that failed may succeed.
    pub fn new(settings: &Settings, clock: SharedClock, recovered: Arc<Notify>) -> Self {
        Self {
            prefix: format!("k8s:enc:kms:v2:{}:", settings.name),
            name: settings.name.clone(),
            service: Service::new(&settings.socket, settings.timeout),
            clock,
            state: ArcSwapOption::empty(),
            seeds: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
            wanted: AtomicBool::new(false),
            recovered,
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the plugin for its status now, and regularly until `scope` ends. A plugin that does not answer is no error:
    /// it may start after the server.
    pub async fn run(self: &Arc<Self>, scope: &TaskScope) {
        let mut outcome = self.check_logged().await;
        let kept = self.clone();
        scope.spawn(async move {
            loop {
                tokio::time::sleep(if outcome.is_ok() { POLL } else { POLL_FAILED }).await;
                outcome = kept.check_logged().await;
            }
        });
    }

    async fn check_logged(&self) -> Result<(), String> {
        let outcome = self.check().await;
        if let Err(error) = &outcome {
            tracing::warn!(plugin = self.name, error, "kms plugin failed health check probe");
        }
        outcome
    }

    /// Whether the plugin is well; it is asked unless it was a moment ago. A new seed is made if its key is another.
    pub async fn check(&self) -> Result<(), String> {
        let mut probe = self.probe.lock().await;
        if let Some((at, outcome)) = &probe.last {
            let fresh = if outcome.is_ok() { FRESH } else { FRESH_FAILED };
            if self.clock.instant().saturating_duration_since(*at) < fresh {
                return outcome.clone();
            }
        }
        let outcome = match self.service.status().await {
            Ok(status) => self.take_status(&status, &mut probe.version).await,
            Err(error) => Err(format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {error}",
                self.name
            )),
        };
        probe.last = Some((self.clock.instant(), outcome.clone()));
        if outcome.is_ok() {
            self.seeds.lock().retain(|_, known| known.is_ok());
            if self.wanted.swap(false, Ordering::AcqRel) {
                self.recovered.notify_one();
            }
        }
        outcome
    }

    async fn take_status(&self, status: &StatusResponse, version: &mut String) -> Result<(), String> {
        let mut errors = Vec::new();
        if status.healthz != "ok" {
            errors.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            errors.push(format!("expected KMSv2 API version v2, got {}", status.version));
        } else if version.is_empty() {
            version.clone_from(&status.version);
        } else if *version != status.version {
            errors.push(format!(
                "KMSv2 API version should not change after the initial status response version {version}, got {}",
                status.version
            ));
        }
        match envelope::validate_key_id(&status.key_id) {
            Ok(()) => errors.extend(self.follow_key(&status.key_id).await.err()),
            Err(error) => {
                errors.push(format!("got invalid KMSv2 KeyID hash {:?}: {error}", hash(&status.key_id)));
            }
        }
        match super::aggregate(errors) {
            None => Ok(()),
            Some(error) => Err(format!("kmsv2 Provider {} is not healthy, error: {error}", self.name)),
        }
    }

    /// Makes a new seed unless there is one of the plugin's current key, whose time is prolonged then.
    async fn follow_key(&self, key_id: &str) -> Result<(), String> {
        let expires = self.clock.now() + WRITE_TTL;
        let state = self.state.load_full();
        if let Some(state) = state.as_deref().filter(|state| state.object.key_id == key_id) {
            self.state.store(Some(Arc::new(WriteState { expires, ..state.clone() })));
            return Ok(());
        }
        let made = self.new_seed(expires).await;
        let (made_id, error) = match made {
            Ok(made) if made.object.key_id == key_id => {
                tracing::info!(plugin = self.name, key = hash(key_id), "new seed for a plugin's key");
                self.remember(SourceId::of(&made.object), Ok(made.key.clone()));
                self.state.store(Some(Arc::new(made)));
                return Ok(());
            }
            Ok(made) => (made.object.key_id, "<nil>".to_owned()),
            Err(error) => (String::new(), error),
        };
        let state_error = if state.is_some() { "<nil>" } else { "got unexpected nil transformer" };
        Err(format!(
            "failed to rotate DEK uid={:?}, useSeed=true, errState={state_error}, errGen={error}, \
             statusKeyIDHash={:?}, encryptKeyIDHash={:?}, stateKeyIDHash={:?}, expirationTimestamp={}",
            new_uid(),
            hash(key_id),
            hash(&made_id),
            hash(state.as_ref().map_or("", |state| &state.object.key_id)),
            state.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |state| timestamp(state.expires)),
        ))
    }

    async fn new_seed(&self, expires: SystemTime) -> Result<WriteState, String> {
        let seed: [u8; SEED] = random()?;
        let of = SourceType::HkdfSha256XnonceAesGcmSeed;
        let answer = self.service.encrypt(&seed).await;
        let answer = answer.map_err(|e| format!("failed to encrypt DEK, error: {e}"))?;
        let mut object = EncryptedObject {
            // Anything, for the check.
            encrypted_data: vec![0].into(),
            key_id: answer.key_id,
            encrypted_dek_source: answer.ciphertext,
            annotations: answer.annotations,
            encrypted_dek_source_type: of.into(),
        };
        envelope::validate(&object)?;
        object.encrypted_data.clear();
        Ok(WriteState { object, key: Arc::new(DataKey::new(&seed, of)?), expires })
    }

    fn remember(&self, id: SourceId, known: Result<Arc<DataKey>, String>) {
        let mut seeds = self.seeds.lock();
        if seeds.len() >= MAX_SEEDS {
            seeds.clear();
        }
        seeds.insert(id, known);
    }

    /// The stored form of `plain`.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        let state = self.state.load();
        let state = state.as_ref().ok_or("got unexpected nil transformer")?;
        let now = self.clock.now();
        if now > state.expires {
            return Err(format!(
                "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
                hash(&state.object.key_id),
                timestamp(state.expires),
                timestamp(now)
            ));
        }
        let encrypted_data = state.key.seal(context, plain)?.into();
        let object = EncryptedObject { encrypted_data, ..state.object.clone() };
        let mut out = Vec::with_capacity(self.prefix.len() + object.encoded_len());
        out.extend_from_slice(self.prefix.as_bytes());
        object.encode(&mut out).map_err(|e| e.to_string())?;
        Ok(out)
    }

    /// The plain form; `None` if the value is not of this provider.
    pub async fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Result<Vec<u8>, String>> {
        let body = sealed.strip_prefix(self.prefix.as_bytes())?;
        Some(self.open_body(context, body).await)
    }

    async fn open_body(&self, context: &[u8], body: &[u8]) -> Result<Vec<u8>, String> {
        let object = EncryptedObject::decode(body).map_err(|e| e.to_string())?;
        envelope::validate(&object)?;
        if self.state.load().is_none() {
            self.wanted.store(true, Ordering::Release);
            return Err("got unexpected nil transformer".to_owned());
        }
        let id = SourceId::of(&object);
        let known = self.seeds.lock().get(&id).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let asked = self.ask_for_seed(&object).await;
                self.remember(id, asked.clone());
                asked
            }
        };
        if known.is_err() {
            self.wanted.store(true, Ordering::Release);
        }
        known?.open(context, &object.encrypted_data)
    }

    async fn ask_for_seed(&self, object: &EncryptedObject) -> Result<Arc<DataKey>, String> {
        let answer = self.service.decrypt(object).await;
        let source = answer.map_err(|e| format!("failed to decrypt DEK, error: {e}"))?;
        Ok(Arc::new(DataKey::new(&source, object.encrypted_dek_source_type())?))
    }

    /// Whether a value is not as it would be written now, so that a write must not be left out.
    pub fn is_stale(&self, stored: &[u8]) -> bool {
        let Some(body) = stored.strip_prefix(self.prefix.as_bytes()) else { return true };
        let (Ok(object), Some(state)) = (EncryptedObject::decode(body), self.state.load_full()) else {
            return true;
        };
        object.key_id != state.object.key_id
            || object.encrypted_dek_source_type != state.object.encrypted_dek_source_type
    }
}

#[cfg(test)]
mod tests;
