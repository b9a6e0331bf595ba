//! Time as a value: components ask a [`Clock`], tests hand in one that they move themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Where a component reads the time. Waiting is done with `tokio::time`, which tests pause.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, for timestamps in objects.
    fn now(&self) -> SystemTime;
    /// A monotonic clock, for durations.
    fn instant(&self) -> Instant;
}

/// A clock that several owners hold.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's clock, shared.
pub fn system_clock() -> SharedClock {
    Arc::new(SystemClock)
}

/// A clock that stands still until [`ManualClock::advance`] moves it.
#[derive(Debug)]
pub struct ManualClock {
    wall_start: SystemTime,
    mono_start: Instant,
    elapsed_ns: AtomicU64,
}

impl ManualClock {
    /// A clock standing at `start`.
    pub fn new(start: SystemTime) -> Self {
        Self { wall_start: start, mono_start: Instant::now(), elapsed_ns: AtomicU64::new(0) }
    }

    /// Moves both readings forward by `by` (at most 584 years in total).
    pub fn advance(&self, by: Duration) {
        self.elapsed_ns.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns.load(Ordering::SeqCst))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.wall_start + self.elapsed()
    }

    fn instant(&self) -> Instant {
        self.mono_start + self.elapsed()
    }
}
