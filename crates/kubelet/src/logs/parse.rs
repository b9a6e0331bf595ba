//! One line of a log file.

use k8s_openapi::jiff::Timestamp;

/// A line: `2016-10-06T00:17:09.669794202Z stdout F content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// When it was written, as written.
    pub time: &'a str,
    /// True for standard error.
    pub stderr: bool,
    /// True if the line goes on in the next one.
    pub partial: bool,
    /// What the container wrote, without the line's end.
    pub content: &'a [u8],
}

impl LogLine<'_> {
    /// The time as a time.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Reads a line; `None` if it is not one.
pub fn parse_line(line: &[u8]) -> Option<LogLine<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tags = parts.next()?;
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    Some(LogLine { time, stderr, partial, content: parts.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let full = parse_line(b"2016-10-06T00:17:09.669794202Z stdout F a b  c\n").unwrap();
        assert_eq!((full.stderr, full.partial, full.content), (false, false, &b"a b  c"[..]));
        assert!(full.timestamp().is_some());
        let part = parse_line(b"2016-10-06T00:17:09.669794202Z stderr P:x half").unwrap();
        assert_eq!((part.stderr, part.partial, part.content), (true, true, &b"half"[..]));
        assert_eq!(parse_line(b"2016-10-06T00:17:09.6Z stdout F ").unwrap().content, b"");
        assert_eq!(parse_line(b"2016-10-06T00:17:09.6Z stdout F").unwrap().content, b"");
        for wrong in [&b""[..], b"x", b"t stdx F a"] {
            assert_eq!(parse_line(wrong), None);
        }
    }
}
