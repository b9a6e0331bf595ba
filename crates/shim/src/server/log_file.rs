//! A container's log in the CRI format: `2006-01-02T15:04:05.999999999Z stdout F line`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest piece of a line; longer lines are cut into pieces marked P, but for the last (upstream's size).
const MAX_PIECE: usize = 16 << 10;

/// Which of a container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

impl Source {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// An open log. A disk that is full loses lines, and never stops the container.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    broken: bool,
}

impl LogFile {
    /// Opens or makes the file, to append.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self { path: path.to_owned(), file, broken: false })
    }

    /// Opens it anew, after it was renamed.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    fn write(&mut self, entries: &[u8]) {
        match self.file.write_all(entries) {
            Ok(()) => self.broken = false,
            Err(error) if !self.broken => {
                self.broken = true;
                crate::say!("write {}: {error}: lines are lost", self.path.display());
            }
            Err(_) => {}
        }
    }
}

/// The begun line of one output.
#[derive(Debug)]
pub(super) struct Lines {
    source: Source,
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn new(source: Source) -> Self {
        Self { source, begun: Vec::new() }
    }

    /// Takes output as it comes, and logs every line that it completes.
    pub(super) fn push(&mut self, bytes: &[u8], log: Option<&mut LogFile>) {
        let entries = self.entries(bytes, SystemTime::now());
        if let Some(log) = log.filter(|_| !entries.is_empty()) {
            log.write(&entries);
        }
    }

    /// At the output's end, logs the begun line as a piece.
    pub(super) fn finish(&mut self, log: Option<&mut LogFile>) {
        if self.begun.is_empty() {
            return;
        }
        let mut entries = Vec::new();
        let begun = std::mem::take(&mut self.begun);
        self.entry(&mut entries, &timestamp(SystemTime::now()), 'P', &begun);
        if let Some(log) = log {
            log.write(&entries);
        }
    }

    fn entries(&mut self, mut bytes: &[u8], now: SystemTime) -> Vec<u8> {
        let time = timestamp(now);
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let room = MAX_PIECE - self.begun.len();
            let newline = bytes[..bytes.len().min(room + 1)].iter().position(|b| *b == b'\n');
            let taken = newline.unwrap_or(bytes.len().min(room));
            self.begun.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken + usize::from(newline.is_some())..];
            let tag = match newline {
                Some(_) => 'F',
                // A full piece waits for what follows: if that is the line's end, the piece is the last.
                None if self.begun.len() == MAX_PIECE && !bytes.is_empty() => 'P',
                None => continue,
            };
            let begun = std::mem::take(&mut self.begun);
            self.entry(&mut entries, &time, tag, &begun);
            self.begun = begun;
            self.begun.clear();
        }
        entries
    }

    fn entry(&self, into: &mut Vec<u8>, time: &str, tag: char, line: &[u8]) {
        into.extend_from_slice(format!("{time} {} {tag} ", self.source.word()).as_bytes());
        into.extend_from_slice(line);
        into.push(b'\n');
    }
}

/// RFC 3339 in UTC with nine digits after the second.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
    // SAFETY: a tm of zeroes is valid; gmtime_r reads one time and writes one tm, which live until it returns.
    let parts = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&raw const time, &raw mut parts);
        parts
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec,
        since.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn push(lines: &mut Lines, text: &[u8]) -> String {
        let now = UNIX_EPOCH + Duration::new(951_782_400, 5);
        String::from_utf8(lines.entries(text, now)).unwrap()
    }

    #[test]
    fn lines_are_written_when_complete() {
        let mut lines = Lines::new(Source::Stderr);
        assert_eq!(push(&mut lines, b"one"), "");
        let expected =
            "2000-02-29T00:00:00.000000005Z stderr F one\n2000-02-29T00:00:00.000000005Z stderr F \n";
        assert_eq!(push(&mut lines, b"\n\ntwo"), expected);
        assert_eq!(lines.begun, b"two");
    }

    #[test]
    fn long_lines_are_cut() {
        let mut lines = Lines::new(Source::Stdout);
        let mut text = vec![b'x'; MAX_PIECE * 2];
        let out = push(&mut lines, &text);
        assert_eq!(out.lines().count(), 1);
        assert!(out.contains(" stdout P xxx"));
        let out = push(&mut lines, b"\n");
        assert!(out.contains(" stdout F xxx"), "a piece that ends the line is the last");
        assert_eq!(out.len(), "2000-02-29T00:00:00.000000005Z stdout F \n".len() + MAX_PIECE);
        text.extend(b"y\n");
        let tags: Vec<String> =
            push(&mut lines, &text).lines().map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(tags, ["P", "P", "F"]);
    }
}
