//! Leases of objects that expire by themselves (events): shared by many, so that few exist.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use store::{LeaseId, Store};

use crate::status::ApiResult;

/// For how long new objects join a lease (`leaseReuseDurationSeconds`), and how many may (`maxObjectCount`).
const REUSE: Duration = Duration::from_secs(60);
const MAX_OBJECTS: usize = 1000;

#[derive(Debug)]
struct Current {
    id: LeaseId,
    ttl_s: i64,
    since: Instant,
    objects: usize,
}

/// Hands out leases.
#[derive(Debug, Default)]
pub struct Leases(Mutex<Option<Current>>);

impl Leases {
    /// A lease that ends `ttl_s` from now, or up to a minute later.
    pub async fn lease_for(&self, store: &dyn Store, ttl_s: i64) -> ApiResult<LeaseId> {
        if let Some(id) = self.reuse(ttl_s) {
            return Ok(id);
        }
        let granted = store.lease_grant(LeaseId::NONE, ttl_s + REUSE.as_secs() as i64).await?;
        *self.0.lock() = Some(Current { id: granted.id, ttl_s, since: Instant::now(), objects: 1 });
        Ok(granted.id)
    }

    fn reuse(&self, ttl_s: i64) -> Option<LeaseId> {
        let mut current = self.0.lock();
        let current = current.as_mut()?;
        if current.ttl_s != ttl_s || current.since.elapsed() >= REUSE || current.objects >= MAX_OBJECTS {
            return None;
        }
        current.objects += 1;
        Some(current.id)
    }
}
