//! Parts of timestamps and durations.

use jiff::tz::{Offset, TimeZone};

use super::{Eval, Function, fail, no_overload, text};
use crate::{EvalError, Timestamp, Value};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "getFullYear" => |a| local(a, |t| i64::from(t.year())),
        "getMonth" => |a| local(a, |t| i64::from(t.month()) - 1),
        "getDayOfYear" => |a| local(a, |t| i64::from(t.day_of_year()) - 1),
        "getDayOfMonth" => |a| local(a, |t| i64::from(t.day()) - 1),
        "getDate" => |a| local(a, |t| i64::from(t.day())),
        "getDayOfWeek" => |a| local(a, |t| i64::from(t.weekday().to_sunday_zero_offset())),
        "getHours" => |a| part(a, 3_600_000_000_000, |t| i64::from(t.hour())),
        "getMinutes" => |a| part(a, 60_000_000_000, |t| i64::from(t.minute())),
        "getSeconds" => |a| part(a, 1_000_000_000, |t| i64::from(t.second())),
        "getMilliseconds" => |a| part(a, 1_000_000, |t| i64::from(t.subsec_nanosecond() / 1_000_000)),
        _ => return None,
    })
}

/// Whole units of a duration, or a field of a moment.
fn part(args: &[Value], unit: i64, field: fn(&jiff::Zoned) -> i64) -> Eval {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => local(args, field),
    }
}

fn local(args: &[Value], field: fn(&jiff::Zoned) -> i64) -> Eval {
    let Some(Value::Timestamp(at)) = args.first() else { return no_overload() };
    let zone = match args.len() {
        1 => TimeZone::UTC,
        _ => time_zone(text(args, 1)?)?,
    };
    match moment(*at) {
        Some(at) => Ok(Value::Int(field(&at.to_zoned(zone)))),
        None => fail("timestamp out of range"),
    }
}

fn moment(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(at.seconds, at.nanos as i32).ok()
}

/// `UTC`, `Europe/Berlin`, `+02:00` or `02:00`.
fn time_zone(name: &str) -> Result<TimeZone, EvalError> {
    let unknown = || EvalError::new(format!("unknown time zone {name}"));
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(if name.is_empty() { "UTC" } else { name }).map_err(|_| unknown());
    };
    let hours_number: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let sign = if hours.starts_with('-') { -1 } else { 1 };
    let offset = Offset::from_seconds(hours_number * 3_600 + sign * minutes * 60).map_err(|_| unknown())?;
    Ok(TimeZone::fixed(offset))
}
