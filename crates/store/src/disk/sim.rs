//! A disk in memory that crashes at a chosen step, keeps a random part of what was not synced, and fails on demand.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// What a disk writes as one: of a write that was not synced, each sector may survive a crash or not.
const SECTOR: usize = 512;

/// See the module. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Sim>>);

#[derive(Default)]
struct Sim {
    files: HashMap<u64, Content>,
    names: BTreeMap<String, u64>,
    /// Names as of the last sync, and what was done to them since.
    durable_names: BTreeMap<String, u64>,
    name_ops: Vec<NameOp>,
    next_file: u64,
    steps: u64,
    crash_at: Option<u64>,
    fail_syncs: bool,
    space: Option<u64>,
}

#[derive(Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

enum NameOp {
    Set(String, u64),
    Remove(String),
    Rename(String, String),
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every operation from the `step`th on fails, as if the machine had stopped there.
    pub fn crash_at(&self, step: u64) {
        self.0.lock().crash_at = Some(step);
    }

    /// How many operations have been asked for.
    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// Whether syncs fail from now on.
    pub fn fail_syncs(&self, fail: bool) {
        self.0.lock().fail_syncs = fail;
    }

    /// Files may hold this many bytes in all.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.0.lock().space = bytes;
    }

    /// The disk as the machine finds it after a crash now: what was synced, and a part of the rest that `seed` chooses.
    pub fn reboot(&self, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let old = self.0.lock();
        let mut names = old.durable_names.clone();
        let survived = if old.name_ops.is_empty() { 0 } else { rng.usize(0..=old.name_ops.len()) };
        old.name_ops[..survived].iter().for_each(|op| op.apply(&mut names));
        let mut sim =
            Sim { next_file: old.next_file, names: names.clone(), durable_names: names, ..Sim::default() };
        for id in sim.names.values() {
            let content = old.files.get(id).cloned().unwrap_or_default().after_crash(&mut rng);
            sim.files.insert(*id, content);
        }
        Self(Arc::new(Mutex::new(sim)))
    }

    /// Changes a byte of a file where it lies.
    pub fn damage(&self, name: &str, offset: u64) {
        let mut sim = self.0.lock();
        let Some(id) = sim.names.get(name).copied() else { return };
        if let Some(content) = sim.files.get_mut(&id) {
            content.now[offset as usize] ^= 0x5a;
            content.durable = content.now.clone();
        }
    }

    /// What a file holds.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let sim = self.0.lock();
        sim.names.get(name).and_then(|id| sim.files.get(id)).map(|content| content.now.clone())
    }
}

impl Sim {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.crash_at {
            Some(at) if self.steps >= at => Err(io::Error::other("the simulated machine has stopped")),
            _ => Ok(()),
        }
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn do_names(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.name_ops.push(op);
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|content| content.now.len() as u64).sum()
    }

    fn check_space(&self, more: u64) -> io::Result<()> {
        match self.space {
            Some(space) if self.used() + more > space => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, id) => _ = names.insert(name.clone(), *id),
            Self::Remove(name) => _ = names.remove(name),
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }
}

impl Content {
    fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(data);
    }

    fn after_crash(mut self, rng: &mut Rng) -> Self {
        // Some crashes lose all, some nothing, most a part.
        let keep = [0.0, 0.3, 0.7, 1.0][rng.usize(0..4)];
        for (offset, data) in std::mem::take(&mut self.unsynced) {
            let mut at = 0;
            while at < data.len() {
                let piece = (SECTOR - (offset + at) % SECTOR).min(data.len() - at);
                if rng.f64() < keep {
                    Self::write(&mut self.durable, offset + at, &data[at..at + piece]);
                }
                at += piece;
            }
        }
        self.now = self.durable.clone();
        self
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut sim = self.0.lock();
        sim.step()?;
        Ok(sim.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut sim = self.0.lock();
        sim.step()?;
        let id = sim.id(name)?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut sim = self.0.lock();
        sim.check_space(size)?;
        let id = sim.next_file;
        sim.next_file += 1;
        let zeros = vec![0; size as usize];
        sim.files.insert(id, Content { now: zeros.clone(), durable: zeros, unsynced: Vec::new() });
        sim.do_names(NameOp::Set(name.to_owned(), id));
        sim.step()?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.id(from)?;
        sim.do_names(NameOp::Rename(from.to_owned(), to.to_owned()));
        sim.step()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.id(name)?;
        sim.do_names(NameOp::Remove(name.to_owned()));
        sim.step()
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.step()?;
        sim.durable_names = sim.names.clone();
        sim.name_ops.clear();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn with<T>(&self, step: impl FnOnce(&mut Sim, &mut Content) -> io::Result<T>) -> io::Result<T> {
        let mut sim = self.disk.0.lock();
        let mut content = sim.files.remove(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let result = step(&mut sim, &mut content);
        sim.files.insert(self.id, content);
        result
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|_, content| Ok(content.now.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|sim, content| {
            sim.step()?;
            let offset = offset as usize;
            let piece = content.now.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(piece);
            Ok(())
        })
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.with(|sim, content| {
            let grows = (offset + data.len() as u64).saturating_sub(content.now.len() as u64);
            if grows > 0 {
                sim.check_space(grows + content.now.len() as u64)?;
            }
            // The step at which the machine stops may still reach the disk in part.
            Content::write(&mut content.now, offset as usize, data);
            content.unsynced.push((offset as usize, data.to_vec()));
            sim.step()
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|sim, content| {
            sim.step()?;
            if sim.fail_syncs {
                return Err(io::Error::other("the simulated disk failed"));
            }
            content.durable = content.now.clone();
            content.unsynced.clear();
            Ok(())
        })
    }
}
