//! Segments: the files that frames are appended to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::{self, Seal, u32_at, u64_at};
use super::{FORMAT, io_error};
use crate::Error;
use crate::disk::{Disk, DiskFile};

/// Bytes before a segment's first frame.
pub(super) const SEGMENT_HEADER: usize = 40;
const SEGMENT_MAGIC: &[u8; 8] = b"cortenwl";
const SPARE: &str = "spare.wal";
/// Bytes of the segment that a store begins with; a spare is made before it is full.
const FIRST_SEGMENT: u64 = 1 << 20;

pub(super) fn segment_name(id: u64) -> String {
    format!("{id:016x}.wal")
}

pub(super) fn segment_id(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".wal").filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok()
}

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) seal: Seal,
    /// The first frame that the segment holds.
    pub(super) first_seq: u64,
}

impl SegmentHead {
    fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut header = [0; SEGMENT_HEADER];
        header[..8].copy_from_slice(SEGMENT_MAGIC);
        header[8..16].copy_from_slice(&self.seal.segment.to_le_bytes());
        header[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        header[24..32].copy_from_slice(&self.seal.salt.to_le_bytes());
        header[32..36].copy_from_slice(&FORMAT.to_le_bytes());
        let crc = crc32fast::hash(&header[..36]);
        header[36..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Err: the bytes are damaged. None: nothing was written yet, so what is there is blank or of an earlier use.
    pub(super) fn parse(header: &[u8; SEGMENT_HEADER], id: u64) -> Result<Option<Self>, ()> {
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !header.starts_with(SEGMENT_MAGIC) || u32_at(header, 36) != crc32fast::hash(&header[..36]) {
            return Err(());
        }
        let seal = Seal { segment: u64_at(header, 8), salt: u64_at(header, 24) };
        Ok((seal.segment == id).then(|| Self { seal, first_seq: u64_at(header, 16) }))
    }
}

/// A segment made ahead, so that the writer need not wait for one.
#[derive(Clone)]
pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    ready: Arc<AtomicBool>,
    size: u64,
}

impl Spare {
    /// Takes over the spare among the files `names`. One that is not whole is removed.
    pub(super) fn open(disk: Arc<dyn Disk>, size: u64, names: &[String]) -> Result<Self, Error> {
        let spare = Self { disk, ready: Arc::new(AtomicBool::new(false)), size };
        if names.iter().any(|name| name == SPARE) {
            if spare.size_of(SPARE) == Some(size) {
                spare.blank(names.iter().filter_map(|name| segment_id(name)).max().unwrap_or(0))?;
                spare.ready.store(true, Ordering::Release);
            } else {
                spare.disk.remove(SPARE).map_err(io_error(&*spare.disk, "remove", SPARE))?;
            }
        }
        Ok(spare)
    }

    /// A crash may have undone that the spare became a segment after `last`, though not its header: if that were still
    /// there when it becomes the segment of that number once more, a crash at the same place would show it again.
    fn blank(&self, last: u64) -> Result<(), Error> {
        let mut file = self.disk.open(SPARE).map_err(io_error(&*self.disk, "open", SPARE))?;
        let mut header = [0; SEGMENT_HEADER];
        file.read_at(&mut header, 0).map_err(io_error(&*self.disk, "read", SPARE))?;
        if u64_at(&header, 8) <= last {
            return Ok(());
        }
        file.write_at(&[0; SEGMENT_HEADER], 0).map_err(io_error(&*self.disk, "write", SPARE))?;
        file.sync().map_err(io_error(&*self.disk, "sync", SPARE))
    }

    /// Makes one if there is none. Not called by two at once.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        if !self.ready.load(Ordering::Acquire) {
            self.disk.create(SPARE, self.size).map_err(io_error(&*self.disk, "create", SPARE))?;
            self.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Removes segments below `first`; the last of them becomes the spare if there is none.
    pub(crate) fn retire_below(&self, first: u64) -> Result<(), Error> {
        let names = self.disk.list().map_err(io_error(&*self.disk, "list", ""))?;
        let mut old: Vec<&String> = names.iter().filter(|name| segment_id(name) < Some(first)).collect();
        old.retain(|name| segment_id(name).is_some());
        old.sort();
        for name in old {
            let recycle = !self.is_ready() && self.size_of(name) == Some(self.size);
            if recycle {
                self.disk.rename(name, SPARE).map_err(io_error(&*self.disk, "rename", name))?;
                self.ready.store(true, Ordering::Release);
            } else {
                self.disk.remove(name).map_err(io_error(&*self.disk, "remove", name))?;
            }
        }
        self.disk.sync_names().map_err(io_error(&*self.disk, "sync", ""))
    }

    fn size_of(&self, name: &str) -> Option<u64> {
        self.disk.open(name).and_then(|file| file.size()).ok()
    }

