//! Semantic versions.

use std::cmp::Ordering;

use super::{Function, fail, host, library_type, text};
use crate::{EvalError, Value};

/// A semantic version; the build's part is kept and means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

library_type!(Version, "kubernetes.Semver");

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "semver" => |a| match parse(text(a, 0)?, lenient(a)) {
            Some(version) => Ok(version.into()),
            None => fail("No Major.Minor.Patch elements found"),
        },
        "isSemver" => |a| Ok(Value::Bool(parse(text(a, 0)?, lenient(a)).is_some())),
        "major" => |a| number(a, 0),
        "minor" => |a| number(a, 1),
        "patch" => |a| number(a, 2),
        _ => return None,
    })
}

fn lenient(args: &[Value]) -> bool {
    matches!(args.get(1), Some(Value::Bool(true)))
}

fn number(args: &[Value], at: usize) -> Result<Value, EvalError> {
    Ok(Value::Int(i64::try_from(host::<Version>(args, 0)?.numbers[at]).unwrap_or(i64::MAX)))
}

fn is_numeric(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// With `lenient`, a leading `v`, leading zeros and missing minor and patch numbers are fine.
fn parse(text: &str, lenient: bool) -> Option<Version> {
    let text = if lenient { text.trim().trim_start_matches(['v', 'V']) } else { text };
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let mut parts: Vec<&str> = core.split('.').collect();
    if lenient {
        parts.resize(parts.len().clamp(3, parts.len().max(3)), "0");
    }
    let mut numbers = [0; 3];
    if parts.len() != 3 {
        return None;
    }
    for (number, part) in numbers.iter_mut().zip(parts) {
        if !is_numeric(part) || (!lenient && part.len() > 1 && part.starts_with('0')) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let pre: Vec<String> = pre.map(|pre| pre.split('.').map(str::to_owned).collect()).unwrap_or_default();
    let pre_fine = pre.iter().all(|p| word(p) && !(is_numeric(p) && p.len() > 1 && p.starts_with('0')));
    let build_fine = build.is_none_or(|build| build.split('.').all(word));
    (pre_fine && build_fine).then_some(Version { numbers, pre })
}

impl Version {
    /// Precedence by the specification.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let parts = self.pre.iter().zip(&other.pre).map(|(a, b)| part_order(a, b));
                parts.fold(Ordering::Equal, Ordering::then).then(self.pre.len().cmp(&other.pre.len()))
            }
        })
    }
}

fn part_order(a: &str, b: &str) -> Ordering {
    match (is_numeric(a), is_numeric(b)) {
        (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}
