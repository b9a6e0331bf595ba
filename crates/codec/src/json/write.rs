//! The writer: compact JSON with Go's escapes.

use std::io::Write;

use schema::{Map, Value};

/// The object as compact JSON, keys in order.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode_into(value, &mut out);
    out
}

/// Appends compact JSON.
pub fn encode_into(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(i) => int(*i, out),
        Value::Float(f) => float(*f, out),
        Value::Str(s) => encode_string(s, out),
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                encode_into(item, out);
            }
            out.push(b']');
        }
        Value::Map(map) => object(map, out),
    }
}

fn object(map: &Map, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        encode_string(key, out);
        out.push(b':');
        encode_into(value, out);
    }
    out.push(b'}');
}

fn int(value: i64, out: &mut Vec<u8>) {
    let mut buffer = [0_u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}

/// As Go: plain digits between 1e-6 and 1e21, else with an exponent of at least one digit and its sign.
fn float(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let signed = if magnitude >= 1.0 { text.replace('e', "e+") } else { text };
        out.extend_from_slice(signed.as_bytes());
    } else {
        // Writing to a vector cannot fail.
        let _ = write!(out, "{value}");
    }
}

/// Appends a quoted string. As Go's encoder, `<`, `>`, `&` and the two line separators are escaped.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends the escaped characters of a string without quotes.
fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => Some(b'"'),
            b'\\' => Some(b'\\'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            0x08 => Some(b'b'),
            0x0c => Some(b'f'),
            0..=0x1f | b'<' | b'>' | b'&' => None,
            // U+2028 and U+2029.
            0xe2 if bytes.get(at + 1) == Some(&0x80) && matches!(bytes.get(at + 2), Some(0xa8 | 0xa9)) => {
                out.extend_from_slice(&bytes[from..at]);
                out.extend_from_slice(if bytes[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                from = at + 3;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match short {
            Some(short) => out.extend_from_slice(&[b'\\', short]),
            None => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn as_go_writes() {
        let value = value!({"b": "<a href=\"x\">&\u{2028}\u{1}\u{7f}é\\", "a": [1, (-7), 1.5, 1e21, 1e-7, null, true, (i64::MIN)]});
        let expected = r#"{"a":[1,-7,1.5,1e+21,1e-7,null,true,-9223372036854775808],"b":"\u003ca href=\"x\"\u003e\u0026\u2028\u0001"#;
        let text = String::from_utf8(encode(&value)).unwrap();
        assert_eq!(text, format!("{expected}\u{7f}é\\\\\"}}"));
    }

    #[test]
    fn whole_floats_have_no_fraction() {
        let mut out = Vec::new();
        float(3.0, &mut out);
        assert_eq!(out, b"3");
    }
}
