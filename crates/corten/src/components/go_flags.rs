//! Command lines as upstream's components take them: underscores for dashes, flags that mean nothing here, and flags
//! that are known and missing.

use std::ffi::OsString;

/// What becomes of a flag that upstream's component has and ours does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Changes nothing that anybody relies on; takes a value.
    Ignored,
    /// As `Ignored`, without a value unless given after `=`.
    IgnoredSwitch,
    /// Would change what the component does: refused, with the reason.
    Missing(&'static str),
    /// As `Missing`, but a switch, which may be given as `=false`.
    MissingSwitch(&'static str),
}

/// Flags by name, without dashes.
pub type Table = [(&'static str, Fate)];

/// The hidden flag by which the names of ignored flags reach the component, which logs them once.
pub const IGNORED_FLAG: &str = "--ignored-upstream-flag";

/// Brings the arguments after the component's name into the form that our parser takes.
pub fn normalize(args: Vec<OsString>, table: &Table) -> Result<Vec<OsString>, String> {
    let mut out = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some((name, value)) = arg.to_str().and_then(split) else {
            out.push(arg);
            continue;
        };
        let fate = table.iter().find(|(known, _)| *known == name).map(|(_, fate)| *fate);
        match fate {
            None => out.push(match value {
                Some(value) => format!("--{name}={value}").into(),
                None => format!("--{name}").into(),
            }),
            Some(Fate::Ignored) => {
                if value.is_none() && args.next().is_none() {
                    return Err(format!("--{name}: a value is missing"));
                }
                out.push(format!("{IGNORED_FLAG}={name}").into());
            }
            Some(Fate::IgnoredSwitch) => out.push(format!("{IGNORED_FLAG}={name}").into()),
            Some(Fate::MissingSwitch(_)) if value.as_deref() == Some("false") => {}
            // An empty value is upstream's way to say that the feature is not wanted.
            Some(Fate::Missing(_)) if value.as_deref() == Some("") => {}
            Some(Fate::Missing(why) | Fate::MissingSwitch(why)) => {
                return Err(format!("--{name} is not implemented: {why}"));
            }
        }
    }
    Ok(out)
}

/// Name and value of `--name`, `--name=value`, `-v=2` and `-v2`; None for what is no flag.
fn split(arg: &str) -> Option<(String, Option<String>)> {
    let long = match arg.strip_prefix("--") {
        Some(long) => long,
        None => {
            let rest = arg.strip_prefix("-v")?;
            let value = rest.strip_prefix('=').unwrap_or(rest);
            return Some(("v".to_owned(), (!value.is_empty()).then(|| value.to_owned())));
        }
    };
    if long.is_empty() {
        return None;
    }
    Some(match long.split_once('=') {
        Some((name, value)) => (name.replace('_', "-"), Some(value.to_owned())),
        None => (long.replace('_', "-"), None),
    })
}

/// A duration as Go writes one: `1m30s`, `500ms`, `0`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 1m30s");
    if text == "0" {
        return Ok(std::time::Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    std::time::Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &Table = &[
        ("v", Fate::Ignored),
        ("contention-profiling", Fate::IgnoredSwitch),
        ("tracing-config-file", Fate::Missing("no tracing")),
        ("permit-port-sharing", Fate::MissingSwitch("one listener")),
    ];

    fn check(args: &[&str], expect: Result<&str, &str>) {
        let got = normalize(args.iter().map(OsString::from).collect(), TABLE)
            .map(|all| all.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "));
        assert_eq!(got.as_deref().map_err(String::as_str), expect, "{args:?}");
    }

    #[test]
    fn flags_of_upstream_are_sorted_out() {
        check(&["--secure_port=1", "--a", "b"], Ok("--secure-port=1 --a b"));
        check(
            &["-v", "2", "-v=3", "--v=4", "--contention-profiling", "--x"],
            Ok("--ignored-upstream-flag=v --ignored-upstream-flag=v --ignored-upstream-flag=v \
                --ignored-upstream-flag=contention-profiling --x"),
        );
        check(&["--tracing-config-file=", "--permit-port-sharing=false"], Ok(""));
        check(&["--tracing-config-file=x"], Err("--tracing-config-file is not implemented: no tracing"));
        check(&["--permit-port-sharing"], Err("--permit-port-sharing is not implemented: one listener"));
        check(&["-v"], Err("--v: a value is missing"));
    }

    #[test]
    fn durations_are_read_as_go_does() {
        assert_eq!(duration("1m30s"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(std::time::Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(std::time::Duration::from_millis(250)));
        assert!(duration("5").is_err() && duration("").is_err() && duration("5x").is_err());
    }
}
