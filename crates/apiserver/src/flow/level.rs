//! A priority level: its seats, and those who wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::dealer::deal;
use super::fair::{Next, Queues};
use super::metrics::Counters;

/// Of a level's nominal seats, the part that one request may take: one of so many.
const WIDEST_PART: u32 = 7;

/// Seats of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// By its shares.
    pub nominal: u32,
    /// What it never lends.
    pub least: u32,
    /// What it has with all that it may borrow.
    pub most: u32,
}

/// `spec.limited.limitResponse.queuing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queuing {
    pub queues: usize,
    pub hand: usize,
    /// Requests of one queue.
    pub length: usize,
}

/// Why a request is refused (the label `reason` of the metric).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Nobody waits on this level.
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl Refusal {
    /// As upstream labels it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// What comes with a waiting request.
#[derive(Debug)]
pub struct Ticket {
    /// Its schema.
    pub schema: Arc<str>,
    /// Since when it waits.
    pub since: Instant,
    ready: oneshot::Sender<Permit>,
}

#[derive(Debug)]
pub(super) struct State {
    pub limits: Limits,
    /// Seats that it has now, borrowed ones included.
    pub current: u32,
    pub seats_in_use: u32,
    pub executing: u32,
    pub queuing: Option<Queuing>,
    pub queues: Queues<Ticket>,
    /// Most seats wanted at once since the last adjustment.
    pub high_water: u32,
    next_id: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Level {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// Requests of exempt levels never wait and take no seats.
    exempt: bool,
    /// Seats that one request may take, read without the lock.
    widest: AtomicU64,
    started: Instant,
    pub(super) counters: Counters,
    pub(super) state: Mutex<State>,
}

/// Seats in use; dropping it frees them and serves the next.
#[derive(Debug)]
pub struct Permit {
    level: Arc<Level>,
    /// The queue it came through and its seats; None on exempt levels.
    held: Option<(Option<usize>, u32)>,
    since: Instant,
}

impl Level {
    /// Without seats until it is configured.
    pub fn new(name: &str, uid: &str, exempt: bool) -> Self {
        let state = State {
            limits: Limits::default(),
            current: 0,
            seats_in_use: 0,
            executing: 0,
            queuing: None,
            queues: Queues::new(0),
            high_water: 0,
            next_id: 0,
        };
        Self {
            name: name.into(),
            uid: uid.into(),
            exempt,
            widest: AtomicU64::new(1),
            started: Instant::now(),
            counters: Counters::default(),
            state: Mutex::new(state),
        }
    }

    /// Whether its requests are never held.
    pub fn is_exempt(&self) -> bool {
        self.exempt
    }

    /// Seats that one request may take.
    pub fn widest(&self) -> u32 {
        u32::try_from(self.widest.load(Ordering::Relaxed)).unwrap_or(1)
    }

    /// Sets its seats and queues; what waits goes on waiting.
    pub fn configure(self: &Arc<Self>, limits: Limits, queuing: Option<Queuing>) {
        self.widest.store(u64::from((limits.nominal / WIDEST_PART).max(1)), Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.limits != limits {
            state.current = limits.nominal.max(limits.least).max(1);
        }
        state.limits = limits;
        state.queuing = queuing;
        state.queues.grow(queuing.map_or(0, |q| q.queues));
        let ready = self.dispatch(&mut state);
        drop(state);
        deliver(ready);
    }

    /// Gives it other seats than before.
    pub(super) fn set_current(self: &Arc<Self>, seats: u32) {
        let mut state = self.state.lock();
        state.current = seats.max(1);
        let ready = self.dispatch(&mut state);
        drop(state);
        deliver(ready);
    }

    fn now_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Takes seats for a request of a flow, waiting at most `longest` for them.
    pub async fn acquire(
        self: &Arc<Self>,
        schema: &Arc<str>,
        flow: u64,
        seats: u32,
        longest: Duration,
    ) -> Result<Permit, Refusal> {
        let since = Instant::now();
        if self.exempt {
            self.counters.dispatched(schema, Duration::ZERO);
            self.state.lock().executing += 1;
            return Ok(Permit { level: self.clone(), held: None, since });
        }
        let refuse = |why: Refusal| {
            self.counters.rejected(schema, why);
            Err(why)
        };
        let (queue, id, mut ready) = match self.enter(schema, flow, seats, since) {
            Ok(Entered::Now(permit)) => {
                self.counters.dispatched(schema, Duration::ZERO);
                return Ok(permit);
            }
            Ok(Entered::Wait(queue, id, mut ready)) => match ready.try_recv() {
                Ok(permit) => {
                    self.counters.dispatched(schema, Duration::ZERO);
                    return Ok(permit);
                }
                Err(_) => (queue, id, ready),
            },
            Err(why) => return refuse(why),
        };
        let place = Place { level: self, queue, id };
        let waited = tokio::time::timeout(longest, &mut ready).await;
        drop(place);
        // It may have been served at the last moment.
        let permit = match waited {
            Ok(permit) => permit.ok(),
            Err(_) => ready.try_recv().ok(),
        };
        match permit {
            Some(permit) => {
                self.counters.dispatched(schema, since.elapsed());
                Ok(permit)
            }
            None => refuse(Refusal::TimeOut),
        }
    }

    /// The part of [`Level::acquire`] that needs the lock.
    fn enter(
        self: &Arc<Self>,
        schema: &Arc<str>,
        flow: u64,
        seats: u32,
        since: Instant,
    ) -> Result<Entered, Refusal> {
        let now_s = self.now_s();
        let mut state = self.state.lock();
        let wanted = state.seats_in_use.saturating_add(seats);
        state.high_water = state.high_water.max(wanted);
        let Some(queuing) = state.queuing else {
            if wanted > state.current && state.seats_in_use > 0 {
                return Err(Refusal::ConcurrencyLimit);
            }
            state.seats_in_use = wanted;
            state.executing += 1;
            return Ok(Entered::Now(self.permit(None, seats)));
        };
        let hand = deal(flow, queuing.queues, queuing.hand);
        let queue = state.queues.shortest(&hand);
        if state.queues.length(queue) >= queuing.length {
            return Err(Refusal::QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        state.next_id += 1;
        let (id, limit) = (state.next_id, state.current);
        let ticket = Ticket { schema: schema.clone(), since, ready: sender };
        state.queues.push(queue, id, seats, ticket, now_s, limit);
        let ready = self.dispatch(&mut state);
        let still = state.queues.waiting();
        state.high_water =
            state.high_water.max(state.seats_in_use.saturating_add(u32::try_from(still).unwrap_or(u32::MAX)));
        drop(state);
        deliver(ready);
        Ok(Entered::Wait(queue, id, receiver))
    }

    fn permit(self: &Arc<Self>, queue: Option<usize>, seats: u32) -> Permit {
        Permit { level: self.clone(), held: Some((queue, seats)), since: Instant::now() }
    }

    /// Serves those whose turn it is. The permits are handed over once the lock is free, since a permit that nobody
    /// wants any more takes it.
    fn dispatch(self: &Arc<Self>, state: &mut State) -> Vec<(oneshot::Sender<Permit>, Permit)> {
        let mut ready = Vec::new();
        loop {
            let free = state.current.saturating_sub(state.seats_in_use);
            if free == 0 || state.queues.waiting() == 0 {
                return ready;
            }
            let Some(Next { queue, seats, item }) = state.queues.pop(free, self.now_s(), state.current)
            else {
                return ready;
            };
            state.seats_in_use += seats;
            state.executing += 1;
            ready.push((item.ready, self.permit(Some(queue), seats)));
        }
    }

    fn leave(self: &Arc<Self>, queue: usize, id: u64) {
        self.state.lock().queues.remove(queue, id);
    }
}

enum Entered {
    Now(Permit),
    Wait(usize, u64, oneshot::Receiver<Permit>),
}

/// The place of a request in its queue; leaves it when dropped.
struct Place<'a> {
    level: &'a Arc<Level>,
    queue: usize,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.level.leave(self.queue, self.id);
    }
}

fn deliver(ready: Vec<(oneshot::Sender<Permit>, Permit)>) {
    for (sender, permit) in ready {
        // Nobody waits any more: the permit comes back and is dropped here.
        let _ = sender.send(permit);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let took_s = self.since.elapsed().as_secs_f64();
        let now_s = self.level.now_s();
        let mut state = self.level.state.lock();
        state.executing = state.executing.saturating_sub(1);
        let Some((queue, seats)) = self.held.take() else { return };
        state.seats_in_use = state.seats_in_use.saturating_sub(seats);
        let limit = state.current;
        if let Some(queue) = queue {
            state.queues.ended(queue, seats, took_s, now_s, limit);
        }
        let ready = self.level.dispatch(&mut state);
        drop(state);
        deliver(ready);
    }
}
