//! Times and durations as texts.

use schema::time::Layout;

use crate::Timestamp;

/// Seconds of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z, between which timestamps are.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Timestamp {
    /// A moment; `None` outside of the years 1 to 9999.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        RANGE.contains(&seconds).then_some(Self { seconds, nanos })
    }

    /// Nanoseconds since 1970.
    pub(crate) fn total(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// A moment so many nanoseconds after 1970.
    pub(crate) fn from_total(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
        Self::new(seconds, nanos.rem_euclid(1_000_000_000) as u32)
    }
}

/// RFC 3339, with or without a fraction.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let (seconds, nanos) = schema::time::parse(text, Layout::Seconds).ok()?;
    Timestamp::new(seconds, nanos)
}

/// RFC 3339 with as many digits of the second as are needed.
pub(crate) fn format_timestamp(at: Timestamp) -> String {
    let whole = schema::time::format(at.seconds);
    if at.nanos == 0 {
        return whole;
    }
    let fraction = format!("{:09}", at.nanos);
    format!("{}.{}Z", whole.trim_end_matches('Z'), fraction.trim_end_matches('0'))
}

/// Nanoseconds of Go's text.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    schema::time::parse_duration(text).ok()
}

/// Seconds, with as many digits as are needed: `1.5s`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let fraction = format!("{part:09}");
    match part {
        0 => format!("{sign}{whole}s"),
        _ => format!("{sign}{whole}.{}s", fraction.trim_end_matches('0')),
    }
}
