//! The log backend: a file with rotation, or standard output.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::TaskScope;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Event, Sink};
use crate::Error;
use crate::options::{AuditLogFormat, AuditMode, AuditOptions};

/// Size at which the file is rotated when no other is asked for, in megabytes (lumberjack's default).
const DEFAULT_MAX_MB: u64 = 100;
/// Events that wait to be written in batch mode (upstream's default buffer).
const BUFFER: usize = 10_000;
/// The time in the name of a rotated file.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const DAY_S: i64 = 24 * 3600;

/// Opens the log.
pub fn open(path: &Path, options: &AuditOptions, scope: &TaskScope) -> Result<Box<dyn Sink>, Error> {
    let writer = Writer::open(path, options)?;
    let format = options.log_format;
    if options.log_mode != AuditMode::Batch {
        return Ok(Box::new(Blocking { writer: Mutex::new(writer), format }));
    }
    let (sender, mut events) = mpsc::channel::<Arc<Event>>(BUFFER);
    let sink = Blocking { writer: Mutex::new(writer), format };
    scope.spawn(async move {
        while let Some(event) = events.recv().await {
            sink.emit(&event);
        }
    });
    Ok(Box::new(Buffered(sender)))
}

struct Buffered(mpsc::Sender<Arc<Event>>);

impl Sink for Buffered {
    fn emit(&self, event: &Arc<Event>) -> bool {
        self.0.try_send(event.clone()).is_ok()
    }
}

struct Blocking {
    writer: Mutex<Writer>,
    format: AuditLogFormat,
}

impl Sink for Blocking {
    fn emit(&self, event: &Arc<Event>) -> bool {
        let mut line = match self.format {
            AuditLogFormat::Json => codec::json::encode(&event.to_value()),
            AuditLogFormat::Legacy => event.to_line().into_bytes(),
        };
        line.push(b'\n');
        match self.writer.lock().write(&line) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, id = %event.id, "write an audit event");
                false
            }
        }
    }
}

/// A file that begins anew when it is full.
struct Writer {
    /// `None`: standard output.
    file: Option<File>,
    path: PathBuf,
    size: u64,
    max_bytes: u64,
    max_age_days: u64,
    max_backup: usize,
    compress: bool,
}

impl Writer {
    fn open(path: &Path, options: &AuditOptions) -> Result<Self, Error> {
        let megabytes = if options.log_max_size_mb == 0 { DEFAULT_MAX_MB } else { options.log_max_size_mb };
        let mut writer = Self {
            file: None,
            path: path.to_owned(),
            size: 0,
            max_bytes: megabytes * 1024 * 1024,
            max_age_days: options.log_max_age_days,
            max_backup: options.log_max_backup,
            compress: options.log_compress,
        };
        if path.as_os_str() != "-" {
            writer.reopen().map_err(|source| Error::File { path: path.to_owned(), source })?;
        }
        Ok(writer)
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        if let Some(folder) = self.path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            return std::io::stdout().write_all(line);
        }
        if self.size > 0 && self.size + line.len() as u64 > self.max_bytes {
            self.rotate(Timestamp::now())?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// `audit.log` becomes `audit-TIME.log`.
    fn rotate(&mut self, now: Timestamp) -> std::io::Result<()> {
        let (stem, suffix) = self.name_parts();
        let backup = self.path.with_file_name(format!("{stem}-{}{suffix}", now.strftime(STAMP)));
        std::fs::rename(&self.path, &backup)?;
        self.reopen()?;
        if self.compress {
            compress(&backup)?;
        }
        self.clean(now)
    }

    fn name_parts(&self) -> (String, String) {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let suffix = self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        (stem, suffix)
    }

    /// Removes rotated files that are too many or too old.
    fn clean(&self, now: Timestamp) -> std::io::Result<()> {
        let (stem, suffix) = self.name_parts();
        let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut backups: Vec<(i64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let plain = name.strip_suffix(".gz").unwrap_or(&name);
            let time = plain.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&suffix));
            let Some(time) = time else { continue };
            let Ok(at) = jiff::civil::DateTime::strptime(STAMP, time) else { continue };
            let Ok(at) = at.to_zoned(jiff::tz::TimeZone::UTC) else { continue };
            backups.push((at.timestamp().as_second(), entry.path()));
        }
        backups.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let oldest = match self.max_age_days {
            0 => i64::MIN,
            days => now.as_second() - i64::try_from(days).unwrap_or(i64::MAX / DAY_S) * DAY_S,
        };
        for (i, (at, path)) in backups.iter().enumerate() {
            if (self.max_backup > 0 && i >= self.max_backup) || *at < oldest {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn compress(path: &Path) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut encoder = flate2::write::GzEncoder::new(File::create(&name)?, flate2::Compression::default());
    std::io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_rotated_and_old_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let options = AuditOptions { log_max_backup: 2, log_compress: true, ..AuditOptions::default() };
        let mut writer = Writer::open(&path, &options).unwrap();
        writer.max_bytes = 10;
        let start = Timestamp::now();
        for i in 0..5_i64 {
            writer.write(b"12345678\n").unwrap();
            let later = start + jiff::SignedDuration::from_secs(i);
            writer.rotate(later).unwrap();
        }
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().filter(|n| n.ends_with(".log.gz")).count() == 2, "{names:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
