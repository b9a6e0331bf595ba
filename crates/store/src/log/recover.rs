//! Opening a data directory: which state it holds, and where the log goes on.
//!
//! What was not synced when the machine stopped may be there in part. A damaged frame is such a torn tail, and is cut
//! off, unless a later frame says that it had been synced: then something was damaged since, and the directory is
//! refused rather than served without a part of it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use super::record::{Record, Write, decode, encode_record};
use super::segment::{Log, SEGMENT_HEADER, SegmentHead, Spare, segment_id, segment_name};
use super::snapshot::{SnapshotMeta, read_snapshot, snapshot_name, snapshot_seq};
use super::{FORMAT, FORMAT_FILE, TEMPORARY, frame, io_error};
use crate::disk::Disk;
use crate::history::{Change, History, HistoryLimits};
use crate::lease::Moment;
use crate::state::State;
use crate::{Error, RELAXED_MAX_UNSYNCED, Revision, Setting};

/// What was found.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) log: Log,
    pub(crate) meta: SnapshotMeta,
    /// Whether the last thing in the log says that the store was closed.
    pub(crate) closed: bool,
    pub(crate) raft: RaftLog,
}

/// What the log says of Raft.
#[derive(Default)]
pub(crate) struct RaftLog {
    pub(crate) hard_state: raft::HardState,
    /// In the order of their indices, with those that others replaced left out.
    pub(crate) entries: Vec<raft::Entry>,
    pub(crate) commit: u64,
}

/// Opens the directory of `disk`, or makes a store in it if it is empty.
pub(crate) fn recover(
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    limits: HistoryLimits,
    now: Moment,
) -> Result<Recovered, Error> {
    let names = prepare(&*disk)?;
    let has_format = check_format(&*disk, &names)?;
    let spare = Spare::open(disk.clone(), segment_bytes, &names)?;
    let newest = names.iter().filter_map(|name| snapshot_seq(name)).max();
    if !has_format {
        if newest.is_some() {
            return Err(missing(&*disk, FORMAT_FILE));
        }
        return create(disk, spare, limits);
    }
    let (state, meta) = match newest {
        Some(seq) => read_snapshot(&*disk, &snapshot_name(seq), now)?,
        None => (empty(), SnapshotMeta::default()),
    };
    let known_from = if newest.is_some() { state.revision } else { Revision::ZERO };
    let history = History::new(limits, known_from);
    let (next, raft) = (meta.seq + 1, RaftLog::default());
    let mut replay =
        Replay { disk: disk.clone(), state, history, meta, next, first: next, closed: false, raft, now };
    replay.history.compact(meta.compacted);
    let log = replay.segments(&names, spare)?;
    let mut recovered = Recovered {
        state: replay.state,
        history: replay.history,
        log,
        meta: replay.meta,
        closed: replay.closed,
        raft: replay.raft,
    };
    recovered.skip_lost_revisions()?;
    Ok(recovered)
}

/// Locks the directory and removes what was being written when the machine stopped.
fn prepare(disk: &dyn Disk) -> Result<Vec<String>, Error> {
    disk.lock().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => Error::Locked(disk.path("")),
        _ => io_error(disk, "lock", "")(error),
    })?;
    let names = disk.list().map_err(io_error(disk, "list", ""))?;
    let (temporary, kept): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.ends_with(TEMPORARY));
    for name in temporary {
        disk.remove(&name).map_err(io_error(disk, "remove", &name))?;
    }
    Ok(kept)
}

fn check_format(disk: &dyn Disk, names: &[String]) -> Result<bool, Error> {
    if !names.iter().any(|name| name == FORMAT_FILE) {
        return Ok(false);
    }
    let found = String::from_utf8_lossy(&read_file(disk, FORMAT_FILE)?).trim().to_owned();
    if found != FORMAT.to_string() {
        return Err(Error::Format { dir: disk.path(""), found, expected: FORMAT });
    }
    Ok(true)
}

/// The format file is written last, so a creation that was cut short is done again.
fn create(disk: Arc<dyn Disk>, spare: Spare, limits: HistoryLimits) -> Result<Recovered, Error> {
    let log = Log::start(spare, 1, 0, 0)?;
    let temporary = format!("{FORMAT_FILE}{TEMPORARY}");
    let mut file = disk.create(&temporary, 0).map_err(io_error(&*disk, "create", &temporary))?;
    file.write_at(format!("{FORMAT}\n").as_bytes(), 0).map_err(io_error(&*disk, "write", &temporary))?;
    file.sync().map_err(io_error(&*disk, "sync", &temporary))?;
    disk.rename(&temporary, FORMAT_FILE).map_err(io_error(&*disk, "rename", &temporary))?;
    disk.sync_names().map_err(io_error(&*disk, "sync", ""))?;
    let history = History::new(limits, Revision::ZERO);
    let (meta, raft) = (SnapshotMeta::default(), RaftLog::default());
    Ok(Recovered { state: empty(), history, log, meta, closed: true, raft })
}

