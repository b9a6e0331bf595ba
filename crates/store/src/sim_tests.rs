//! The writer and the recovery on a simulated disk that stops between any two steps, and on damaged files.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::ManualClock;
use fastrand::Rng;
use tokio::sync::oneshot;

use crate::checkpoint::Housekeeping;
use crate::core::{Command, Core};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::keyspace::Keyspace;
use crate::lease::Moment;
use crate::log::recover;
use crate::{
    Config, Delete, Durability, Error, KeyRange, Op, OpResult, Put, RangeOptions, Revision, Txn, TxnResult,
};

type Contents = BTreeMap<String, u64>;

struct Store {
    core: Core,
    keyspace: Arc<Keyspace>,
    clock: Arc<ManualClock>,
}

fn config() -> Config {
    Config { segment_bytes: 2048, checkpoint_bytes: 6000, ..Config::new("") }
}

fn open(disk: &SimDisk) -> Result<Store, Error> {
    let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)));
    let config = config();
    let found = recover(Arc::new(disk.clone()), config.segment_bytes, config.history, Moment::of(&*clock))?;
    let parts = crate::embedded::parts(found, &config, clock.clone(), Housekeeping::inline());
    let keyspace = parts.keyspace.clone();
    Ok(Store { core: Core::new(parts, Arc::default()), keyspace, clock })
}

impl Store {
    fn contents(&self, revision: Revision) -> Result<Contents, Error> {
        let options = RangeOptions { revision, ..RangeOptions::default() };
        let read = self.keyspace.range(&KeyRange::all(), options)?;
        Ok(read.entries.iter().map(|e| (e.key.to_string(), token(&e.value))).collect())
    }

    fn txn(&mut self, txn: Txn) -> Result<TxnResult, Error> {
        let (reply, mut answer) = oneshot::channel();
        self.core.step(&mut VecDeque::from([Command::Txn(txn, reply)]));
        answer.try_recv().unwrap()
    }

    fn put(&mut self, key: &str, token: u64) -> Result<TxnResult, Error> {
        self.txn(Txn::of(put(key, token)))
    }

    fn close(mut self) {
        let (reply, mut answer) = oneshot::channel();
        self.core.step(&mut VecDeque::from([Command::Close(reply)]));
        answer.try_recv().unwrap().unwrap();
    }
}

fn put(key: &str, token: u64) -> Op {
    let mut value = token.to_le_bytes().to_vec();
    value.resize(8 + (token % 90) as usize, 7);
    Op::Put(Put::new(key, value))
}

