//! How entries get from the leader to the others, and when they are committed.

use crate::progress::Mode;
use crate::raft::{Raft, Role};
use crate::{Body, Entry, Hint, NodeId};

impl Raft {
    fn others(&self) -> Vec<NodeId> {
        self.progress.keys().copied().filter(|id| *id != self.id).collect()
    }

    /// Sends what each member lacks, as far as there is room.
    pub(crate) fn broadcast_append(&mut self) {
        for id in self.others() {
            self.send_append(id, false);
        }
    }

    /// Sends what was put off to be sent together.
    pub(crate) fn flush_appends(&mut self) {
        let commit = std::mem::take(&mut self.unsent_commit);
        if (std::mem::take(&mut self.unsent_entries) || commit) && self.role == Role::Leader {
            for id in self.others() {
                self.send_append(id, commit);
            }
        }
    }

    /// Sends entries to a member, or with `even_empty` at least the commit index.
    pub(crate) fn send_append(&mut self, to: NodeId, mut even_empty: bool) {
        loop {
            let (messages, bytes) = (self.config.max_inflight, self.config.max_inflight_bytes);
            let Some(progress) = self.progress.get(&to) else { return };
            if !progress.has_room(messages, bytes) {
                return;
            }
            let (prev_index, probing) = (progress.next - 1, matches!(progress.mode, Mode::Probe(_)));
            let Some(prev_term) = self.log.term(prev_index) else {
                return self.begin_snapshot(to);
            };
            let entries = self.log.slice(prev_index + 1, self.log.last_index(), self.config.max_append_bytes);
            if entries.is_empty() && !even_empty && !probing {
                return;
            }
            even_empty = false;
            let last = entries.last().map(|entry| entry.index);
            let size = entries.iter().map(|entry| entry.payload.size()).sum();
            if let Some(progress) = self.progress.get_mut(&to) {
                progress.sent(last, size);
            }
            let commit = self.commit;
            self.send(to, Body::Append { prev_index, prev_term, commit, entries });
            if last.is_none() {
                return;
            }
        }
    }

    pub(crate) fn on_append(
        &mut self,
        from: NodeId,
        (prev_index, prev_term): (u64, u64),
        commit: u64,
        entries: Vec<Entry>,
    ) {
        if self.installing.is_some() {
            return;
        }
        if prev_index < self.commit {
            // All up to the commit index is the leader's, too.
            return self.send(from, Body::AppendReply { matched: self.commit, hint: None });
        }
        if self.log.term(prev_index) != Some(prev_term) {
            let (index, term) = self.log.agreeing(prev_index, prev_term);
            let hint = Some(Hint { refused: prev_index, index, term });
            return self.send(from, Body::AppendReply { matched: 0, hint });
        }
        let last = prev_index + entries.len() as u64;
        if let Some(first) = self.log.missing(&entries) {
            debug_assert!(entries[first].index > self.commit, "a committed entry is never replaced");
            self.log.append(entries.into_iter().skip(first));
        }
        self.commit = self.commit.max(commit.min(last));
        self.send(from, Body::AppendReply { matched: last, hint: None });
    }

    pub(crate) fn on_append_reply(&mut self, from: NodeId, matched: u64, hint: Option<Hint>) {
        let Some(progress) = self.progress.get_mut(&from) else { return };
        progress.heard();
        if let Some(hint) = hint {
            // Where the follower's term at the hint is newer than ours there, go back further at once.
            let (agreed, _) = self.log.agreeing(hint.index, hint.term);
            let stale = match progress.mode {
                Mode::Probe(_) => hint.refused + 1 != progress.next,
                Mode::Replicate => hint.refused <= progress.matched,
                Mode::Snapshot(_) => true,
            };
            if !stale {
                progress.probe_from((agreed + 1).min(hint.refused.max(1)));
                self.send_append(from, true);
            }
            return;
        }
        if matched > self.log.last_index() {
            return;
        }
        let news = progress.acknowledge(matched);
        match &progress.mode {
            Mode::Probe(_) => progress.replicate(),
            Mode::Snapshot(sending) if progress.matched >= sending.meta.index => progress.replicate(),
            _ => {}
        }
        if news && self.advance_commit() {
            return self.continue_transfer(from);
        }
        self.send_append(from, false);
        self.continue_transfer(from);
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        let read = self.reads.round();
        for id in self.others() {
            let matched = self.progress.get(&id).map_or(0, |progress| progress.matched);
            self.send(id, Body::Heartbeat { commit: self.commit.min(matched), read });
        }
    }

    pub(crate) fn on_heartbeat(&mut self, from: NodeId, commit: u64, read: u64) {
        // The leader knows that this log is its own up to there.
        if self.installing.is_none() {
            self.commit = self.commit.max(commit.min(self.log.last_index()));
        }
        self.send(from, Body::HeartbeatReply { read });
    }

    pub(crate) fn on_heartbeat_reply(&mut self, from: NodeId, read: u64) {
        let last = self.log.last_index();
        let Some(progress) = self.progress.get_mut(&from) else { return };
        progress.heard();
        progress.read = progress.read.max(read);
        progress.free_one();
        let behind = progress.matched < last;
        if behind {
            self.send_append(from, true);
        }
        self.confirm_reads();
    }

    /// Commits what a majority has on disk. Only an entry of the own term says so by its number of copies; those
    /// before it are committed with it. Whether the commit index went up.
    pub(crate) fn advance_commit(&mut self) -> bool {
        let reached = self.conf.reached(|id| self.progress.get(&id).map_or(0, |progress| progress.matched));
        if reached <= self.commit || self.log.term(reached) != Some(self.term) {
            return false;
        }
        self.commit = reached;
        self.release_reads();
        self.unsent_commit = true;
        true
    }
}