/// As in etcd an empty store is at revision 1, so that a list of nothing has a version to watch from.
fn empty() -> State {
    State { revision: Revision(1), ..State::default() }
}

pub(super) fn read_file(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, Error> {
    let file = disk.open(name).map_err(io_error(disk, "open", name))?;
    let mut bytes = vec![0; file.size().map_err(io_error(disk, "stat", name))? as usize];
    file.read_at(&mut bytes, 0).map_err(io_error(disk, "read", name))?;
    Ok(bytes)
}

fn missing(disk: &dyn Disk, name: &str) -> Error {
    Error::Corrupt { file: disk.path(name), offset: 0, detail: "the file is missing".to_owned() }
}

impl Recovered {
    /// After an unclean stop goes on at a revision that no client can have seen: relaxed writes may have been lost.
    fn skip_lost_revisions(&mut self) -> Result<(), Error> {
        if self.closed || !self.meta.relaxed {
            return Ok(());
        }
        let from = self.state.revision;
        let to = Revision(from.0 + RELAXED_MAX_UNSYNCED);
        let mut payload = Vec::new();
        encode_record(&mut payload, &Record::Jump { from, to });
        self.log.append(&payload)?;
        self.log.sync()?;
        self.state.revision = to;
        self.history.set_hole(from, to);
        self.meta.relaxed = false;
        Ok(())
    }
}

struct Replay {
    disk: Arc<dyn Disk>,
    state: State,
    history: History,
    meta: SnapshotMeta,
    /// The frame that comes next, and the first that the state does not hold yet.
    next: u64,
    first: u64,
    closed: bool,
    raft: RaftLog,
    now: Moment,
}

impl Replay {
    fn corrupt(&self, name: &str, offset: usize, detail: String) -> Error {
        Error::Corrupt { file: self.disk.path(name), offset: offset as u64, detail }
    }

    fn segments(&mut self, names: &[String], spare: Spare) -> Result<Log, Error> {
        let heads = self.heads(names)?;
        // Segments before the last one that begins at or before the first frame wanted are superfluous.
        let Some((start, first)) = heads.iter().rev().find(|(_, head)| head.first_seq <= self.next) else {
            return Err(missing(&*self.disk, &segment_name(heads.keys().next().map_or(1, |id| id - 1))));
        };
        self.next = first.first_seq;
        let last = heads.keys().next_back().copied().unwrap_or(*start);
        let mut end = SEGMENT_HEADER;
        for id in *start..=last {
            let name = segment_name(id);
            let head = heads.get(&id).ok_or_else(|| missing(&*self.disk, &name))?;
            if head.first_seq != self.next {
                let detail = format!(
                    "the segment begins with frame {}, frame {} is missing",
                    head.first_seq, self.next
                );
                return Err(self.corrupt(&name, 0, detail));
            }
            end = self.segment(&name, *head, id == last)?;
        }
        let name = segment_name(last);
        if self.next < self.first {
            let detail = format!("frame {} is missing, which the snapshot holds", self.next);
            return Err(self.corrupt(&name, end, detail));
        }
        let mut file = self.disk.open(&name).map_err(io_error(&*self.disk, "open", &name))?;
        // What a killed process wrote may be in memory only; it is about to be shown to readers.
        file.sync().map_err(io_error(&*self.disk, "sync", &name))?;
        spare.retire_below(*start)?;
        Log::resume(spare, file, heads[&last].seal, end as u64, self.next - 1)
    }

    /// The heads of all segments. A crash while the log went on in a new one leaves a last one that says nothing yet.
    fn heads(&self, names: &[String]) -> Result<BTreeMap<u64, SegmentHead>, Error> {
        let mut ids: Vec<u64> = names.iter().filter_map(|name| segment_id(name)).collect();
        ids.sort_unstable();
        let mut heads = BTreeMap::new();
        for id in &ids {
            let name = segment_name(*id);
            let file = self.disk.open(&name).map_err(io_error(&*self.disk, "open", &name))?;
            let size = file.size().map_err(io_error(&*self.disk, "stat", &name))?;
            let mut header = [0; SEGMENT_HEADER];
            if size >= SEGMENT_HEADER as u64 {
                file.read_at(&mut header, 0).map_err(io_error(&*self.disk, "read", &name))?;
            }
            match SegmentHead::parse(&header, *id) {
                Ok(Some(head)) => _ = heads.insert(*id, head),
                Ok(None) if Some(id) == ids.last() => {}
                Ok(None) | Err(()) => {
                    return Err(self.corrupt(&name, 0, "the segment's header is damaged".to_owned()));
                }
            }
        }
        Ok(heads)
    }

    /// Takes the frames of a segment; gives where they end.
    fn segment(&mut self, name: &str, head: SegmentHead, is_last: bool) -> Result<usize, Error> {
        let bytes = read_file(&*self.disk, name)?;
        let mut at = SEGMENT_HEADER;
        while let Some(frame) = bytes.get(at..).and_then(|rest| frame::parse(rest, head.seal)) {
            if frame.seq != self.next {
                let detail = format!("frame {} stands where frame {} belongs", frame.seq, self.next);
                return Err(self.corrupt(name, at, detail));
            }
            if frame.seq >= self.first {
                let records = decode(frame.payload).ok_or_else(|| {
                    self.corrupt(name, at, "a frame holds no records of this format".to_owned())
                })?;
                records.into_iter().for_each(|record| self.apply(record));
            }
            self.next += 1;
            at += frame.size;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        if is_last && rest.iter().any(|byte| *byte != 0) {
            self.tail(name, head, rest, at)?;
        }
        Ok(at)
    }

    /// Looks at what follows the last whole frame, and cuts it off if it was never known to be on disk.
    fn tail(&mut self, name: &str, head: SegmentHead, rest: &[u8], at: usize) -> Result<(), Error> {
        let mut torn = false;
        for later in frame::scan(rest, head.seal) {
            torn = true;
            if later.synced >= self.next {
                let detail = format!(
                    "frame {} is damaged, though it was on disk when frame {} was written",
                    self.next, later.seq
                );
                return Err(self.corrupt(name, at, detail));
            }
        }
        // Whole frames must not be there when the log has grown up to them again. Anything else can stay.
        if torn {
            tracing::warn!(
                segment = name,
                offset = at,
                "cut off the end of the log, which was not yet on disk"
            );
            let mut file = self.disk.open(name).map_err(io_error(&*self.disk, "open", name))?;
            file.write_at(&vec![0; rest.len()], at as u64).map_err(io_error(&*self.disk, "write", name))?;
            file.sync().map_err(io_error(&*self.disk, "sync", name))?;
        }
        Ok(())
    }

    fn apply(&mut self, record: Record) {
        self.closed = false;
        match record {
            Record::Change { revision, writes } => self.change(revision, writes),
            Record::LeaseGrant { id, ttl_s, expires_ms } => {
                self.state.leases.restore(id, ttl_s, expires_ms, self.now);
            }
            Record::LeaseRevoke { id } => _ = self.state.leases.revoke(id),
            Record::LeaseRenew { id, expires_ms } => self.state.leases.set_end(id, expires_ms, self.now),
            Record::Compact { revision } => {
                self.meta.compacted = revision;
                self.history.compact(revision);
            }
            Record::Jump { from, to } => {
                self.state.revision = to;
                self.history.set_hole(from, to);
                self.meta.relaxed = false;
            }
            Record::Close => {
                self.closed = true;
                self.meta.relaxed = false;
            }
            Record::Relaxed => self.meta.relaxed = true,
            Record::RaftEntry(entry) => {
                let kept = self.raft.entries.partition_point(|kept| kept.index < entry.index);
                self.raft.entries.truncate(kept);
                self.raft.entries.push(entry);
            }
            Record::RaftVote { term, vote } => self.raft.hard_state = raft::HardState { term, vote },
            Record::RaftCommit { index } => self.raft.commit = index,
            Record::Setting { name, version, value } => {
                self.state.settings.insert(name, Setting { version, value });
            }
        }
    }

    fn change(&mut self, revision: Revision, writes: Vec<Write>) {
        let mut events = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Put { key, value, lease } => {
                    events.push(self.state.put(key, value, lease, revision, None));
                }
                Write::Delete { key } => events.extend(self.state.delete(&key, revision)),
            }
        }
        self.state.revision = revision;
        let change = Change { revision, events: events.into() };
        self.history.push(&[change], &self.state.map, self.now.instant);
    }
}
