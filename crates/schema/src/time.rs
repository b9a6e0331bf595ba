//! RFC 3339 times and Go durations, without a time zone database.

/// Which of the two layouts of `metav1` a text is read by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layout {
    /// `metav1.Time`.
    Seconds,
    /// `metav1.MicroTime`.
    Micros,
}

impl Layout {
    fn text(self) -> &'static str {
        match self {
            Self::Seconds => "2006-01-02T15:04:05Z07:00",
            Self::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// Seconds since 1970 and nanoseconds of a time text; the error is Go's.
pub fn parse(text: &str, layout: Layout) -> Result<(i64, u32), String> {
    let mut rest = text;
    let fail = |rest: &str, element: &str| {
        format!("parsing time {text:?} as {:?}: cannot parse {rest:?} as {element:?}", layout.text())
    };
    let out_of_range = |what: &str| format!("parsing time {text:?}: {what} out of range");
    let mut parts = [0_i64; 6];
    let elements =
        [("", 4, "2006"), ("-", 2, "01"), ("-", 2, "02"), ("T", 2, "15"), (":", 2, "04"), (":", 2, "05")];
    for (i, (separator, digits, element)) in elements.into_iter().enumerate() {
        rest = rest.strip_prefix(separator).ok_or_else(|| fail(rest, separator))?;
        let number = rest.get(..digits).filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        parts[i] = number.and_then(|n| n.parse().ok()).ok_or_else(|| fail(rest, element))?;
        rest = &rest[digits..];
    }
    let [year, month, day, hour, minute, second] = parts;
    let mut nanos = 0;
    let fraction = rest.strip_prefix('.').map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
    if layout == Layout::Micros && fraction != 6 {
        return Err(fail(rest, ".000000"));
    }
    if fraction > 0 {
        let digits: String = rest[1..=fraction].chars().chain("000000000".chars()).take(9).collect();
        nanos = digits.parse().unwrap_or(0);
        rest = &rest[1 + fraction..];
    }
    let offset = zone(rest).ok_or_else(|| fail(rest, "Z07:00"))?;
    for (what, value, range) in [
        ("month", month, 1..=12),
        ("day", day, 1..=days_in(year, month)),
        ("hour", hour, 0..=23),
        ("minute", minute, 0..=59),
        ("second", second, 0..=59),
    ] {
        if !range.contains(&value) {
            return Err(out_of_range(what));
        }
    }
    Ok((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset, nanos))
}

/// `Z` or `+hh:mm` in seconds; all of the text must be used.
fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    (hours <= 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3_600 + i64::from(minutes) * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Date of a number of days since 1970.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = (shifted_month + 2) % 12 + 1;
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// `2006-01-02T15:04:05Z`.
pub fn format(seconds: i64) -> String {
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn format_micro(seconds: i64, nanos: u32) -> String {
    let mut text = format(seconds);
    text.pop();
    format!("{text}.{:06}Z", nanos / 1_000)
}

/// Nanoseconds of a Go duration text, `1h2m3.5s`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_f64;
    let mut exact = 0_i128;
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let (unit, after) = after.split_at(unit_len);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let value: f64 = number.parse().map_err(|_| invalid())?;
        total += value * nanos as f64;
        exact += match number.parse::<i128>() {
            Ok(whole) => whole.saturating_mul(nanos),
            Err(_) => (value * nanos as f64).round() as i128,
        };
        rest = after;
    }
    if total > i64::MAX as f64 {
        return Err(invalid());
    }
    i64::try_from(if negative { -exact } else { exact }).map_err(|_| invalid())
}

/// A duration as Go prints one: `1h0m3.5s`, `0s`, `150ms`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, part) = (value / unit, value % unit);
        let digits = format!("{part:0width$}", width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        if part == 0 { format!("{whole}") } else { format!("{whole}.{digits}") }
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = fraction(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_both_ways() {
        for (text, canonical) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
            ("2024-03-01T01:30:00+02:00", "2024-02-29T23:30:00Z"),
            ("2020-01-01T00:00:00.5Z", "2020-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                parse(text, Layout::Seconds).map(|(s, _)| format(s)).as_deref(),
                Ok(canonical),
                "{text}"
            );
        }
        let (seconds, nanos) = parse("2002-01-01T01:01:01.000002Z", Layout::Micros).unwrap();
        assert_eq!(format_micro(seconds, nanos), "2002-01-01T01:01:01.000002Z");
    }

    #[test]
    fn time_errors_read_as_in_go() {
        for (text, layout, expected) in [
            (
                "",
                Layout::Seconds,
                "parsing time \"\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\"",
            ),
            (
                "2020-13-01T00:00:00Z",
                Layout::Seconds,
                "parsing time \"2020-13-01T00:00:00Z\": month out of range",
            ),
            (
                "2020-01-01",
                Layout::Seconds,
                "parsing time \"2020-01-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
            ),
            (
                "2020-01-01T00:00:00Z",
                Layout::Micros,
                "parsing time \"2020-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\"",
            ),
        ] {
            assert_eq!(parse(text, layout), Err(expected.to_owned()));
        }
    }

    #[test]
    fn durations_both_ways() {
        for (text, canonical) in [
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("150ms", "150ms"),
            ("0", "0s"),
            ("-2us", "-2µs"),
            ("3ns", "3ns"),
        ] {
            assert_eq!(parse_duration(text).map(format_duration).as_deref(), Ok(canonical), "{text}");
        }
        assert!(parse_duration("1").is_err());
        assert!(parse_duration("x").is_err());
    }
}
