//! Frames: the units that a log is written and synced in, and how they are told from what else lies in a segment.

/// Bytes before a frame's payload.
pub(super) const HEADER: usize = 40;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;
const MAGIC: u32 = 0x3146_5743;

/// What marks the frames of one use of one segment. The salt keeps stored values from posing as frames: a client that
/// does not know it cannot make the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) segment: u64,
    pub(super) salt: u64,
}

impl Seal {
    fn crc(self, header: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.salt.to_le_bytes());
        hasher.update(header);
        hasher.finalize()
    }
}

/// A frame as found on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Its place in the log; the first is 1.
    pub(super) seq: u64,
    /// All frames up to this one were on disk before this one was written.
    pub(super) synced: u64,
    pub(super) payload: &'a [u8],
    /// With header and padding.
    pub(super) size: usize,
}

/// Room for the header, to begin a frame with.
pub(super) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER, 0);
}

/// Completes the frame whose payload was put into the buffer after [`begin`].
pub(super) fn finish(buffer: &mut Vec<u8>, seal: Seal, seq: u64, synced: u64) {
    let length = (buffer.len() - HEADER) as u32;
    let payload_crc = crc32fast::hash(&buffer[HEADER..]);
    buffer[..4].copy_from_slice(&MAGIC.to_le_bytes());
    buffer[4..8].copy_from_slice(&length.to_le_bytes());
    buffer[8..16].copy_from_slice(&seal.segment.to_le_bytes());
    buffer[16..24].copy_from_slice(&seq.to_le_bytes());
    buffer[24..32].copy_from_slice(&synced.to_le_bytes());
    buffer[32..36].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = seal.crc(&buffer[..36]);
    buffer[36..40].copy_from_slice(&header_crc.to_le_bytes());
    buffer.resize(buffer.len().next_multiple_of(ALIGN), 0);
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The whole and undamaged frame of this segment at the start of `bytes`, if there is one.
pub(super) fn parse(bytes: &[u8], seal: Seal) -> Option<Frame<'_>> {
    let header = bytes.get(..HEADER)?;
    let genuine = u32_at(header, 0) == MAGIC
        && u64_at(header, 8) == seal.segment
        && u32_at(header, 36) == seal.crc(&header[..36]);
    if !genuine {
        return None;
    }
    let length = u32_at(header, 4) as usize;
    let payload = bytes.get(HEADER..HEADER + length)?;
    (crc32fast::hash(payload) == u32_at(header, 32)).then(|| Frame {
        seq: u64_at(header, 16),
        synced: u64_at(header, 24),
        payload,
        size: (HEADER + length).next_multiple_of(ALIGN),
    })
}

/// Every whole frame of this segment in `bytes` (from an aligned offset on), whatever lies between.
pub(super) fn scan(bytes: &[u8], seal: Seal) -> impl Iterator<Item = Frame<'_>> {
    let magic = MAGIC.to_le_bytes();
    let starts = (0..bytes.len().saturating_sub(HEADER)).step_by(ALIGN);
    starts.filter(move |at| bytes[*at..*at + 4] == magic).filter_map(move |at| parse(&bytes[at..], seal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_of_the_segment_count() {
        let mut buffer = Vec::new();
        begin(&mut buffer);
        buffer.extend_from_slice(b"hello");
        let seal = Seal { segment: 7, salt: 99 };
        finish(&mut buffer, seal, 3, 2);
        let frame = parse(&buffer, seal).unwrap();
        assert_eq!((frame.seq, frame.synced, frame.payload, frame.size), (3, 2, &b"hello"[..], 48));
        assert_eq!(parse(&buffer, Seal { segment: 8, salt: 99 }), None);
        assert_eq!(parse(&buffer, Seal { segment: 7, salt: 98 }), None);
        for at in 0..45 {
            let mut bad = buffer.clone();
            bad[at] ^= 1;
            assert_eq!(parse(&bad, seal), None, "byte {at}");
        }
        let mut area = vec![0; 64];
        area.extend_from_slice(&buffer);
        area.resize(256, 0);
        assert_eq!(scan(&area, seal).map(|f| f.seq).collect::<Vec<_>>(), [3]);
    }
}
