//! Snapshots: a whole state in one file of checksummed chunks.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::frame::u32_at;
use super::record::{Reader, put_bytes, put_number};
use super::{FORMAT, TEMPORARY, io_error};
use crate::disk::Disk;
use crate::lease::Moment;
use crate::state::State;
use crate::{Entry, Error, Key, Revision, Setting};

const MAGIC: &[u8; 8] = b"cortensn";
const HEADER: usize = 16;
/// Chunks are closed when they are this large.
const CHUNK: usize = 256 * 1024;
/// Bytes before a chunk's content: its length and checksum.
const CHUNK_HEADER: usize = 8;
/// A chunk is closed with the entry that makes it large enough, and an entry is far below this.
const MAX_CHUNK: usize = 64 << 20;
/// Bytes written between two syncs, so that the log's own syncs never wait for a whole snapshot.
const SYNC_EVERY: u64 = 8 << 20;
/// Bytes read at once.
const READ: usize = 1 << 20;
const DAMAGED: &str = "a chunk is damaged or missing";

const META: u8 = 0;
const LEASES: u8 = 1;
const ENTRIES: u8 = 2;
const END: u8 = 3;
const SETTINGS: u8 = 4;

/// What a snapshot says beside the entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SnapshotMeta {
    /// The last frame whose effect it holds.
    pub(crate) seq: u64,
    /// The history given up by request.
    pub(crate) compacted: Revision,
    /// Whether relaxed writes may have been answered since the store was opened.
    pub(crate) relaxed: bool,
}

pub(super) fn snapshot_name(seq: u64) -> String {
    format!("{seq:016x}.snapshot")
}

pub(super) fn snapshot_seq(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".snapshot").filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok()
}

/// Writes chunks one after the other; each one's checksum begins with its number, so none can take another's place.
struct Chunks<'a> {
    sink: &'a mut dyn FnMut(Vec<u8>) -> Result<(), Error>,
    number: u32,
    buffer: Vec<u8>,
}

impl Chunks<'_> {
    fn write(&mut self, tag: u8) -> Result<(), Error> {
        let mut chunk = Vec::with_capacity(self.buffer.len() + 9);
        chunk.extend_from_slice(&(self.buffer.len() as u32 + 1).to_le_bytes());
        chunk.extend_from_slice(&[0; 4]);
        chunk.push(tag);
        chunk.append(&mut self.buffer);
        let crc = chunk_crc(self.number, &chunk[8..]);
        chunk[4..8].copy_from_slice(&crc.to_le_bytes());
        self.number += 1;
        (self.sink)(chunk)
    }
}

