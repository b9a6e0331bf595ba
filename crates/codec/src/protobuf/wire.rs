//! Tags, varints and lengths.

use crate::Error;

/// Wire types.
pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// Appends a varint.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's tag.
pub(super) fn put_tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | wire), out);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_tag(number, BYTES, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a varint field.
pub(super) fn put_int(number: u32, value: i64, out: &mut Vec<u8>) {
    put_tag(number, VARINT, out);
    // Negative numbers take ten bytes, for 32-bit ones too.
    put_varint(value as u64, out);
}

/// Appends a message field whose content `write` appends.
pub(super) fn put_message<E>(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(number, BYTES, out);
    out.push(0);
    let start = out.len();
    write(out)?;
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return Ok(());
    }
    // Most messages are short; the others move once to make room for their length.
    let mut prefix = Vec::with_capacity(5);
    put_varint(length as u64, &mut prefix);
    let extra = prefix.len() - 1;
    out.resize(out.len() + extra, 0);
    out.copy_within(start..start + length, start + extra);
    out[start - 1..start + extra].copy_from_slice(&prefix);
    Ok(())
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Reads fields one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and payload; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0).ok_or_else(|| wrong("illegal tag"))?;
        let payload = match (tag & 7) as u32 {
            VARINT => Payload::Varint(self.varint()?),
            FIXED64 => {
                let bytes = self.take(8)?;
                Payload::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| wrong("unexpected EOF"))?))
            }
            BYTES => {
                let length = usize::try_from(self.varint()?).map_err(|_| wrong("negative length"))?;
                Payload::Bytes(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                Payload::Fixed32
            }
            other => return Err(wrong(&format!("illegal wireType {other}"))),
        };
        Ok(Some((number, payload)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| wrong("unexpected EOF"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(wrong(if self.rest.len() >= 10 { "integer overflow" } else { "unexpected EOF" }))
    }
}

pub(super) fn wrong(reason: &str) -> Error {
    Error::Protobuf(format!("proto: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_get_long_lengths() {
        for length in [0, 127, 128, 300, 20_000] {
            let mut out = vec![0xff];
            let write = |out: &mut Vec<u8>| {
                out.resize(out.len() + length, 7);
                Ok::<(), Error>(())
            };
            put_message(3, &mut out, write).unwrap();
            let mut fields = Fields::new(&out[1..]);
            assert!(matches!(fields.next(), Ok(Some((3, Payload::Bytes(b)))) if b.len() == length));
            assert!(matches!(fields.next(), Ok(None)));
        }
    }

    #[test]
    fn torn_input_is_an_error() {
        for bytes in [&[0x0a][..], &[0x0a, 5, 1], &[0x80], &[0x09, 1], &[0x0b], &[0xff; 11]] {
            assert!(Fields::new(bytes).next().is_err());
        }
    }
}
