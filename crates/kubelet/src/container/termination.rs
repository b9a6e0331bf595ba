//! The last words of a container (`terminationMessagePath`, `terminationMessagePolicy`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::cri::ContainerRecord;
use crate::logs::parse_line;

/// Longest message from its file, as upstream.
const FILE_LIMIT: u64 = 4096;
/// Longest message from the log, and its most lines.
const LOG_LIMIT: usize = 2048;
const LOG_LINES: usize = 80;

/// What an ended container left: its message file, or the end of its log if it failed without one and asks for that.
/// The runtime's own words come first.
pub fn message(record: &ContainerRecord) -> String {
    let own = record.message_file.as_deref().map(|path| read_file(Path::new(path))).unwrap_or_default();
    let from_log =
        own.is_empty() && record.meta.message_policy == "FallbackToLogsOnError" && record.exit_code != 0;
    let words = if from_log { log_tail(Path::new(&record.log_path)) } else { own };
    match (record.message.is_empty(), words.is_empty()) {
        (_, true) => record.message.clone(),
        (true, false) => words,
        (false, false) => format!("{}: {words}", record.message),
    }
}

fn read_file(path: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut text));
    if let Err(error) = read
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return format!("Error on reading termination log {}: {error}", path.display());
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn log_tail(path: &Path) -> String {
    // Each line carries a time stamp and tags; eight times the limit holds the wanted end nearly always.
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(8 * LOG_LIMIT as u64)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    let Ok(text) = read() else { return String::new() };
    let lines: Vec<_> = text.split_inclusive(|b| *b == b'\n').filter_map(parse_line).collect();
    let mut out: Vec<u8> = Vec::new();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        out.extend_from_slice(line.content);
        if !line.partial {
            out.push(b'\n');
        }
    }
    let cut = out.len().saturating_sub(LOG_LIMIT);
    String::from_utf8_lossy(&out[cut..]).into_owned()
}