fn token(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

/// What a client knows: every state in the order of its requests, and how far they were answered.
#[derive(Default)]
struct Client {
    states: Vec<Contents>,
    /// The last state known to be durable, and the newest revision ever seen in an answer.
    durable: usize,
    seen: Revision,
    by_revision: BTreeMap<Revision, Contents>,
    next_token: u64,
}

impl Client {
    fn request(&mut self, rng: &mut Rng) -> Txn {
        let mut state = self.states.last().unwrap().clone();
        self.next_token += 1;
        let mut key = || format!("k{}", rng.u8(0..9));
        let ops = match self.next_token % 5 {
            0 => {
                let key = key();
                state.remove(&key);
                vec![Op::Delete(Delete { range: KeyRange::single(key) })]
            }
            1 => ["a", "b", "c"]
                .map(|key| (state.insert(key.to_owned(), self.next_token), put(key, self.next_token)).1)
                .into(),
            _ => {
                let key = key();
                state.insert(key.clone(), self.next_token);
                vec![put(&key, self.next_token)]
            }
        };
        self.states.push(state);
        let durability = if rng.u8(0..4) == 0 { Durability::Relaxed } else { Durability::Synced };
        Txn { then: ops, durability, ..Txn::default() }
    }

    fn answered(&mut self, index: usize, relaxed: bool, result: &TxnResult) {
        let changed = !matches!(&result.results[0], OpResult::Delete { deleted } if deleted.is_empty());
        assert!(!changed || result.revision > self.seen, "revision {} given twice", result.revision);
        self.seen = self.seen.max(result.revision);
        // What changes nothing says nothing of the relaxed writes before it.
        if !relaxed && changed {
            self.durable = self.durable.max(index);
        }
        self.by_revision.insert(result.revision, self.states[index].clone());
    }

    /// Compares with what is there after a crash, and goes on from it.
    fn recovered(&mut self, store: &Store) {
        let found = store.contents(Revision::ZERO).unwrap();
        let kept = self.states[self.durable..].iter().rposition(|state| *state == found);
        let kept = self.durable
            + kept.unwrap_or_else(|| panic!("{found:?} is no state since {:?}", self.states[self.durable]));
        self.states.truncate(kept + 1);
        self.durable = kept;
        assert!(store.keyspace.state().revision >= self.seen, "the revision went back");
        self.check_past(store);
        self.seen = store.keyspace.state().revision;
        self.by_revision.retain(|_, state| self.states.contains(state));
    }

    fn check_past(&self, store: &Store) {
        for (revision, state) in &self.by_revision {
            match store.contents(*revision) {
                // What was relaxed may be gone, but then nobody is told of it.
                Ok(found) if self.states.contains(state) => assert_eq!(found, *state, "at {revision}"),
                Ok(_) => panic!("a state that was lost can be read at {revision}"),
                Err(Error::Compacted { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// One machine with several lives.
fn live(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut disk = SimDisk::new();
    let mut client = Client { states: vec![Contents::new()], ..Client::default() };
    for _ in 0..4 {
        disk.crash_at(disk.steps() + rng.u64(1..160));
        if let Ok(mut store) = open(&disk) {
            client.recovered(&store);
            while run_batch(&mut store, &mut client, &mut rng) {}
        }
        disk = disk.reboot(rng.u64(..));
    }
    let store = open(&disk).unwrap();
    client.recovered(&store);
    store.close();
    let written = disk.list().unwrap().iter().map(|name| disk.content(name)).collect::<Vec<_>>();
    open(&disk).unwrap().close();
    let after = disk.list().unwrap().iter().map(|name| disk.content(name)).collect::<Vec<_>>();
    assert!(written == after, "an idle run wrote");
}

/// False when the machine has stopped.
fn run_batch(store: &mut Store, client: &mut Client, rng: &mut Rng) -> bool {
    let mut commands = VecDeque::new();
    let mut answers = Vec::new();
    for _ in 0..rng.u8(1..4) {
        let txn = client.request(rng);
        let relaxed = txn.durability == Durability::Relaxed;
        let (reply, answer) = oneshot::channel();
        commands.push_back(Command::Txn(txn, reply));
        answers.push((client.states.len() - 1, relaxed, answer));
    }
    store.clock.advance(Duration::from_millis(rng.u64(0..400)));
    store.core.step(&mut commands);
    let mut alive = true;
    for (index, relaxed, mut answer) in answers {
        match answer.try_recv().unwrap() {
            Ok(result) => client.answered(index, relaxed, &result),
            Err(_) => alive = false,
        }
    }
    alive
}

#[test]
fn no_crash_loses_an_answered_write() {
    for seed in 0..400 {
        let result = std::panic::catch_unwind(|| live(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn damage_before_the_end_is_refused_with_its_place() {
    let disk = SimDisk::new();
    let mut store = open(&disk).unwrap();
    (0..12).for_each(|n| _ = store.put("key", n).unwrap());
    drop(store);
    let segment = "0000000000000001.wal";
    let bytes = disk.content(segment).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() as u64;
    for offset in 0..end {
        let copy = disk.reboot(0);
        copy.damage(segment, offset);
        match open(&copy) {
            Err(Error::Corrupt { file, offset: at, .. }) => {
                assert!(at <= offset && file.ends_with(segment), "{at} {offset} {file:?}");
            }
            Err(other) => panic!("{offset}: {other}"),
            // Padding says nothing, and only the last frame may be taken for one that was never finished.
            Ok(store) => {
                let last = store.contents(Revision::ZERO).unwrap()["key"];
                assert!(last == 11 || (last == 10 && offset > end - 120), "{offset}: {last}");
            }
        }
    }
}

#[test]
fn a_missing_or_damaged_file_is_refused() {
    let disk = SimDisk::new();
    let mut store = open(&disk).unwrap();
    (0..400).for_each(|n| _ = store.put(&format!("key{}", n % 50), n).unwrap());
    store.close();
    let names = disk.list().unwrap();
    assert!(names.iter().any(|name| name.ends_with(".snapshot")), "{names:?}");
    let segments: Vec<&String> =
        names.iter().filter(|name| name.ends_with(".wal") && !name.starts_with("spare")).collect();
    assert!(segments.len() < 12, "old segments are removed: {segments:?}");
    // That there was another segment after the last one is told by nothing but itself.
    for name in names.iter().filter(|name| *name != "spare.wal" && Some(name) != segments.last()) {
        let copy = disk.reboot(0);
        copy.remove(name).unwrap();
        let refused = open(&copy).err().unwrap_or_else(|| panic!("opened without {name}"));
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    }
    let snapshot = names.iter().find(|name| name.ends_with(".snapshot")).unwrap();
    for offset in (0..disk.content(snapshot).unwrap().len() as u64).filter(|at| !(12..16).contains(at)) {
        let copy = disk.reboot(0);
        copy.damage(snapshot, offset);
        assert!(matches!(open(&copy), Err(Error::Corrupt { .. })), "byte {offset}");
    }
}

#[test]
fn another_format_is_refused() {
    let disk = SimDisk::new();
    open(&disk).unwrap().close();
    disk.create("FORMAT", 0).unwrap().write_at(b"2\n", 0).unwrap();
    let refused = open(&disk).err().unwrap();
    assert_eq!(refused.to_string(), "/simulated/ holds store format 2, this program reads format 1 only");
}

#[test]
fn after_a_failed_sync_no_write_is_taken_and_reads_go_on() {
    let disk = SimDisk::new();
    let mut store = open(&disk).unwrap();
    store.put("a", 1).unwrap();
    disk.fail_syncs(true);
    assert!(matches!(store.put("a", 2), Err(Error::Io { operation: "sync", .. })));
    disk.fail_syncs(false);
    assert!(matches!(store.put("a", 3), Err(Error::Failed(_))));
    assert_eq!(store.contents(Revision::ZERO).unwrap()["a"], 1);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    let disk = SimDisk::new();
    let mut store = open(&disk).unwrap();
    disk.limit_space(Some(6000));
    let mut written = 0;
    let refused = loop {
        match store.put("a", written + 1) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
    assert_eq!(store.contents(Revision::ZERO).unwrap()["a"], written);
    disk.limit_space(None);
    store.put("a", 1000).unwrap();
    drop(store);
    assert_eq!(open(&disk.reboot(1)).unwrap().contents(Revision::ZERO).unwrap()["a"], 1000);
}

#[test]
fn relaxed_writes_reach_the_disk_within_their_time() {
    let disk = SimDisk::new();
    let mut store = open(&disk).unwrap();
    let relaxed = |n| Txn { durability: Durability::Relaxed, ..Txn::of(put("lease", n)) };
    store.txn(relaxed(1)).unwrap();
    store.txn(relaxed(2)).unwrap();
    let due = store.core.deadline().unwrap();
    store.clock.advance(due.saturating_duration_since(base::Clock::instant(&*store.clock)));
    store.core.step(&mut VecDeque::new());
    assert_eq!(store.core.deadline(), None);
    // Whatever a crash takes, it does not take what was synced; and no revision comes twice.
    let seen = store.txn(relaxed(3)).unwrap().revision;
    for seed in 0..20 {
        let mut again = open(&disk.reboot(seed)).unwrap();
        assert!(again.contents(Revision::ZERO).unwrap()["lease"] >= 2);
        assert!(again.put("x", 1).unwrap().revision > seen);
    }
}