    fn take(&self, size: u64) -> bool {
        size <= self.size && self.ready.swap(false, Ordering::AcqRel)
    }
}

/// The log as the writer sees it.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    spare: Spare,
    file: Box<dyn DiskFile>,
    seal: Seal,
    offset: u64,
    size: u64,
    /// The last frame written, and the last that is known to be on disk.
    seq: u64,
    synced: u64,
    /// Bytes appended since the store was opened.
    appended: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// Goes on in a segment of which `offset` bytes are in use, after frame `seq`; all of them are on disk.
    pub(super) fn resume(
        spare: Spare,
        file: Box<dyn DiskFile>,
        seal: Seal,
        offset: u64,
        seq: u64,
    ) -> Result<Self, Error> {
        let disk = spare.disk.clone();
        let size = file.size().map_err(io_error(&*disk, "stat", &segment_name(seal.segment)))?;
        Ok(Self { disk, spare, file, seal, offset, size, seq, synced: seq, appended: 0, buffer: Vec::new() })
    }

    /// Starts segment `id` for the frames after `seq`.
    pub(super) fn start(spare: Spare, id: u64, seq: u64, room: u64) -> Result<Self, Error> {
        let disk = spare.disk.clone();
        let first = FIRST_SEGMENT.min(spare.size);
        let (file, size, seal) = make_segment(&spare, id, seq + 1, room, first)?;
        let offset = SEGMENT_HEADER as u64;
        Ok(Self { disk, spare, file, seal, offset, size, seq, synced: seq, appended: 0, buffer: Vec::new() })
    }

    /// Appends a frame; it is on disk after the next [`Log::sync`]. With [`Error::NoSpace`] nothing was
    /// written; after any other error the log must not be used again.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        let need = (frame::HEADER + payload.len()).next_multiple_of(frame::ALIGN) as u64;
        if u32::try_from(payload.len()).is_err() {
            return Err(Error::TooLarge { what: "commit", size: payload.len(), limit: u32::MAX as usize });
        }
        if self.offset + need > self.size {
            self.rotate(need)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        frame::begin(&mut buffer);
        buffer.extend_from_slice(payload);
        frame::finish(&mut buffer, self.seal, self.seq + 1, self.synced);
        let name = segment_name(self.seal.segment);
        let written = self.file.write_at(&buffer, self.offset);
        buffer.shrink_to(1 << 20);
        self.buffer = buffer;
        // Space was reserved for it: whatever went wrong, the segment can no longer be relied on.
        written.map_err(|source| Error::Io {
            operation: "write",
            file: self.disk.path(&name),
            source: Arc::new(source),
        })?;
        self.seq += 1;
        self.offset += need;
        self.appended += need;
        Ok(())
    }

    /// Puts everything appended on disk.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.synced < self.seq {
            let name = segment_name(self.seal.segment);
            self.file.sync().map_err(|source| Error::Io {
                operation: "sync",
                file: self.disk.path(&name),
                source: Arc::new(source),
            })?;
            self.synced = self.seq;
        }
        Ok(())
    }

    /// Goes on in a new segment with room for a frame of `need` bytes.
    pub(crate) fn rotate(&mut self, need: u64) -> Result<(), Error> {
        self.sync()?;
        let (id, size) = (self.seal.segment + 1, self.spare.size);
        let (file, size, seal) = make_segment(&self.spare, id, self.seq + 1, need, size)?;
        self.file = file;
        self.size = size;
        self.seal = seal;
        self.offset = SEGMENT_HEADER as u64;
        Ok(())
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn segment(&self) -> u64 {
        self.seal.segment
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.seq
    }

    /// Whether less than half of the segment is left: time to have a spare.
    pub(crate) fn wants_spare(&self) -> bool {
        self.offset * 2 > self.size && !self.spare.is_ready()
    }

    pub(crate) fn spare(&self) -> &Spare {
        &self.spare
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
}

type NewSegment = (Box<dyn DiskFile>, u64, Seal);

/// The spare, or without one a segment of `size` bytes or what is needed.
fn make_segment(spare: &Spare, id: u64, first_seq: u64, room: u64, size: u64) -> Result<NewSegment, Error> {
    let disk = &*spare.disk;
    let name = segment_name(id);
    let wanted = room + SEGMENT_HEADER as u64;
    let (mut file, size) = if spare.take(wanted) {
        disk.rename(SPARE, &name).map_err(io_error(disk, "rename", SPARE))?;
        (disk.open(&name).map_err(io_error(disk, "open", &name))?, spare.size)
    } else {
        let size = size.max(wanted);
        (disk.create_soon(&name, size).map_err(io_error(disk, "create", &name))?, size)
    };
    let seal = Seal { segment: id, salt: fastrand::u64(..) };
    file.write_at(&SegmentHead { seal, first_seq }.encode(), 0).map_err(io_error(disk, "write", &name))?;
    file.sync().map_err(io_error(disk, "sync", &name))?;
    disk.sync_names().map_err(io_error(disk, "sync", ""))?;
    Ok((file, size, seal))
}
