//! Compact JSON laid out for people, without parsing it into values.

/// Spaces of one level.
const STEP: usize = 2;
const SPACES: [u8; 64] = [b' '; 64];

/// Appends compact JSON, which must be valid, with line breaks and two spaces a level as Go's `json.Indent` lays it
/// out. `depth` is the level that it starts on; the first line is not indented and the last has no end.
pub fn indent(compact: &[u8], depth: usize, out: &mut Vec<u8>) {
    out.reserve(compact.len() + compact.len() / 2);
    let mut depth = depth;
    let mut at = 0;
    while let Some(&byte) = compact.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = at + string_length(&compact[at..]);
                out.extend_from_slice(&compact[at - 1..end]);
                at = end;
            }
            b'{' | b'[' => {
                out.push(byte);
                match compact.get(at) {
                    Some(&close @ (b'}' | b']')) => {
                        out.push(close);
                        at += 1;
                    }
                    _ => {
                        depth += 1;
                        new_line(depth, out);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(depth, out);
                out.push(byte);
            }
            b',' => {
                out.push(b',');
                new_line(depth, out);
            }
            b':' => out.extend_from_slice(b": "),
            other => out.push(other),
        }
    }
}

/// Bytes up to and with the quote that ends a string.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &rest[at.min(rest.len())..]) {
        at += found + 1;
        if rest[at - 1] == b'"' {
            return at;
        }
        // What follows a backslash is never the end.
        at += 1;
    }
    rest.len()
}

/// Ends the line and indents the next.
pub fn new_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    let mut spaces = depth * STEP;
    while spaces > 0 {
        let some = spaces.min(SPACES.len());
        out.extend_from_slice(&SPACES[..some]);
        spaces -= some;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_laid_out_as_by_the_other_writer() {
        for text in [
            r#"{"a":{},"b":[],"c":[1,-2.5e3,true,null,{"d":"x\"{,:}\\"}],"e":{"f":{"g":["\\"]}}}"#,
            r#""only""#,
            "[[[]]]",
            "7",
            r#"{"deep":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let mut out = Vec::new();
            indent(serde_json::to_string(&value).unwrap().as_bytes(), 0, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string_pretty(&value).unwrap());
        }
    }

    #[test]
    fn broken_text_ends() {
        let mut out = Vec::new();
        for text in [&b"\"abc\\"[..], b"\"", b"}}}", b"{", b"[\"\\\""] {
            indent(text, 0, &mut out);
        }
    }
}
