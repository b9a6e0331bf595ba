//! How many requests are served at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::RequestInfo;
use crate::status::{ApiError, ApiResult};

/// Requests that may wait for each one that is served.
const WAITING_PER_SLOT: usize = 50;

/// Slots for reads and for writes.
pub struct FlowControl {
    reads: Slots,
    writes: Slots,
}

struct Slots {
    free: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Slots {
    fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS / WAITING_PER_SLOT);
        Self {
            free: Arc::new(Semaphore::new(count)),
            waiting: Arc::new(Semaphore::new(count * WAITING_PER_SLOT)),
        }
    }
}

impl FlowControl {
    /// With that many slots each.
    pub fn new(reads: usize, writes: usize) -> Self {
        Self { reads: Slots::new(reads), writes: Slots::new(writes) }
    }

    /// Waits for a slot, which is free again when the permit is dropped; long-running requests need none.
    pub async fn enter(&self, info: &RequestInfo) -> ApiResult<Option<OwnedSemaphorePermit>> {
        if info.is_long_running() {
            return Ok(None);
        }
        let slots = if info.is_read_only() { &self.reads } else { &self.writes };
        if let Ok(permit) = slots.free.clone().try_acquire_owned() {
            return Ok(Some(permit));
        }
        let full = || ApiError::too_many_requests("Too many requests, please try again later.", 1);
        let _place = slots.waiting.clone().try_acquire_owned().map_err(|_| full())?;
        slots.free.clone().acquire_owned().await.map(Some).map_err(|_| full())
    }
}
