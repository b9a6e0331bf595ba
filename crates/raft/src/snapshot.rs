//! Snapshots for members that need entries which are gone, sent piece by piece.

use bytes::Bytes;

use crate::progress::{Mode, Progress};
use crate::raft::Raft;
use crate::ready::Chunk;
use crate::{Body, NodeId, SnapshotMeta};

/// A snapshot that is coming in.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    meta: SnapshotMeta,
    from: NodeId,
    next: u64,
}

impl Raft {
    pub(crate) fn begin_snapshot(&mut self, to: NodeId) {
        let Some(meta) = self.snapshot_meta() else { return };
        let Some(progress) = self.progress.get_mut(&to).filter(|progress| progress.active) else { return };
        progress.snapshot(meta.clone());
        self.send_chunk(to, meta, 0);
    }

    fn send_chunk(&mut self, to: NodeId, meta: SnapshotMeta, chunk: u64) {
        self.send(to, Body::Snapshot { meta, chunk, data: Bytes::new(), last: false });
    }

    /// Sends pieces again that were not answered for an election timeout.
    pub(crate) fn tick_snapshots(&mut self) {
        let mut again = Vec::new();
        for (id, progress) in &mut self.progress {
            if let Mode::Snapshot(sending) = &mut progress.mode {
                sending.waited += 1;
                if sending.waited >= self.config.election_ticks {
                    sending.waited = 0;
                    again.push((*id, sending.meta.clone(), sending.chunk));
                }
            }
        }
        again.into_iter().for_each(|(id, meta, chunk)| self.send_chunk(id, meta, chunk));
    }

    /// The driver cannot give the piece that [`Body::Snapshot`] asked for: the leader begins anew when it next can.
    pub fn snapshot_failed(&mut self, to: NodeId) {
        let of_snapshot = |progress: &&mut Progress| matches!(progress.mode, Mode::Snapshot(_));
        self.progress.get_mut(&to).filter(of_snapshot).into_iter().for_each(Progress::probe);
    }

    pub(crate) fn on_snapshot_reply(&mut self, from: NodeId, index: u64, next: u64) {
        let Some(progress) = self.progress.get_mut(&from) else { return };
        progress.heard();
        let Mode::Snapshot(sending) = &mut progress.mode else { return };
        if sending.meta.index != index {
            return;
        }
        if next == sending.chunk + 1 {
            sending.chunk = next;
            sending.waited = 0;
            let meta = sending.meta.clone();
            self.send_chunk(from, meta, next);
        } else if next < sending.chunk {
            // It forgot pieces that it had.
            self.begin_snapshot(from);
        }
    }

    pub(crate) fn on_snapshot(
        &mut self,
        from: NodeId,
        meta: SnapshotMeta,
        (chunk, data, last): (u64, Bytes, bool),
    ) {
        if let Some(installing) = &self.installing {
            debug_assert!(installing.index > self.commit);
            return;
        }
        if meta.index <= self.commit {
            let matched = self.commit;
            self.incoming = None;
            return self.send(from, Body::AppendReply { matched, hint: None });
        }
        if self.log.term(meta.index) == Some(meta.term) {
            self.commit = meta.index;
            self.incoming = None;
            return self.send(from, Body::AppendReply { matched: meta.index, hint: None });
        }
        let index = meta.index;
        let expected = match &self.incoming {
            Some(incoming) if incoming.from == from && incoming.meta == meta => incoming.next,
            _ => 0,
        };
        if chunk == 0 && expected != 1 {
            self.incoming = Some(Incoming { meta: meta.clone(), from, next: 0 });
        } else if chunk != expected {
            return self.send(from, Body::SnapshotReply { index, next: expected });
        }
        if let Some(incoming) = &mut self.incoming {
            incoming.next = chunk + 1;
        }
        self.chunks.push(Chunk { meta: meta.clone(), number: chunk, data });
        if last {
            self.incoming = None;
            self.installing = Some(meta.clone());
            self.install = Some(meta);
        } else {
            self.send(from, Body::SnapshotReply { index, next: chunk + 1 });
        }
    }

    /// The snapshot is the state now, durably: the log goes on after it.
    pub fn installed(&mut self, meta: &SnapshotMeta) {
        if self.installing.take_if(|installing| installing == meta).is_none() {
            return;
        }
        self.log.reset(meta.index, meta.term);
        self.conf = meta.conf.clone();
        self.commit = meta.index;
        self.applied = meta.index;
        self.applying = meta.index;
        self.pending_change = 0;
        if self.leader != 0 && self.leader != self.id {
            self.send(self.leader, Body::AppendReply { matched: meta.index, hint: None });
        }
    }

    /// The snapshot could not be made the state; the leader will send another.
    pub fn install_failed(&mut self) {
        self.installing = None;
    }
}
