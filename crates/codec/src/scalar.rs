//! Strings with a meaning, in canonical form: quantities, times, durations, base64.

use base::Quantity;
use schema::Value;

use crate::Error;
use crate::time::{self, Layout};

/// A canonical quantity.
pub(crate) fn quantity(text: &str) -> Result<Value, Error> {
    // Small whole numbers are canonical as they stand; most quantities in requests are not, but most stored ones are.
    Quantity::parse(text).map(|q| Value::from(q.to_string())).map_err(|e| Error::Type(e.to_string()))
}

/// A time in whole seconds, UTC.
pub(crate) fn time(text: &str) -> Result<Value, Error> {
    let (seconds, _) = time::parse(text, Layout::Seconds).map_err(Error::Type)?;
    Ok(Value::from(time::format(seconds)))
}

/// A time in microseconds, UTC.
pub(crate) fn micro_time(text: &str) -> Result<Value, Error> {
    let (seconds, nanos) = time::parse(text, Layout::Micros).map_err(Error::Type)?;
    Ok(Value::from(time::format_micro(seconds, nanos)))
}

/// A duration as Go prints one.
pub(crate) fn duration(text: &str) -> Result<Value, Error> {
    Ok(Value::from(time::format_duration(time::parse_duration(text).map_err(Error::Type)?)))
}

/// Base64 without line breaks.
pub(crate) fn bytes(text: &str) -> Result<Value, Error> {
    let decoded = base64_decode(text)?;
    Ok(Value::from(base64_encode(&decoded)))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding; line breaks are skipped, as Go does.
pub(crate) fn base64_decode(text: &str) -> Result<Vec<u8>, Error> {
    let wrong = |at: usize| Error::Type(format!("illegal base64 data at input byte {at}"));
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0_u32, 0_u32);
    for (at, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'\r' | b'\n' => continue,
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count % 4 >= 2 && padding + count % 4 < 4 => {
                padding += 1;
                continue;
            }
            _ => return Err(wrong(at)),
        };
        if padding > 0 {
            return Err(wrong(at));
        }
        bits = bits << 6 | u32::from(digit);
        count += 1;
        if count % 4 == 0 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match (count % 4, padding) {
        (0, 0) => {}
        (2, 2) => out.push((bits >> 4) as u8),
        (3, 1) => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return Err(wrong(text.len() - (count % 4 + padding) as usize % 4)),
    }
    Ok(out)
}

/// Standard base64 with padding.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for i in 0..4 {
            if i > chunk.len() {
                out.push('=');
            } else {
                out.push(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (bytes, text) in
            [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj"), (b"abcd", "YWJjZA==")]
        {
            assert_eq!(base64_encode(bytes), text);
            assert_eq!(base64_decode(text).as_deref(), Ok(bytes));
        }
        assert_eq!(base64_decode("YW\nJj").as_deref(), Ok(&b"abc"[..]));
    }

    #[test]
    fn base64_errors_name_the_byte() {
        for (text, at) in [("not base64", 3), ("YQ", 0), ("YWJj!", 4), ("=", 0), ("YQ==YQ==", 4)] {
            assert_eq!(
                base64_decode(text),
                Err(Error::Type(format!("illegal base64 data at input byte {at}"))),
                "{text}"
            );
        }
    }
}
