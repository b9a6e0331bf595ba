//! What of a member is on disk: the Raft log in the frames of the write-ahead log, and the state in snapshots.

use raft::{Raft, Ready};

use super::apply::Applier;
use super::members::{Identity, Members};
use super::{IDENTITY, MemberId};
use crate::checkpoint::{Checkpoint, Housekeeping};
use crate::log::{Log, Record, SnapshotMeta, encode_entry, encode_record, write_snapshot};
use crate::state::State;
use crate::{Error, Key, Revision, Setting};

/// Applied entries that stay in memory for members that are behind (etcd `SnapshotCatchUpEntries`).
const KEEP_ENTRIES: u64 = 5000;
/// The same of a member that has no others.
const KEEP_ALONE: u64 = 100;
/// Bytes of entries that stay in memory at most, once they are applied.
const KEEP_BYTES: usize = 64 << 20;

/// See the module.
pub(crate) struct Disk {
    pub(super) log: Log,
    pub(super) housekeeping: Housekeeping,
    pub(super) quota_bytes: usize,
    checkpoint_bytes: u64,
    /// Where [`Log::appended`] was at the last checkpoint.
    checkpointed: u64,
    asked: bool,
    buffer: Vec<u8>,
}

/// The state as a snapshot file has it: with the member's identity among the settings.
pub(crate) fn with_identity(mut state: State, identity: &Identity) -> State {
    let value = identity.encode();
    state.settings.insert(Key::from(IDENTITY), Setting { version: 1, value });
    state
}

/// Takes the identity out of a state that came from a snapshot.
pub(crate) fn take_identity(state: &mut State) -> Result<Option<Identity>, Error> {
    let Some(setting) = state.settings.remove(IDENTITY.as_bytes()) else { return Ok(None) };
    let unknown = Error::Invalid("the member's identity on disk is not of a format that this program reads");
    Identity::decode(setting.value).map(Some).ok_or(unknown)
}

impl Disk {
    pub(crate) fn new(
        log: Log,
        housekeeping: Housekeeping,
        quota_bytes: usize,
        checkpoint_bytes: u64,
    ) -> Self {
        let (checkpointed, asked, buffer) = (0, false, Vec::new());
        Self { log, housekeeping, quota_bytes, checkpoint_bytes, checkpointed, asked, buffer }
    }

    /// Writes what the core wants to have on disk, in one frame and with one sync.
    pub(super) fn write(&mut self, ready: &Ready) -> Result<(), Error> {
        self.buffer.clear();
        if let Some(hard_state) = ready.hard_state {
            let (term, vote) = (hard_state.term, hard_state.vote);
            encode_record(&mut self.buffer, &Record::RaftVote { term, vote });
        }
        ready.entries.iter().for_each(|entry| encode_entry(&mut self.buffer, entry));
        encode_record(&mut self.buffer, &Record::RaftCommit { index: ready.commit });
        let written = self.log.append(&self.buffer).and_then(|()| self.log.sync());
        self.buffer.shrink_to(1 << 20);
        written
    }

    /// Has a snapshot written soon.
    pub(super) fn ask_checkpoint(&mut self) {
        self.asked = true;
    }

    /// Keeps log and memory bounded: begins a snapshot when enough was logged, and forgets old entries.
    ///
    /// # Errors
    /// [`Error::NoSpace`] has changed nothing; after any other the log must not be used again.
    pub(super) fn housekeep(
        &mut self,
        raft: &mut Raft,
        applier: &Applier,
        members: &Members,
        own: MemberId,
    ) -> Result<(), Error> {
        self.forget_entries(raft);
        if self.housekeeping.is_busy() {
            return Ok(());
        }
        let written = self.log.appended() - self.checkpointed;
        let enough = written >= self.checkpoint_bytes.max(applier.state.bytes as u64);
        let due = enough || (self.asked && written > 0);
        if !due {
            if self.log.wants_spare() {
                self.housekeeping.prepare(self.log.spare().clone());
            }
            return Ok(());
        }
        self.asked = false;
        let Some(at) = raft.snapshot_meta() else { return Ok(()) };
        let identity = Identity { own, members: members.clone(), at };
        let seq = self.begin_segment(raft, identity.at.index)?;
        self.housekeeping.checkpoint(Checkpoint {
            disk: self.log.disk().clone(),
            spare: self.log.spare().clone(),
            state: with_identity(applier.state.clone(), &identity),
            meta: SnapshotMeta { seq, compacted: applier.compacted, relaxed: false },
            first_segment: self.log.segment(),
        });
        Ok(())
    }

    /// Goes on in a new segment that says all that the old ones say beyond `index`, so that those can go. Gives the
    /// last frame before it.
    fn begin_segment(&mut self, raft: &Raft, index: u64) -> Result<u64, Error> {
        self.log.rotate(0)?;
        let seq = self.log.seq();
        let mut payload = Vec::new();
        let hard_state = raft.hard_state_on_disk();
        encode_record(&mut payload, &Record::RaftVote { term: hard_state.term, vote: hard_state.vote });
        raft.entries_after(index).iter().for_each(|entry| encode_entry(&mut payload, entry));
        encode_record(&mut payload, &Record::RaftCommit { index: raft.status().commit });
        self.log.append(&payload)?;
        self.log.sync()?;
        self.checkpointed = self.log.appended();
        Ok(seq)
    }

    /// Lets go of applied entries that nobody is likely to want any more.
    pub(super) fn forget_entries(&self, raft: &mut Raft) {
        let applied = raft.status().applied;
        let (base, bytes) = raft.log_extent();
        // Who joins a member that is alone is sent the state.
        if raft.conf().ids().count() == 1 {
            raft.compact(applied.saturating_sub(KEEP_ALONE));
        } else if bytes > KEEP_BYTES {
            raft.compact(base + (applied - base) / 2);
        } else if applied - base > 2 * KEEP_ENTRIES {
            raft.compact(applied - KEEP_ENTRIES);
        }
    }

    /// Puts a state there that the log does not lead to, durably.
    pub(super) fn install(
        &mut self,
        raft: &Raft,
        state: State,
        identity: &Identity,
        compacted: Revision,
    ) -> Result<(), Error> {
        let seq = self.begin_segment(raft, u64::MAX - 1)?;
        let meta = SnapshotMeta { seq, compacted, relaxed: false };
        write_snapshot(&**self.log.disk(), &with_identity(state, identity), meta)
    }

    /// Leaves the commit index behind, so that the next start knows it.
    pub(super) fn close(&mut self, raft: &Raft) -> Result<(), Error> {
        let mut payload = Vec::new();
        encode_record(&mut payload, &Record::RaftCommit { index: raft.status().commit });
        self.log.append(&payload)?;
        self.log.sync()
    }
}
