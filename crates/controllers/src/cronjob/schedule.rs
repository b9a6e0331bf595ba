//! Cron schedules in the form of upstream's parser: five fields, or `@daily`, `@every 1h`.

use k8s_openapi::jiff::civil::{Date, DateTime};
use k8s_openapi::jiff::tz::{Offset, TimeZone};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// A schedule that does not occur within so many years never does.
const SEARCH_YEARS: i16 = 5;
/// Shortest interval of `@every`.
const MIN_EVERY_S: i64 = 1;

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At these times of the calendar.
    Calendar(Box<Fields>),
    /// Every so many seconds.
    Every(i64),
}

/// The values of the five fields, as sets of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A day must match both fields if one of them is a star; else either.
    any_day: bool,
    any_weekday: bool,
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if let Some(descriptor) = text.strip_prefix('@') {
            return Self::descriptor(descriptor);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            let found = fields.len();
            return Err(ParseError(format!("expected exactly 5 fields, found {found}: {fields:?}")));
        };
        Ok(Self::Calendar(Box::new(Fields {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: field(weekdays, 0, 6, &WEEKDAYS)?,
            any_day: is_star(days),
            any_weekday: is_star(weekdays),
        })))
    }

    fn descriptor(name: &str) -> Result<Self, ParseError> {
        let fields = match name {
            "yearly" | "annually" => "0 0 1 1 *",
            "monthly" => "0 0 1 * *",
            "weekly" => "0 0 * * 0",
            "daily" | "midnight" => "0 0 * * *",
            "hourly" => "0 * * * *",
            _ => {
                let every = name.strip_prefix("every ").and_then(duration_s);
                let every = every.ok_or_else(|| ParseError(format!("unrecognized descriptor: @{name}")))?;
                return Ok(Self::Every(every.max(MIN_EVERY_S)));
            }
        };
        Self::parse(fields)
    }

    /// The first time after `after`, in a time zone. None if there is none within some years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = match self {
            Self::Every(seconds) => {
                return Timestamp::from_second(after.as_second().checked_add(*seconds)?).ok();
            }
            Self::Calendar(fields) => fields,
        };
        // Between two changes of the offset local time runs evenly, so that hours which do not exist are skipped and
        // those that come twice count twice, as upstream's walk through them does.
        let limit = after.checked_add(SignedDuration::from_hours(i64::from(SEARCH_YEARS) * 366 * 24)).ok()?;
        let second = SignedDuration::from_secs(1);
        let mut from = Timestamp::from_second(after.as_second()).ok()?;
        while from < limit {
            let start = from.checked_add(second).ok()?;
            let until = zone.following(start).next().map_or(limit, |t| t.timestamp().min(limit));
            if let Some(found) = fields.next_at_offset(from, until, zone.to_offset(start)) {
                return Some(found);
            }
            // The instant of the change itself belongs to the new offset.
            from = until.checked_sub(second).ok()?.max(start);
        }
        None
    }
}

impl Fields {
    /// The first match after `after` and before `until`, while the clock is `offset` ahead.
    fn next_at_offset(&self, after: Timestamp, until: Timestamp, offset: Offset) -> Option<Timestamp> {
        let start = offset.to_datetime(after.checked_add(SignedDuration::from_secs(1)).ok()?);
        let last = offset.to_datetime(until);
        let mut date = start.date();
        let mut floor = round_up(start);
        while date <= last.date() {
            if let Some(date_of_floor) = floor.map(DateTime::date).filter(|d| *d > date) {
                date = date_of_floor;
                continue;
            }
            if self.has_date(date) {
                let from = floor.filter(|f| f.date() == date).map_or((0, 0), |f| (f.hour(), f.minute()));
                if let Some((hour, minute)) = self.next_time(from) {
                    let found = offset.to_timestamp(date.at(hour, minute, 0, 0)).ok()?;
                    return (found < until).then_some(found);
                }
            }
            date = self.next_date(date)?;
            floor = None;
        }
        None
    }

    /// The next day to look at: months that do not match are skipped whole.
    fn next_date(&self, date: Date) -> Option<Date> {
        if has(self.months, date.month()) {
            return date.tomorrow().ok();
        }
        date.last_of_month().tomorrow().ok()
    }