fn chunk_crc(number: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// Writes a snapshot and makes it durable; older ones are removed then.
pub(crate) fn write_snapshot(disk: &dyn Disk, state: &State, meta: SnapshotMeta) -> Result<(), Error> {
    let name = snapshot_name(meta.seq);
    let temporary = format!("{name}{TEMPORARY}");
    let mut file = disk.create(&temporary, 0).map_err(io_error(disk, "create", &temporary))?;
    let (mut offset, mut synced) = (0, 0);
    encode_snapshot(state, meta, &mut |bytes| {
        file.write_at(&bytes, offset).map_err(io_error(disk, "write", &temporary))?;
        offset += bytes.len() as u64;
        if offset - synced >= SYNC_EVERY {
            file.sync().map_err(io_error(disk, "sync", &temporary))?;
            synced = offset;
        }
        Ok(())
    })?;
    file.sync().map_err(io_error(disk, "sync", &temporary))?;
    disk.rename(&temporary, &name).map_err(io_error(disk, "rename", &temporary))?;
    disk.sync_names().map_err(io_error(disk, "sync", ""))?;
    let names = disk.list().map_err(io_error(disk, "list", ""))?;
    for old in names.iter().filter(|other| snapshot_seq(other).is_some_and(|seq| seq < meta.seq)) {
        disk.remove(old).map_err(io_error(disk, "remove", old))?;
    }
    Ok(())
}

/// Gives the bytes of a snapshot piece by piece to `sink`, whose error ends it.
pub(crate) fn encode_snapshot(
    state: &State,
    meta: SnapshotMeta,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut header = vec![0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    sink(header)?;
    write_chunks(&mut Chunks { sink, number: 0, buffer: Vec::new() }, state, meta)
}

fn write_chunks(chunks: &mut Chunks<'_>, state: &State, meta: SnapshotMeta) -> Result<(), Error> {
    for number in [meta.seq, state.revision.0, meta.compacted.0, u64::from(meta.relaxed)] {
        put_number(&mut chunks.buffer, number);
    }
    chunks.write(META)?;
    for (id, ttl_s, ends_ms) in state.leases.durable() {
        [id.0, ttl_s, ends_ms].iter().for_each(|number| put_number(&mut chunks.buffer, *number as u64));
        if chunks.buffer.len() >= CHUNK {
            chunks.write(LEASES)?;
        }
    }
    chunks.write(LEASES)?;
    for (name, setting) in &state.settings {
        put_bytes(&mut chunks.buffer, name);
        put_number(&mut chunks.buffer, setting.version);
        put_bytes(&mut chunks.buffer, &setting.value);
        chunks.write(SETTINGS)?;
    }
    for entry in state.map.values() {
        put_bytes(&mut chunks.buffer, &entry.key);
        put_bytes(&mut chunks.buffer, &entry.value);
        let rest = [entry.create_revision.0, entry.mod_revision.0, entry.version, entry.lease.0 as u64];
        rest.iter().for_each(|number| put_number(&mut chunks.buffer, *number));
        if chunks.buffer.len() >= CHUNK {
            chunks.write(ENTRIES)?;
        }
    }
    chunks.write(ENTRIES)?;
    put_number(&mut chunks.buffer, state.map.len() as u64);
    chunks.write(END)
}

/// Reads a snapshot piece by piece, so that only the state is ever in memory.
pub(super) fn read_snapshot(
    disk: &dyn Disk,
    name: &str,
    now: Moment,
) -> Result<(State, SnapshotMeta), Error> {
    let file = disk.open(name).map_err(io_error(disk, "open", name))?;
    let size = file.size().map_err(io_error(disk, "stat", name))?;
    let mut decoder = SnapshotDecoder::new(&disk.path(name), now);
    let mut piece = vec![0; READ];
    let mut at = 0;
    while at < size {
        let length = (size - at).min(READ as u64);
        let piece = &mut piece[..length as usize];
        file.read_at(piece, at).map_err(io_error(disk, "read", name))?;
        decoder.push(piece)?;
        at += length;
    }
    let (state, meta, end) = decoder.finish()?;
    if end == size {
        return Ok((state, meta));
    }
    let detail = "something follows the end".to_owned();
    Err(Error::Corrupt { file: disk.path(name), offset: end, detail })
}

/// Reads a snapshot from its bytes, which came from `file`; gives where it ends as well.
pub(crate) fn decode_snapshot(
    bytes: &[u8],
    file: &Path,
    now: Moment,
) -> Result<(State, SnapshotMeta, usize), Error> {
    let mut decoder = SnapshotDecoder::new(file, now);
    decoder.push(bytes)?;
    let (state, meta, end) = decoder.finish()?;
    Ok((state, meta, end as usize))
}

/// Makes a state of the pieces of a snapshot, however they are cut.
pub(crate) struct SnapshotDecoder {
    /// Where the pieces come from, for messages.
    file: PathBuf,
    now: Moment,
    state: State,
    meta: SnapshotMeta,
    /// The beginning of a chunk whose end has not come yet.
    rest: Vec<u8>,
    /// Where it lies in the file, and its number. None: the header has not come yet.
    at: u64,
    number: Option<u32>,
    ended: bool,
}

impl SnapshotDecoder {
    pub(crate) fn new(file: &Path, now: Moment) -> Self {
        let (state, meta) = (State::default(), SnapshotMeta::default());
        let (file, rest) = (file.to_owned(), Vec::new());
        Self { file, now, state, meta, rest, at: 0, number: None, ended: false }
    }

    fn corrupt(&self, detail: &str) -> Error {
        Error::Corrupt { file: self.file.clone(), offset: self.at, detail: detail.to_owned() }
    }

    /// Takes the next piece; what comes after the end is not looked at.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; nothing that comes after is of use.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> Result<(), Error> {
        // A chunk that came in several pieces is put together; all others are read where they are.
        while !self.rest.is_empty() && !self.ended {
            let Some(missing) = self.missing(&self.rest)? else {
                let rest = std::mem::take(&mut self.rest);
                self.take(&rest)?;
                continue;
            };
            if piece.is_empty() {
                return Ok(());
            }
            let (now, later) = piece.split_at(missing.min(piece.len()));
            self.rest.extend_from_slice(now);
            piece = later;
        }
        while !self.ended && !piece.is_empty() {
            if self.missing(piece)?.is_some() {
                self.rest.extend_from_slice(piece);
                return Ok(());
            }
            piece = &piece[self.take(piece)?..];
        }
        Ok(())
    }

    /// How many bytes the header or chunk that `bytes` begin with lacks, as far as can be said; none if it is whole.
    fn missing(&self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let wanted = match (self.number, bytes.first_chunk()) {
            (None, _) => HEADER,
            (Some(_), None) => CHUNK_HEADER,
            (Some(_), Some(length)) => CHUNK_HEADER + self.chunk_length(*length)?,
        };
        Ok(wanted.checked_sub(bytes.len()).filter(|missing| *missing > 0))
    }

    fn chunk_length(&self, length: [u8; 4]) -> Result<usize, Error> {
        match u32::from_le_bytes(length) as usize {
            0 => Err(self.corrupt(DAMAGED)),
            length if length > MAX_CHUNK => Err(self.corrupt(DAMAGED)),
            length => Ok(length),
        }
    }

    /// Takes the header or chunk that is whole in `bytes`; gives its length.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let Some(number) = self.number else {
            if !bytes.starts_with(MAGIC) || u32_at(bytes, 8) != FORMAT {
                return Err(self.corrupt("this is not a snapshot of this format"));
            }
            (self.at, self.number) = (HEADER as u64, Some(0));
            return Ok(HEADER);
        };
        let chunk = chunk(bytes, number).ok_or_else(|| self.corrupt(DAMAGED))?;
        let mut reader = Reader(&chunk[1..]);
        if chunk[0] == END {
            if reader.number() != Some(self.state.map.len() as u64) {
                return Err(self.corrupt("entries are missing"));
            }
            self.ended = true;
        }
        while !self.ended && !reader.0.is_empty() {
            read_item(chunk[0], &mut reader, &mut self.state, &mut self.meta, self.now)
                .ok_or_else(|| self.corrupt("a chunk has content that is not of the format"))?;
        }
        let length = CHUNK_HEADER + chunk.len();
        self.at += length as u64;
        self.number = Some(number + 1);
        Ok(length)
    }

    /// The state, and how many bytes it took.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the end has not come.
    pub(crate) fn finish(self) -> Result<(State, SnapshotMeta, u64), Error> {
        match (self.ended, self.number) {
            (true, _) => Ok((self.state, self.meta, self.at)),
            (false, None) => Err(self.corrupt("this is not a snapshot of this format")),
            (false, Some(_)) => Err(self.corrupt(DAMAGED)),
        }
    }
}

