//! Where messages go: the file of `--log`, in runc's JSON or text form, else standard error.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A destination of messages. Opened for each of them, which are few.
#[derive(Debug, Clone, Default)]
pub struct Log {
    file: Option<PathBuf>,
    json: bool,
}

impl Log {
    /// `None` is standard error.
    pub fn new(file: Option<PathBuf>, json: bool) -> Self {
        Self { file, json }
    }

    /// Something is not as asked for, and the container runs all the same.
    pub fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    /// Why the command failed.
    pub fn error(&self, message: &str) {
        self.write("error", message);
    }

    fn write(&self, level: &str, message: &str) {
        let line = if self.json {
            let entry =
                serde_json::json!({"level": level, "msg": message, "time": rfc3339(SystemTime::now())});
            format!("{entry}\n")
        } else {
            format!("{level}: {message}\n")
        };
        // There is nowhere to say that saying failed.
        match &self.file {
            Some(path) => {
                let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
                let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
            }
            None => {
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    }
}

/// A time as `2006-01-02T15:04:05Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) as i64;
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from 1 March of the year 0, so that leap days come last in their year; an era is 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
