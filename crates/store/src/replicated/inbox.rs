//! Where requests and frames wait for the member's thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base::Clock;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use super::apply::{Reply, Waiter};
use super::peer::{Ask, Told};
use super::request::Request;
use crate::{ClusterError, Error, MemberId, Revision, WRITE_QUEUE};

/// Frames of other members that wait; further ones are dropped, as a network would.
const FRAME_QUEUE: usize = 4096;

/// Something for the member's thread to do.
pub(crate) enum Input {
    Request(Request, Waiter),
    Read(Reply<Revision>),
    Ask(Ask, oneshot::Sender<Result<Told, ClusterError>>),
    MoveLeader(MemberId, oneshot::Sender<Result<(), ClusterError>>),
    Checkpoint(Reply<()>),
    Frame(Bytes),
    /// The last: everything before it is answered, nothing after it.
    Close(Reply<()>),
}

impl Input {
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Request(_, waiter) => waiter.refuse(error),
            Self::Read(reply) => _ = reply.send(Err(error)),
            Self::Ask(_, reply) => _ = reply.send(Err(error.into())),
            Self::MoveLeader(_, reply) => _ = reply.send(Err(error.into())),
            Self::Checkpoint(reply) | Self::Close(reply) => _ = reply.send(Err(error)),
            Self::Frame(_) => {}
        }
    }
}

#[derive(Default)]
struct Queue {
    inputs: VecDeque<Input>,
    frames: usize,
    ended: bool,
}

/// See the module.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
    places: Semaphore,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::default(), filled: Condvar::new(), places: Semaphore::new(WRITE_QUEUE) }
    }

    /// Waits for a place among the requests.
    pub(crate) async fn place(&self) -> Result<(), Error> {
        self.places.acquire().await.map_err(|_| Error::Closed)?.forget();
        Ok(())
    }

    /// Puts a request in, for which there is a place; or a frame, if there is room for it.
    pub(crate) fn push(&self, input: Input) {
        let mut queue = self.queue.lock();
        if queue.ended {
            drop(queue);
            return input.refuse(Error::Closed);
        }
        if matches!(input, Input::Frame(_)) {
            if queue.frames >= FRAME_QUEUE {
                return;
            }
            queue.frames += 1;
        }
        queue.inputs.push_back(input);
        drop(queue);
        self.filled.notify_one();
    }

    /// Takes what there is, waiting for it until `deadline`.
    pub(crate) fn take(&self, inputs: &mut VecDeque<Input>, deadline: Instant, clock: &dyn Clock) {
        let mut queue = self.queue.lock();
        while queue.inputs.is_empty() {
            let left = deadline.saturating_duration_since(clock.instant());
            if left == Duration::ZERO || self.filled.wait_for(&mut queue, left).timed_out() {
                return;
            }
        }
        self.places.add_permits(queue.inputs.len() - queue.frames);
        queue.frames = 0;
        inputs.append(&mut queue.inputs);
    }

    /// Refuses everything from now on.
    pub(crate) fn end(&self) {
        let mut queue = self.queue.lock();
        queue.ended = true;
        self.places.close();
        let left = std::mem::take(&mut queue.inputs);
        drop(queue);
        left.into_iter().for_each(|input| input.refuse(Error::Closed));
    }
}