fn chunk(bytes: &[u8], number: u32) -> Option<&[u8]> {
    let head = bytes.get(..CHUNK_HEADER)?;
    let content = bytes.get(CHUNK_HEADER..CHUNK_HEADER + u32_at(head, 0) as usize)?;
    (!content.is_empty() && chunk_crc(number, content) == u32_at(head, 4)).then_some(content)
}

fn read_item(
    tag: u8,
    reader: &mut Reader<'_>,
    state: &mut State,
    meta: &mut SnapshotMeta,
    now: Moment,
) -> Option<()> {
    match tag {
        META => {
            meta.seq = reader.number()?;
            state.revision = reader.revision()?;
            meta.compacted = reader.revision()?;
            meta.relaxed = reader.number()? != 0;
        }
        LEASES => {
            let id = reader.lease()?;
            let ttl_s = reader.number()? as i64;
            state.leases.restore(id, ttl_s, reader.number()? as i64, now);
        }
        ENTRIES => {
            let key = Key::from(reader.bytes()?);
            let value = Bytes::copy_from_slice(reader.bytes()?);
            let at = (reader.revision()?, reader.revision()?, reader.number()?);
            state.restore(Entry::new(key, value, at, reader.lease()?));
        }
        SETTINGS => {
            let name = Key::from(reader.bytes()?);
            let version = reader.number()?;
            let value = Bytes::copy_from_slice(reader.bytes()?);
            state.settings.insert(name, Setting { version, value });
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaseId;

    #[test]
    fn a_state_comes_back_however_its_snapshot_is_cut() {
        let now = Moment::of(&*base::system_clock());
        let mut state = State { revision: Revision(9), ..State::default() };
        state.leases.grant(LeaseId(4), 60, now);
        for number in 0..3000_u64 {
            let (key, value) = (Key::from(format!("key/{number:05}")), Bytes::from(vec![number as u8; 300]));
            let lease = LeaseId(if number % 7 == 0 { 4 } else { 0 });
            state.restore(Entry::new(key, value, (Revision(1), Revision(2), number), lease));
        }
        let meta = SnapshotMeta { seq: 5, compacted: Revision(3), relaxed: true };
        let mut bytes = Vec::new();
        let encoded = encode_snapshot(&state, meta, &mut |piece| {
            bytes.extend(piece);
            Ok(())
        });
        encoded.unwrap();
        for size in [1, 13, 300_000, bytes.len()] {
            let mut decoder = SnapshotDecoder::new(Path::new("x"), now);
            bytes.chunks(size).for_each(|piece| decoder.push(piece).unwrap());
            let (read, read_meta, end) = decoder.finish().unwrap();
            assert_eq!((read_meta, end), (meta, bytes.len() as u64), "in pieces of {size}");
            assert_eq!((read.revision, read.bytes), (state.revision, state.bytes));
            assert!(read.map == state.map);
            assert_eq!(
                read.leases.status(LeaseId(4), now.instant),
                state.leases.status(LeaseId(4), now.instant)
            );
        }
        let mut short = SnapshotDecoder::new(Path::new("x"), now);
        short.push(&bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(short.finish(), Err(Error::Corrupt { .. })));
        bytes[400_000] ^= 1;
        let mut damaged = SnapshotDecoder::new(Path::new("x"), now);
        assert!(matches!(damaged.push(&bytes), Err(Error::Corrupt { .. })));
    }
}
