//! Layers come plain, gzipped or zstd-compressed; what they are is told by how they begin, as labels may lie.

use std::io::{self, BufReader, Read};

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BUFFER_BYTES: usize = 128 << 10;

/// The uncompressed content of `compressed`.
pub fn decompress(compressed: impl Read + 'static) -> Result<Box<dyn Read>> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, compressed);
    let failed = |e: io::Error| Error::Image(format!("read layer: {e}"));
    let start = io::BufRead::fill_buf(&mut reader).map_err(failed)?;
    if start.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if start.starts_with(&ZSTD_MAGIC) {
        return Ok(Box::new(zstd::Decoder::with_buffer(reader).map_err(failed)?));
    }
    Ok(Box::new(reader))
}

/// True if [`decompress`] would change it.
pub fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(&GZIP_MAGIC) || start.starts_with(&ZSTD_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn all_forms_are_read() {
        let text = b"some layer".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        for form in [text.clone(), gzip.finish().unwrap(), zstd::encode_all(&text[..], 1).unwrap()] {
            let mut out = Vec::new();
            decompress(io::Cursor::new(form)).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == text);
        }
    }
}
