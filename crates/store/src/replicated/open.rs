//! Opening a member's data directory, or making one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use base::SharedClock;
use parking_lot::Mutex;
use raft::{HardState, Raft, Restored, SnapshotMeta as At};

use super::apply::Applier;
use super::driver::Driver;
use super::inbox::Inbox;
use super::members::{Identity, Members};
use super::peer::Transport;
use super::persist::{Disk, take_identity, with_identity};
use super::snapshots::Incoming;
use super::{Inner, MemberConfig, Replicated, Shared, Start};
use crate::checkpoint::Housekeeping;
use crate::disk::DirDisk;
use crate::embedded::{recovered, thread_error};
use crate::keyspace::Keyspace;
use crate::lease::Moment;
use crate::log::{Record, Recovered, SnapshotMeta, encode_record, write_snapshot};
use crate::{Error, Member, MemberId, MemberStatus, Revision};

/// What a cluster begins with: an index that every later member lies behind, so that it is sent the state.
const FIRST_INDEX: u64 = 1;
const FIRST_TERM: u64 = 1;

impl Replicated {
    /// Opens a member, or makes one. Blocks until what it has is in memory; a lone member leads then.
    ///
    /// # Errors
    /// As [`crate::Embedded::open`], and [`Error::Invalid`] if the directory holds something that the member cannot
    /// begin with.
    pub fn open(
        config: &MemberConfig,
        transport: Arc<dyn Transport>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let disk = DirDisk::new(&config.store.dir).map_err(|source| Error::Io {
            operation: "create",
            file: config.store.dir.clone(),
            source: Arc::new(source),
        })?;
        Self::open_on(Arc::new(disk), config, transport, clock)
    }

    /// The same on any disk; the directory in the configuration is not looked at.
    pub fn open_on(
        disk: Arc<dyn crate::disk::Disk>,
        config: &MemberConfig,
        transport: Arc<dyn Transport>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let now = Moment::of(&*clock);
        let mut found = recovered(disk.clone(), &config.store, now)?;
        let identity = match take_identity(&mut found.state)? {
            Some(identity) => identity,
            None => begin(&*disk, &found, config)?,
        };
        let (housekeeping, tidy) = Housekeeping::threaded().map_err(thread_error)?;
        let mut member = Opened::new(found, identity)?;
        if config.force_new_cluster {
            member.force(&*disk, config, now)?;
        }
        let mut driver = member.driver(config, transport, clock, housekeeping);
        driver.warm_up()?;
        Self::start(driver, tidy)
    }

    fn start(driver: Driver, tidy: std::thread::JoinHandle<()>) -> Result<Self, Error> {
        let inbox = Arc::new(Inbox::new());
        let (keyspace, shared) = (driver.applier.keyspace.clone(), driver.shared.clone());
        let theirs = inbox.clone();
        let thread = std::thread::Builder::new().name("store-raft".to_owned());
        let thread = thread.spawn(move || driver.run(&theirs)).map_err(thread_error)?;
        let threads = Mutex::new(vec![thread, tidy]);
        Ok(Self(Arc::new(Inner { keyspace, inbox, shared, threads })))
    }
}

/// Writes down who the member is, with the state that it begins with.
fn begin(disk: &dyn crate::disk::Disk, found: &Recovered, config: &MemberConfig) -> Result<Identity, Error> {
    let empty = found.state.revision <= Revision(1) && found.state.map.is_empty();
    let (members, index) = match &config.start {
        Start::New(members) => (members, FIRST_INDEX),
        Start::Join(members) => (members, 0),
    };
    if !empty && (index == 0 || members.len() != 1) {
        return Err(Error::Invalid(
            "the data directory holds a store already: only the first and only member of a cluster can begin with it, or members that were restored for it",
        ));
    }
    let mut identity = first_identity(members, config.member.id, config.cluster_id);
    if index == 0 {
        identity.at = At::default();
    }
    let meta = SnapshotMeta { seq: found.log.seq(), compacted: found.meta.compacted, relaxed: false };
    write_snapshot(disk, &with_identity(found.state.clone(), &identity), meta)?;
    Ok(identity)
}

/// What every one of the first members of a cluster begins with.
pub(crate) fn first_identity(members: &[Member], own: MemberId, cluster_id: u64) -> Identity {
    let list = members.iter().map(|member| (member.id, member.clone())).collect();
    let members = Members { cluster_id, list, ..Members::default() };
    let at = At { index: FIRST_INDEX, term: FIRST_TERM, conf: members.conf() };
    Identity { own, members, at }
}

/// A member as it was found on disk.
struct Opened {
    found: Recovered,
    identity: Identity,
    hard_state: HardState,
}

