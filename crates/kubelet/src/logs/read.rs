//! Reading and following a container's log (`kubectl logs`).

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use k8s_openapi::jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::parse_line;
use crate::inotify::Watch;

const BLOCK: usize = 64 << 10;
/// A line longer than this is passed on in parts.
const MAX_LINE: usize = 1 << 20;

/// What of a log is wanted (`PodLogOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Goes on until the container ends.
    pub follow: bool,
    /// Begins with that many lines from the end.
    pub tail_lines: Option<u64>,
    /// Leaves out what is older.
    pub since: Option<Timestamp>,
    /// Puts the time before each line.
    pub timestamps: bool,
    /// Ends after that many bytes.
    pub limit_bytes: Option<u64>,
    /// `Some(true)` is standard error alone, `Some(false)` standard output alone.
    pub stderr: Option<bool>,
}

/// Sends the log at `path` to `out` until its end, or with `follow` until `ended` is done and all is read. Ends early
/// when nobody receives any more.
pub async fn stream(
    path: PathBuf,
    options: LogOptions,
    out: mpsc::Sender<Bytes>,
    ended: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let mut ended = std::pin::pin!(ended);
    // Watching before reading: what is written in between wakes the first wait.
    let watch = if options.follow { Some(watch(&path)?) } else { None };
    let mut file = File::open(&path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines, options.stderr).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut writer =
        Writer { left: options.limit_bytes, options, out, at_line_start: true, full: BytesMut::new() };
    let mut pending = BytesMut::new();
    let mut last_pass = false;
    loop {
        if !drain(&mut file, &mut pending, &mut writer).await? {
            return Ok(());
        }
        let Some(watch) = &watch else { return Ok(()) };
        if last_pass {
            return Ok(());
        }
        if rotated(&file, &path).await {
            // What came between our last read and the renaming is still in the old file.
            drain(&mut file, &mut pending, &mut writer).await?;
            file = File::open(&path).await?;
            pending.clear();
            continue;
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = &mut ended => last_pass = true,
            () = writer.out.closed() => return Ok(()),
        }
    }
}

fn watch(path: &Path) -> std::io::Result<Watch> {
    let watch = Watch::new()?;
    watch.add_file(path)?;
    watch.add_folder(path.parent().unwrap_or(Path::new("/")))?;
    Ok(watch)
}

async fn rotated(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata().await, tokio::fs::metadata(path).await) else {
        return false;
    };
    open.ino() != named.ino()
}

/// Passes on all whole lines up to the end of the file. False if no more are wanted.
async fn drain(file: &mut File, pending: &mut BytesMut, writer: &mut Writer) -> std::io::Result<bool> {
    loop {
        pending.reserve(BLOCK);
        if file.read_buf(pending).await? == 0 {
            return Ok(true);
        }
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line = pending.split_to(end + 1);
            if !writer.line(&line).await {
                return Ok(false);
            }
        }
        if !writer.flush().await {
            return Ok(false);
        }
        if pending.len() > MAX_LINE {
            pending.clear();
        }
    }
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: u64, stderr: Option<bool>) -> std::io::Result<u64> {
    let mut starts: VecDeque<u64> = VecDeque::new();
    let mut reader = tokio::io::BufReader::with_capacity(BLOCK, &mut *file);
    let mut line = Vec::new();
    let mut at = 0;
    loop {
        line.clear();
        let read = tokio::io::AsyncBufReadExt::read_until(&mut reader, b'\n', &mut line).await?;
        if read == 0 {
            break;
        }
        let wanted = stderr.is_none() || parse_line(&line).is_some_and(|l| Some(l.stderr) == stderr);
        if wanted {
            starts.push_back(at);
            if starts.len() as u64 > lines {
                starts.pop_front();
            }
        }
        at += read as u64;
    }
    Ok(if lines == 0 { at } else { starts.front().copied().unwrap_or(at) })
}

struct Writer {
    options: LogOptions,
    left: Option<u64>,
    out: mpsc::Sender<Bytes>,
    at_line_start: bool,
    full: BytesMut,
}

impl Writer {
    /// Takes a line of the file. False if no more are wanted.
    async fn line(&mut self, raw: &[u8]) -> bool {
        let Some(line) = parse_line(raw) else { return true };
        if self.options.stderr.is_some_and(|stderr| stderr != line.stderr) {
            return true;
        }
        if self.options.since.is_some_and(|since| line.timestamp().is_some_and(|t| t < since)) {
            return true;
        }
        if self.options.timestamps && self.at_line_start {
            self.push(line.time.as_bytes());
            self.push(b" ");
        }
        self.push(line.content);
        if !line.partial {
            self.push(b"\n");
        }
        self.at_line_start = !line.partial;
        if self.left == Some(0) {
            self.flush().await;
            return false;
        }
        self.full.len() < BLOCK || self.flush().await
    }

    fn push(&mut self, bytes: &[u8]) {
        let take = self.left.map_or(bytes.len(), |left| bytes.len().min(left as usize));
        self.full.extend_from_slice(&bytes[..take]);
        self.left = self.left.map(|left| left - take as u64);
    }

    async fn flush(&mut self) -> bool {
        if self.full.is_empty() {
            return !self.out.is_closed();
        }
        self.out.send(self.full.split().freeze()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn entry(n: u32, stream: &str, tag: &str, text: &str) -> String {
        format!("2024-01-01T00:00:0{n}.000000000Z {stream} {tag} {text}\n")
    }

    async fn read(path: &Path, options: LogOptions) -> String {
        let (sender, mut receiver) = mpsc::channel(16);
        stream(path.to_owned(), options, sender, std::future::pending()).await.unwrap();
        let mut text = String::new();
        while let Some(part) = receiver.recv().await {
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn options() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let text = entry(1, "stdout", "F", "a")
            + &entry(2, "stderr", "F", "b")
            + &entry(3, "stdout", "P", "c")
            + &entry(3, "stdout", "F", "d")
            + &entry(4, "stdout", "F", "e");
        std::fs::write(&path, text).unwrap();
        let plain = LogOptions::default();
        assert_eq!(read(&path, plain.clone()).await, "a\nb\ncd\ne\n");
        assert_eq!(read(&path, LogOptions { tail_lines: Some(1), ..plain.clone() }).await, "e\n");
        assert_eq!(read(&path, LogOptions { tail_lines: Some(0), ..plain.clone() }).await, "");
        assert_eq!(read(&path, LogOptions { limit_bytes: Some(3), ..plain.clone() }).await, "a\nb");
        assert_eq!(read(&path, LogOptions { stderr: Some(true), ..plain.clone() }).await, "b\n");
        let since = Some("2024-01-01T00:00:04Z".parse().unwrap());
        assert_eq!(
            read(&path, LogOptions { since, timestamps: true, ..plain }).await,
            "2024-01-01T00:00:04.000000000Z e\n"
        );
    }

    #[tokio::test]
    async fn following_goes_on_through_a_rotation_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, entry(1, "stdout", "F", "a")).unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let ended = async move { drop(ended.await) };
        let task = tokio::spawn(stream(path.clone(), options, sender, ended));
        assert_eq!(receiver.recv().await.unwrap(), "a\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(entry(2, "stdout", "F", "b").as_bytes()).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "b\n");
        std::fs::rename(&path, folder.path().join("0.log.1")).unwrap();
        std::fs::write(&path, entry(3, "stdout", "F", "c")).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "c\n");
        end.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(receiver.recv().await, None);
    }
}
