//! Leases: when they end, and which keys hang on them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base::Clock;
use imbl::{OrdMap, OrdSet};

use crate::{Key, LeaseId, LeaseStatus};

/// A moment on both clocks: the one that leases run on, and the one that survives a restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) wall_ms: i64,
}

impl Moment {
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self { instant: clock.instant(), wall_ms: wall_ms(clock.now()) }
    }
}

fn wall_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[derive(Debug, Clone)]
struct Lease {
    ttl_s: i64,
    ends: Instant,
    /// The same in milliseconds since 1970.
    ends_ms: i64,
    keys: OrdSet<Key>,
}

/// All leases. A clone is cheap and shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases {
    by_id: OrdMap<LeaseId, Lease>,
    by_end: OrdSet<(Instant, LeaseId)>,
}

impl Leases {
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.by_id.keys().copied().collect()
    }

    /// Grants `ttl_s` seconds from `now`; gives the end in milliseconds since 1970.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl_s: i64, now: Moment) -> i64 {
        let ends_ms = now.wall_ms.saturating_add(ttl_s.saturating_mul(1000));
        self.restore(id, ttl_s, ends_ms, now);
        ends_ms
    }

    /// Brings back a lease that ends at `ends_ms`, but not later than its time to live from `now`.
    pub(crate) fn restore(&mut self, id: LeaseId, ttl_s: i64, ends_ms: i64, now: Moment) {
        let left_ms = ends_ms.saturating_sub(now.wall_ms).clamp(0, ttl_s.saturating_mul(1000));
        let ends = now.instant + Duration::from_millis(left_ms as u64);
        let keys = self.forget(id).map(|old| old.keys).unwrap_or_default();
        self.by_id.insert(id, Lease { ttl_s, ends, ends_ms, keys });
        self.by_end.insert((ends, id));
    }

    /// Starts the lease's time anew; gives the new end in milliseconds since 1970.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Moment) -> Option<i64> {
        let ttl_s = self.by_id.get(&id)?.ttl_s;
        Some(self.grant(id, ttl_s, now))
    }

    /// Sets the end of a lease as the log tells it.
    pub(crate) fn set_end(&mut self, id: LeaseId, ends_ms: i64, now: Moment) {
        if let Some(ttl_s) = self.by_id.get(&id).map(|lease| lease.ttl_s) {
            self.restore(id, ttl_s, ends_ms, now);
        }
    }

    /// Ends a lease; gives the keys that hung on it.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Option<OrdSet<Key>> {
        self.forget(id).map(|lease| lease.keys)
    }

    fn forget(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        self.by_end.remove(&(lease.ends, id));
        Some(lease)
    }

    pub(crate) fn attach(&mut self, id: LeaseId, key: &Key) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    pub(crate) fn detach(&mut self, id: LeaseId, key: &Key) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// When the next lease ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.by_end.get_min().map(|(ends, _)| *ends)
    }

    /// The lease that ended first, if one has.
    pub(crate) fn expired(&self, now: Instant) -> Option<LeaseId> {
        self.by_end.get_min().filter(|(ends, _)| *ends <= now).map(|(_, id)| *id)
    }

    /// The leases that have ended, `max` at most.
    pub(crate) fn expired_by(&self, now: Instant, max: usize) -> Vec<LeaseId> {
        self.by_end.iter().take_while(|(ends, _)| *ends <= now).take(max).map(|(_, id)| *id).collect()
    }

    pub(crate) fn status(&self, id: LeaseId, now: Instant) -> Option<LeaseStatus> {
        let lease = self.by_id.get(&id)?;
        let left = lease.ends.saturating_duration_since(now);
        Some(LeaseStatus {
            id,
            granted_ttl_s: lease.ttl_s,
            ttl_s: left.as_millis().div_ceil(1000) as i64,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    /// Id, time to live in seconds, and end in milliseconds since 1970, for a snapshot.
    pub(crate) fn durable(&self) -> impl Iterator<Item = (LeaseId, i64, i64)> + '_ {
        self.by_id.iter().map(|(id, lease)| (*id, lease.ttl_s, lease.ends_ms))
    }
}
