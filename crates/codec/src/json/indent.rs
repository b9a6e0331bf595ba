//! Compact JSON laid out for people, without parsing it into values.
//!
//! Browsers' and curl's lists are laid out, so this is as hot as a list of ten thousand pods is long: it writes into
//! room made ahead and copies strings in words while it looks for their end.

/// Spaces of one level.
const STEP: usize = 2;
/// A line's end and the spaces after it.
const LINE: [u8; 64] = {
    let mut line = [b' '; 64];
    line[0] = b'\n';
    line
};
/// What is copied of [`LINE`] whether needed or not: enough for the levels of most objects.
const SHORT_LINE: usize = 32;
/// Bytes of a string that are copied word by word; for longer ones the search by the processor's widest registers pays.
const SHORT_STRING: usize = 64;
const WORD: usize = size_of::<u64>();

/// Appends compact JSON, which must be valid, with line breaks and two spaces a level as Go's `json.Indent` lays it
/// out. `depth` is the level that it starts on; the first line is not indented and the last has no end.
pub fn indent(compact: &[u8], depth: usize, out: &mut Vec<u8>) {
    let mut sheet = Sheet { at: out.len(), out };
    sheet.room(compact.len() + compact.len() / 2 + LINE.len());
    let mut depth = depth;
    let mut at = 0;
    while let Some(&byte) = compact.get(at) {
        match byte {
            b'"' => {
                at += sheet.string(&compact[at..]);
                if compact.get(at) == Some(&b':') {
                    sheet.write(*b": ");
                    at += 1;
                }
                continue;
            }
            b'{' | b'[' => match compact.get(at + 1) {
                Some(&close @ (b'}' | b']')) => {
                    sheet.write([byte, close]);
                    at += 1;
                }
                _ => {
                    depth += 1;
                    sheet.write([byte]);
                    sheet.line(depth);
                }
            },
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                sheet.line(depth);
                sheet.write([byte]);
            }
            b',' => {
                sheet.write([b',']);
                sheet.line(depth);
            }
            other => sheet.write([other]),
        }
        at += 1;
    }
    let end = sheet.at;
    out.truncate(end);
}

/// Ends the line and indents the next.
pub fn new_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.resize(out.len() + depth * STEP, b' ');
}

/// What is written to: beyond `at` there is room that means nothing.
struct Sheet<'a> {
    out: &'a mut Vec<u8>,
    at: usize,
}

impl Sheet<'_> {
    /// Makes sure that this many bytes can be written.
    #[inline]
    fn room(&mut self, bytes: usize) {
        if self.out.len() - self.at < bytes {
            self.grow(bytes);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let doubled = (self.out.len() - self.at) * 2;
        self.out.resize(self.at + bytes.max(doubled), 0);
    }

    #[inline]
    fn write<const N: usize>(&mut self, bytes: [u8; N]) {
        self.room(N);
        self.out[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += N;
    }

    #[inline]
    fn line(&mut self, depth: usize) {
        let length = 1 + depth * STEP;
        self.room(length.max(SHORT_LINE));
        let room = &mut self.out[self.at..];
        if length <= SHORT_LINE {
            room[..SHORT_LINE].copy_from_slice(&LINE[..SHORT_LINE]);
        } else {
            room[..length].fill(b' ');
            room[0] = b'\n';
        }
        self.at += length;
    }

    /// Copies a string up to and with the quote that ends it; `rest` begins with the one that starts it. Gives its
    /// length in bytes.
    #[inline]
    fn string(&mut self, rest: &[u8]) -> usize {
        self.room(SHORT_STRING + WORD);
        let room = &mut self.out[self.at..self.at + SHORT_STRING + WORD];
        room[0] = b'"';
        let mut done = 1;
        while done < SHORT_STRING {
            let Some(word) = rest.get(done..).and_then(|rest| rest.first_chunk::<WORD>()) else { break };
            room[done..done + WORD].copy_from_slice(word);
            let marks = quotes_and_backslashes(u64::from_le_bytes(*word));
            if marks == 0 {
                done += WORD;
                continue;
            }
            let mark = marks.trailing_zeros() as usize / 8;
            done += mark;
            if word[mark] != b'"' {
                break;
            }
            self.at += done + 1;
            return done + 1;
        }
        done += tail_length(&rest[done..]);
        self.room(done);
        self.out[self.at..self.at + done].copy_from_slice(&rest[..done]);
        self.at += done;
        done
    }
}

/// Sets the highest bit of the first byte that is a quote or a backslash, and perhaps of later ones that are none.
#[inline]
fn quotes_and_backslashes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64))
}

/// Bytes up to and with the quote that ends a string.
fn tail_length(rest: &[u8]) -> usize {
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

    #[test]
    fn strings_of_every_length_end_where_they_should() {
        for length in 0..2 * SHORT_STRING {
            for escape in 0..=length {
                let mut text = "x".repeat(length);
                text.insert(escape, '"');
                let value = serde_json::json!({"a": text.as_str(), "b": ["\u{e9}\\".repeat(length), text]});
                let mut out = b"before".to_vec();
                indent(serde_json::to_string(&value).unwrap().as_bytes(), 0, &mut out);
                let expected = format!("before{}", serde_json::to_string_pretty(&value).unwrap());
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
