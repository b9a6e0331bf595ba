//! States on their way from the leader to a member that is too far behind for the log.

use std::path::Path;

use bytes::Bytes;
use raft::{Body, Chunk, Message, Ready};

use super::driver::Driver;
use super::members::Identity;
use super::persist::{take_identity, with_identity};
use crate::embedded::stream_snapshot;
use crate::lease::Moment;
use crate::log::{SnapshotDecoder, SnapshotMeta};
use crate::state::State;
use crate::{Error, SnapshotStream};

/// What messages call the place that a state comes from.
const SOURCE: &str = "the leader's snapshot";

/// A state that is being sent, piece by piece; its thread encodes it ahead.
pub(super) struct Outgoing {
    index: u64,
    stream: SnapshotStream,
    /// The piece sent last, and the one after it. None: there is none.
    chunk: u64,
    current: Bytes,
    next: Option<Bytes>,
}

/// The state that is coming in: each piece is decoded when it comes, so that nothing but the state is in memory.
#[derive(Default)]
pub(super) struct Incoming(Option<Result<SnapshotDecoder, Error>>);

impl Incoming {
    /// Takes a piece. That one is damaged is said at the end, when the core can be told.
    fn push(&mut self, chunk: &Chunk, now: Moment) {
        if chunk.number == 0 {
            self.0 = Some(Ok(SnapshotDecoder::new(Path::new(SOURCE), now)));
        }
        if let Some(Ok(decoder)) = &mut self.0
            && let Err(error) = decoder.push(&chunk.data)
        {
            self.0 = Some(Err(error));
        }
    }

    fn finish(&mut self) -> Result<(State, SnapshotMeta), Error> {
        let decoder = self.0.take().ok_or(Error::Invalid("a snapshot without content"))?;
        decoder?.finish().map(|(state, meta, _)| (state, meta))
    }
}

impl Outgoing {
    fn begin(index: u64, mut stream: SnapshotStream) -> Option<Self> {
        let current = stream.chunks.blocking_recv()?.ok()?;
        let next = stream.chunks.blocking_recv().and_then(Result::ok);
        Some(Self { index, stream, chunk: 0, current, next })
    }

    /// A piece: the one sent last, or the one after it. With it whether it is the last.
    fn piece(&mut self, chunk: u64) -> Option<(Bytes, bool)> {
        if chunk == self.chunk + 1 {
            self.current = self.next.take()?;
            self.chunk = chunk;
            self.next = self.stream.chunks.blocking_recv().and_then(Result::ok);
        }
        (chunk == self.chunk).then(|| (self.current.clone(), self.next.is_none()))
    }
}

impl Driver {
    /// Puts a piece of the state into a message that wants one. None: nothing is to be sent.
    pub(super) fn fill(&mut self, message: Message) -> Option<Message> {
        let Body::Snapshot { meta, chunk, .. } = &message.body else { return Some(message) };
        let index = meta.index;
        if *chunk == 0 && self.outgoing.get(&message.to).is_none_or(|outgoing| outgoing.index != index) {
            self.begin_snapshot(message.to, index);
        }
        let outgoing = self.outgoing.get_mut(&message.to).filter(|outgoing| outgoing.index == index);
        match outgoing.and_then(|outgoing| outgoing.piece(*chunk)) {
            Some((data, last)) => {
                let body = Body::Snapshot { meta: meta.clone(), chunk: *chunk, data, last };
                Some(Message { body, ..message })
            }
            None => {
                self.outgoing.remove(&message.to);
                self.raft.snapshot_failed(message.to);
                None
            }
        }
    }

    fn begin_snapshot(&mut self, to: u64, index: u64) {
        let Some(at) = self.raft.snapshot_meta().filter(|at| at.index == index) else { return };
        tracing::info!(to, index, "sending the whole state to a member");
        let identity = Identity { own: self.own.id, members: self.members.clone(), at };
        let state = with_identity(self.applier.state.clone(), &identity);
        let stream = stream_snapshot(state, self.applier.compacted);
        match stream.ok().and_then(|stream| Outgoing::begin(index, stream)) {
            Some(outgoing) => _ = self.outgoing.insert(to, outgoing),
            None => tracing::error!(to, "the state could not be encoded"),
        }
    }

    /// Lets go of states that nobody waits for any more.
    pub(super) fn drop_old_snapshots(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let wanted: Vec<u64> =
            self.raft.peers().filter(|peer| peer.in_snapshot).map(|peer| peer.id).collect();
        self.outgoing.retain(|id, _| wanted.contains(id));
    }

    pub(super) fn receive_snapshot(&mut self, ready: &mut Ready, now: Moment) {
        ready.chunks.drain(..).for_each(|chunk| self.incoming.push(&chunk, now));
        let Some(meta) = ready.install.take() else { return };
        let index = meta.index;
        match self.install(index) {
            Ok(()) => {
                tracing::info!(
                    index,
                    revision = self.applier.state.revision.0,
                    "took the leader's whole state"
                );
                self.raft.installed(&meta);
            }
            Err(error @ (Error::Corrupt { .. } | Error::NoSpace(_) | Error::Invalid(_))) => {
                tracing::error!(%error, "the leader's state could not be taken; it will come again");
                self.raft.install_failed();
            }
            Err(error) => self.fail(error),
        }
    }

    fn install(&mut self, index: u64) -> Result<(), Error> {
        let (mut state, meta) = self.incoming.finish()?;
        if self.disk.housekeeping.is_busy() {
            return Err(Error::Invalid("an older state is still being written"));
        }
        let identity = take_identity(&mut state)?.filter(|identity| identity.at.index == index);
        let identity = identity.ok_or(Error::Invalid("the snapshot is of another index"))?;
        let identity = Identity { own: self.own.id, ..identity };
        self.disk.install(&self.raft, state.clone(), &identity, meta.compacted)?;
        self.members = identity.members;
        self.transport.members(self.members.cluster_id, self.own.id, &self.members.to_vec());
        self.shared.set_members(&self.members);
        self.applier.replace(state, meta.compacted);
        self.give_up_sent();
        Ok(())
    }
}
