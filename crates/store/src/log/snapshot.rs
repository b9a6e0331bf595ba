//! Snapshots: a whole state in one file of checksummed chunks.

use std::path::Path;

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
    let mut offset = 0;
    encode_snapshot(state, meta, &mut |bytes| {
        file.write_at(&bytes, offset).map_err(io_error(disk, "write", &temporary))?;
        offset += bytes.len() as u64;
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

/// Reads a snapshot.
pub(super) fn read_snapshot(
    disk: &dyn Disk,
    name: &str,
    now: Moment,
) -> Result<(State, SnapshotMeta), Error> {
    let bytes = super::recover::read_file(disk, name)?;
    let (state, meta, end) = decode_snapshot(&bytes, &disk.path(name), now)?;
    if end == bytes.len() {
        return Ok((state, meta));
    }
    let detail = "something follows the end".to_owned();
    Err(Error::Corrupt { file: disk.path(name), offset: end as u64, detail })
}

/// Reads a snapshot from its bytes, which came from `file`; gives where it ends as well.
pub(crate) fn decode_snapshot(
    bytes: &[u8],
    file: &Path,
    now: Moment,
) -> Result<(State, SnapshotMeta, usize), Error> {
    let corrupt = |offset: usize, detail: &str| Error::Corrupt {
        file: file.to_owned(),
        offset: offset as u64,
        detail: detail.to_owned(),
    };
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) || u32_at(bytes, 8) != FORMAT {
        return Err(corrupt(0, "this is not a snapshot of this format"));
    }
    let (mut state, mut meta) = (State::default(), SnapshotMeta::default());
    let (mut at, mut number) = (HEADER, 0);
    loop {
        let chunk = chunk(bytes, at, number).ok_or_else(|| corrupt(at, "a chunk is damaged or missing"))?;
        let mut reader = Reader(&chunk[1..]);
        let next = at + 8 + chunk.len();
        if chunk[0] == END {
            let whole = reader.number() == Some(state.map.len() as u64);
            return if whole { Ok((state, meta, next)) } else { Err(corrupt(at, "entries are missing")) };
        }
        while !reader.0.is_empty() {
            read_item(chunk[0], &mut reader, &mut state, &mut meta, now)
                .ok_or_else(|| corrupt(at, "a chunk has content that is not of the format"))?;
        }
        at = next;
        number += 1;
    }
}

fn chunk(bytes: &[u8], at: usize, number: u32) -> Option<&[u8]> {
    let head = bytes.get(at..at + 8)?;
    let content = bytes.get(at + 8..at + 8 + u32_at(head, 0) as usize)?;
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