impl Opened {
    fn new(mut found: Recovered, identity: Identity) -> Result<Self, Error> {
        let entries = &mut found.raft.entries;
        entries.retain(|entry| entry.index > identity.at.index);
        let gap = entries.iter().zip(identity.at.index + 1..).any(|(entry, index)| entry.index != index);
        if gap {
            return Err(Error::Invalid("entries of the Raft log are missing on disk"));
        }
        let mut hard_state = found.raft.hard_state;
        if hard_state.term < identity.at.term {
            hard_state = HardState { term: identity.at.term, vote: 0 };
        }
        Ok(Self { found, identity, hard_state })
    }

    /// Makes the member the only one, with everything that it has in its log.
    fn force(
        &mut self,
        disk: &dyn crate::disk::Disk,
        config: &MemberConfig,
        now: Moment,
    ) -> Result<(), Error> {
        let found = &mut self.found;
        let at = &mut self.identity.at;
        let keyspace = Keyspace::new(
            found.state.clone(),
            crate::history::History::new(config.store.history, Revision::ZERO),
        );
        let mut applier = Applier::new(std::mem::take(&mut found.state), found.meta.compacted, keyspace);
        for entry in std::mem::take(&mut found.raft.entries) {
            applier.replay(&entry, now);
            (at.index, at.term) = (entry.index, entry.term);
        }
        (found.state, found.meta.compacted) = (applier.state, applier.compacted);
        // What readers saw of it before is not known here: it can be read from now on.
        found.history = crate::history::History::new(config.store.history, found.state.revision);
        let own = self.identity.own;
        let known = self.identity.members.list.remove(&own).unwrap_or_default();
        let member =
            Member { id: own, is_learner: false, peer_urls: config.member.peer_urls.clone(), ..known };
        let others = std::mem::take(&mut self.identity.members.list);
        self.identity.members.removed.extend(others.into_keys());
        self.identity.members.list.insert(own, member);
        at.index += 1;
        at.term = self.hard_state.term.max(at.term) + 1;
        at.conf = self.identity.members.conf();
        self.hard_state = HardState { term: at.term, vote: 0 };
        self.rewrite(disk)
    }

    /// Leaves nothing of the old log for the next start.
    fn rewrite(&mut self, disk: &dyn crate::disk::Disk) -> Result<(), Error> {
        let found = &mut self.found;
        found.log.rotate(0)?;
        let seq = found.log.seq();
        let mut payload = Vec::new();
        let HardState { term, vote } = self.hard_state;
        encode_record(&mut payload, &Record::RaftVote { term, vote });
        found.log.append(&payload)?;
        found.log.sync()?;
        let meta = SnapshotMeta { seq, compacted: found.meta.compacted, relaxed: false };
        write_snapshot(disk, &with_identity(found.state.clone(), &self.identity), meta)
    }

    fn driver(
        self,
        config: &MemberConfig,
        transport: Arc<dyn Transport>,
        clock: SharedClock,
        housekeeping: Housekeeping,
    ) -> Driver {
        let Self { found, identity, hard_state } = self;
        let Identity { own, members, at } = identity;
        let status =
            MemberStatus { cluster_id: members.cluster_id, member_id: own, ..MemberStatus::default() };
        transport.members(members.cluster_id, own, &members.to_vec());
        let shared = Shared::new(members.clone(), status);
        let keyspace = Keyspace::new(found.state.clone(), found.history);
        let seed = fastrand::u64(..);
        let ticks = (config.election.as_nanos() / config.heartbeat.as_nanos().max(1)).clamp(2, 1000) as u32;
        let raft_config = raft::Config { election_ticks: ticks, ..raft::Config::new(own.0, seed) };
        let commit = found.raft.commit;
        let restored = Restored { hard_state, snapshot: at, entries: found.raft.entries, commit };
        Driver {
            raft: Raft::new(raft_config, restored),
            applier: Applier::new(found.state, found.meta.compacted, keyspace),
            disk: Disk::new(found.log, housekeeping, config.store.quota_bytes, config.store.checkpoint_bytes),
            members,
            own: Member { id: own, ..config.member.clone() },
            transport,
            shared,
            clock,
            tick: config.heartbeat,
            session: seed,
            next_id: 0,
            pending: HashMap::new(),
            waiting: VecDeque::new(),
            reads: Vec::new(),
            asked_reads: HashMap::new(),
            confirmed: Vec::new(),
            asked: HashMap::new(),
            unasked: Vec::new(),
            changes: HashMap::new(),
            revoking: HashSet::new(),
            moving: None,
            publish_wait: None,
            outgoing: HashMap::new(),
            incoming: Incoming::default(),
            leader: 0,
            leads: false,
            stalled: None,
            failed: None,
            closed: false,
        }
    }
}
