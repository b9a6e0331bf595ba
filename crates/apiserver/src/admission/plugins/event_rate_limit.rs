//! EventRateLimit: how many events may be written, by everybody together, per namespace, user, or source and object.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::{ApiError, ApiResult};

/// Keys remembered of a limit that does not say how many.
const DEFAULT_CACHE: usize = 4096;

/// The limits.
#[derive(Debug, Clone, Default)]
pub struct Config {
    limits: Vec<Limit>,
}

#[derive(Debug, Clone)]
struct Limit {
    kind: String,
    /// Events per second in the long run.
    qps: f64,
    /// Events at once.
    burst: f64,
    cache: usize,
}

impl Config {
    /// Reads `eventratelimit.admission.k8s.io/v1alpha1`; the error says what is wrong.
    pub fn read(config: &Value) -> Result<Self, String> {
        let mut limits = Vec::new();
        for limit in config.items_at("limits") {
            let kind = limit.str_at("type").unwrap_or_default().to_owned();
            if !["Server", "Namespace", "User", "SourceAndObject"].contains(&kind.as_str()) {
                return Err(format!("limit type {kind:?} is unknown"));
            }
            let number = |field: &str| limit.int_at(field).filter(|n| *n > 0);
            let (Some(qps), Some(burst)) = (number("qps"), number("burst")) else {
                return Err("qps and burst must be positive".to_owned());
            };
            let cache = number("cacheSize").and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_CACHE);
            limits.push(Limit { kind, qps: qps as f64, burst: burst as f64, cache });
        }
        if limits.is_empty() { Err("limits must not be empty".to_owned()) } else { Ok(Self { limits }) }
    }
}

/// Tokens that are left, and when they were counted, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: u128,
}

/// See the module.
pub struct EventRateLimit {
    config: Config,
    buckets: Vec<Mutex<HashMap<String, Bucket>>>,
}

impl EventRateLimit {
    /// With these limits.
    pub fn new(config: Config) -> Self {
        let buckets = config.limits.iter().map(|_| Mutex::default()).collect();
        Self { config, buckets }
    }

    /// Takes one token of every limit; gives the kind of the first that has none.
    fn take(&self, key_of: impl Fn(&str) -> String, now: u128) -> Option<&str> {
        let mut refused = None;
        for (limit, buckets) in self.config.limits.iter().zip(&self.buckets) {
            let mut buckets = buckets.lock();
            let key = key_of(&limit.kind);
            if buckets.len() >= limit.cache && !buckets.contains_key(&key) {
                forget_oldest(&mut buckets);
            }
            let bucket = buckets.entry(key).or_insert(Bucket { tokens: limit.burst, at: now });
            let passed = now.saturating_sub(bucket.at) as f64 / 1e9;
            bucket.tokens = (bucket.tokens + passed * limit.qps).min(limit.burst);
            bucket.at = now;
            if bucket.tokens >= 1.0 {
                bucket.tokens -= 1.0;
            } else {
                refused.get_or_insert(limit.kind.as_str());
            }
        }
        refused
    }
}

fn forget_oldest(buckets: &mut HashMap<String, Bucket>) {
    let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
    oldest.map(|key| buckets.remove(&key));
}

#[async_trait]
impl Admission for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let event = attributes.is("", "events") || attributes.is("events.k8s.io", "events");
        if !event || attributes.dry_run {
            return Ok(());
        }
        let object = &attributes.object;
        let key_of = |kind: &str| match kind {
            "Namespace" => attributes.namespace.to_owned(),
            "User" => attributes.user.name.clone(),
            "SourceAndObject" => {
                let parts = ["source.component", "source.host"].map(|p| object.str_at(p).unwrap_or_default());
                let about = ["kind", "namespace", "name", "uid", "apiVersion"]
                    .map(|p| object["involvedObject"].get(p).and_then(Value::as_str).unwrap_or_default());
                [parts.as_slice(), about.as_slice()].concat().join("/")
            }
            _ => String::new(),
        };
        let now = registry.clock.now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        match self.take(key_of, now) {
            Some(kind) => {
                Err(ApiError::too_many_requests(format!("limit reached on type {kind} for key"), 1))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn tokens_come_back_with_time() {
        let config = value!({"limits": [{"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 1}]});
        let limiter = EventRateLimit::new(Config::read(&config).unwrap());
        let take =
            |key: &str, second: u128| limiter.take(|_| key.to_owned(), second * 1_000_000_000).is_none();
        assert_eq!([take("a", 0), take("a", 0), take("a", 0)], [true, true, false]);
        assert!(take("a", 1));
        assert!(!take("a", 1));
        assert!(take("b", 1), "another key, which takes the only place");
        assert_eq!(limiter.buckets[0].lock().len(), 1);
        assert!(Config::read(&value!({"limits": [{"type": "Moon", "qps": 1, "burst": 1}]})).is_err());
    }
}