    fn has_date(&self, date: Date) -> bool {
        if !has(self.months, date.month()) {
            return false;
        }
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    fn next_time(&self, from: (i8, i8)) -> Option<(i8, i8)> {
        (from.0..24).filter(|hour| has(self.hours, *hour)).find_map(|hour| {
            let first = if hour == from.0 { from.1 } else { 0 };
            (first..60).find(|minute| has(self.minutes, *minute)).map(|minute| (hour, minute))
        })
    }
}

/// The first whole minute that is not before `at`.
fn round_up(at: DateTime) -> Option<DateTime> {
    let whole = at.date().at(at.hour(), at.minute(), 0, 0);
    if whole == at { Some(whole) } else { whole.checked_add(SignedDuration::from_mins(1)).ok() }
}

fn has(set: u64, value: i8) -> bool {
    set & (1 << value) != 0
}

fn is_star(field: &str) -> bool {
    field.split(',').any(|part| matches!(part, "*" | "?" | "*/1" | "?/1"))
}

/// A list of values, ranges and steps.
fn field(text: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, ParseError> {
    text.split(',').try_fold(0, |set, part| Ok(set | range(part, min, max, names)?))
}

fn range(text: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, ParseError> {
    let wrong = |what: &str| ParseError(format!("{what}: {text}"));
    let (span, step) = match text.split_once('/') {
        None => (text, None),
        Some((span, step)) => {
            let step: u32 = step.parse().map_err(|_| wrong("failed to parse int from"))?;
            (span, Some(step))
        }
    };
    let (first, mut last) = match span {
        "*" | "?" => (min, max),
        _ => match span.split_once('-') {
            Some((first, last)) => (value(first, min, names, text)?, value(last, min, names, text)?),
            None => {
                let one = value(span, min, names, text)?;
                (one, one)
            }
        },
    };
    if step.is_some() && !span.contains('-') {
        last = max;
    }
    match () {
        () if first < min => {
            Err(ParseError(format!("beginning of range ({first}) below minimum ({min}): {text}")))
        }
        () if last > max => Err(ParseError(format!("end of range ({last}) above maximum ({max}): {text}"))),
        () if first > last => {
            Err(ParseError(format!("beginning of range ({first}) beyond end of range ({last}): {text}")))
        }
        () if step == Some(0) => Err(wrong("step of range should be a positive number")),
        () => Ok((first..=last).step_by(step.unwrap_or(1) as usize).fold(0, |set, v| set | 1 << v)),
    }
}

fn value(text: &str, min: u32, names: &[&str], whole: &str) -> Result<u32, ParseError> {
    if let Some(at) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(at as u32 + min);
    }
    text.parse().map_err(|_| ParseError(format!("failed to parse int from {text}: {whole}")))
}

/// Go's `time.ParseDuration`, in whole seconds.
fn duration_s(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |e| digits + e);
        total += number
            * match &rest[digits..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexts(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let schedule = Schedule::parse(schedule).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        (0..count)
            .map(|_| {
                at = schedule.next(at, &zone).unwrap();
                at.to_zoned(zone.clone()).strftime("%a %F %H:%M %z").to_string()
            })
            .collect()
    }

    #[test]
    fn times_of_the_calendar() {
        for (schedule, expected) in [
            ("*/15 * * * *", ["Thu 2026-01-01 00:15 +0000", "Thu 2026-01-01 00:30 +0000"]),
            ("30 4 1,15 * fri", ["Thu 2026-01-01 04:30 +0000", "Fri 2026-01-02 04:30 +0000"]),
            ("0 0 29 2 *", ["Tue 2028-02-29 00:00 +0000", "Sun 2032-02-29 00:00 +0000"]),
            ("0 9-17/4 * * MON-TUE", ["Mon 2026-01-05 09:00 +0000", "Mon 2026-01-05 13:00 +0000"]),
            ("@weekly", ["Sun 2026-01-04 00:00 +0000", "Sun 2026-01-11 00:00 +0000"]),
            ("@every 1h30m", ["Thu 2026-01-01 01:30 +0000", "Thu 2026-01-01 03:00 +0000"]),
        ] {
            assert_eq!(nexts(schedule, "UTC", "2026-01-01T00:00:00Z", 2), expected, "{schedule}");
        }
    }

    #[test]
    fn changes_of_the_clock_skip_and_repeat() {
        // Berlin goes from 02:00 to 03:00 on 29 March and from 03:00 back to 02:00 on 25 October 2026.
        assert_eq!(
            nexts("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2),
            ["Sat 2026-03-28 02:30 +0100", "Mon 2026-03-30 02:30 +0200"]
        );
        assert_eq!(
            nexts("0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
            ["Sun 2026-03-29 03:00 +0200", "Sun 2026-03-29 04:00 +0200"]
        );
        assert_eq!(
            nexts("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["Sun 2026-10-25 02:30 +0200", "Sun 2026-10-25 02:30 +0100", "Sun 2026-10-25 03:30 +0100"]
        );
        assert_eq!(
            nexts("0 12 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["Sun 2026-10-25 12:00 +0100", "Mon 2026-10-26 12:00 +0100"]
        );
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "*/0 * * * *",
            "5-1 * * * *",
            "@often",
            "a * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next("2026-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
    }
}
