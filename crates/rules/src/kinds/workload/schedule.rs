//! Cron schedules, as the `cron` library of upstream reads them.

/// Why a text is no schedule; `None` when it is one.
pub(super) fn problem(schedule: &str) -> Option<String> {
    let schedule = schedule.trim();
    if schedule.is_empty() {
        return Some("empty spec string".to_owned());
    }
    if let Some(rest) = schedule.strip_prefix('@') {
        return descriptor_problem(schedule, rest);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let limits: [(u32, u32, &[&str]); 5] =
        [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];
    fields.iter().zip(limits).find_map(|(field, (low, high, names))| {
        field.split(',').find_map(|part| range_problem(part, low, high, names))
    })
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

fn descriptor_problem(schedule: &str, name: &str) -> Option<String> {
    match name {
        "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => None,
        _ => match name.strip_prefix("every ") {
            Some(duration) if crate::matches_format("duration", duration) => None,
            Some(_) => Some(format!("failed to parse duration {schedule}: time: invalid duration")),
            None => Some(format!("unrecognized descriptor: {schedule}")),
        },
    }
}

fn number(text: &str, low: u32, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(at) = names.iter().position(|name| *name == lower) {
        return Ok(at as u32 + low);
    }
    let parsed: i64 = text.parse().map_err(|_| {
        let quoted = crate::quote(text);
        format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax")
    })?;
    u32::try_from(parsed).map_err(|_| format!("negative number ({parsed}) not allowed: {text}"))
}

/// `*`, `?`, `a`, `a-b`, each with an optional `/step`.
fn range_problem(part: &str, low: u32, high: u32, names: &[&str]) -> Option<String> {
    let (range, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Some(format!("too many slashes: {part}")),
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let bounds = || -> Result<(u32, u32), String> {
        if matches!(range, "*" | "?") {
            return Ok((low, high));
        }
        match range.split_once('-') {
            Some((_, end)) if end.contains('-') => Err(format!("too many hyphens: {part}")),
            Some((start, end)) => Ok((number(start, low, names)?, number(end, low, names)?)),
            None => {
                let start = number(range, low, names)?;
                Ok((start, if step.is_some() { high } else { start }))
            }
        }
    };
    let (start, end) = match bounds() {
        Ok(bounds) => bounds,
        Err(problem) => return Some(problem),
    };
    if let Some(step) = step {
        match number(step, 0, &[]) {
            Ok(0) => return Some(format!("step of range should be a positive number: {part}")),
            Ok(_) => {}
            Err(problem) => return Some(problem),
        }
    }
    if start < low {
        return Some(format!("beginning of range ({start}) below minimum ({low}): {part}"));
    }
    if end > high {
        return Some(format!("end of range ({end}) above maximum ({high}): {part}"));
    }
    (start > end).then(|| format!("beginning of range ({start}) beyond end of range ({end}): {part}"))
}

/// True for the names of IANA time zones.
pub(super) fn is_time_zone(name: &str) -> bool {
    // Sorted, one name a line; from the time zone database.
    include_str!("../zones.txt").lines().any(|zone| zone == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6/2 1,15 jan-mar MON", "@daily", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in [
            "",
            "x",
            "* * * *",
            "60 * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "* * 0 * *",
            "@never",
            "a * * * *",
        ] {
            assert!(problem(bad).is_some(), "{bad}");
        }
        assert!(is_time_zone("Etc/UTC") && is_time_zone("Europe/Berlin") && !is_time_zone("Mars/Olympus"));
    }
}
