//! Compressed header blocks. Each direction of a connection is one zlib stream, so their order matters.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;

/// The largest block after decompression.
const MAX_BLOCK_BYTES: usize = 64 << 10;
/// More names than any client sends.
const MAX_HEADERS: u32 = 256;
const CHUNK_BYTES: usize = 4 << 10;

/// Names in lower case and their values.
pub type Headers = Vec<(String, String)>;

/// The sending side.
pub struct Encoder(Compress);

/// The receiving side.
pub struct Decoder(Decompress);

impl Encoder {
    pub fn new() -> io::Result<Self> {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
        Ok(Self(zlib))
    }

    pub fn encode(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(CHUNK_BYTES);
        let start = self.0.total_in();
        loop {
            let done = (self.0.total_in() - start) as usize;
            self.0.compress_vec(&plain[done..], &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
            // Room left over means that the flush is complete.
            if out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(CHUNK_BYTES);
        }
    }
}

impl Decoder {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn decode(&mut self, block: &[u8]) -> io::Result<Headers> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(CHUNK_BYTES);
        let start = self.0.total_in();
        loop {
            let done = (self.0.total_in() - start) as usize;
            match self.0.decompress_vec(&block[done..], &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(invalid("the header stream ended")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
            let done = (self.0.total_in() - start) as usize;
            if done == block.len() && out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() >= MAX_BLOCK_BYTES {
                return Err(invalid("a header block is too large"));
            }
            out.reserve(CHUNK_BYTES);
        }
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    let count = take_number(&mut block)?;
    if count > MAX_HEADERS {
        return Err(invalid("too many headers"));
    }
    (0..count).map(|_| Ok((take_text(&mut block)?.to_ascii_lowercase(), take_text(&mut block)?))).collect()
}

fn take_number(block: &mut &[u8]) -> io::Result<u32> {
    let (number, rest) = block.split_first_chunk().ok_or_else(|| invalid("a header block is cut off"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn take_text(block: &mut &[u8]) -> io::Result<String> {
    let length = take_number(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or_else(|| invalid("a header block is cut off"))?;
    *block = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> Headers {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn blocks_follow_each_other_on_one_stream() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        let long = "x".repeat(20_000);
        for list in [
            headers(&[("streamtype", "error"), ("port", "80")]),
            headers(&[("streamtype", "data"), ("long", &long)]),
            headers(&[]),
        ] {
            let block = encoder.encode(&list).unwrap();
            assert_eq!(decoder.decode(&block).unwrap(), list);
        }
    }

    #[test]
    fn the_first_block_names_the_dictionary() {
        let block = Encoder::new().unwrap().encode(&headers(&[("a", "b")])).unwrap();
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn a_bomb_and_a_cut_block_are_refused() {
        let zeros = headers(&[("a", &"0".repeat(1 << 20))]);
        let block = Encoder::new().unwrap().encode(&zeros).unwrap();
        assert!(Decoder::new().decode(&block).is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']).is_err());
        assert!(parse(&[255; 8]).is_err());
        assert!(Decoder::new().decode(b"nonsense").is_err());
    }
}
