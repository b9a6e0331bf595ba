//! Which devices a container may use: the specification's rules, and what they come to.

use crate::error::{Error, Result};
use crate::spec::DeviceRule;

/// Permissions as the kernel's eBPF hook numbers them: make a node, read, write.
pub(super) const MAKE: u32 = 1;
pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;

/// What every container may use beside what its rules say: make any node, and the devices that are in every `/dev`.
const DEFAULTS: [(char, Option<i64>, Option<i64>, &str); 11] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(5), Some(1), "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(136), None, "rwm"),
];

/// The rules with the defaults after them.
pub(super) fn with_defaults(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let defaults = DEFAULTS.iter().map(|(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind: kind.to_string(),
        major: *major,
        minor: *minor,
        access: (*access).to_owned(),
    });
    rules.iter().cloned().chain(defaults).collect()
}

/// True if nothing is denied.
pub(super) fn allow_everything(rules: &[DeviceRule]) -> bool {
    rules.iter().all(|rule| rule.allow)
}

/// A rule as version 1 reads it: `c 1:* rw`.
pub(super) fn v1_text(rule: &DeviceRule) -> String {
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or_else(|| "*".to_owned(), |n| n.to_string());
    let kind = match rule.kind.as_str() {
        "" => "a",
        "u" => "c",
        other => other,
    };
    let access = if rule.access.is_empty() { "rwm" } else { &rule.access };
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

/// The state that the rules lead to, one after the other, in the kernel's version 1 controller: a default, and
/// exceptions to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceList {
    /// What holds for devices that no exception names.
    pub(super) allow_by_default: bool,
    /// Devices for which the opposite holds.
    pub(super) exceptions: Vec<Exception>,
}

/// A device, or many, and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) block: bool,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u32,
}

impl DeviceList {
    pub(super) fn from_rules(rules: &[DeviceRule]) -> Result<Self> {
        let mut list = Self { allow_by_default: true, exceptions: Vec::new() };
        for rule in rules {
            list.follow(rule)?;
        }
        Ok(list)
    }

    fn follow(&mut self, rule: &DeviceRule) -> Result<()> {
        let kinds: &[bool] = match rule.kind.as_str() {
            // Whatever its numbers and permissions, a rule for all is about everything.
            "a" | "" => {
                *self = Self { allow_by_default: rule.allow, exceptions: Vec::new() };
                return Ok(());
            }
            "c" | "u" => &[false],
            "b" => &[true],
            other => return Err(Error::Invalid(format!("device rule of type {other:?}"))),
        };
        for block in kinds {
            let wanted = Exception {
                block: *block,
                major: number(rule.major)?,
                minor: number(rule.minor)?,
                access: access(&rule.access)?,
            };
            if rule.allow == self.allow_by_default { self.withdraw(wanted) } else { self.add(wanted) }
        }
        Ok(())
    }

    fn same(wanted: Exception) -> impl Fn(&Exception) -> bool {
        move |e| (e.block, e.major, e.minor) == (wanted.block, wanted.major, wanted.minor)
    }

    fn add(&mut self, wanted: Exception) {
        match self.exceptions.iter_mut().find(|e| Self::same(wanted)(e)) {
            Some(known) => known.access |= wanted.access,
            None => self.exceptions.push(wanted),
        }
    }

    fn withdraw(&mut self, wanted: Exception) {
        for known in self.exceptions.iter_mut().filter(|e| Self::same(wanted)(e)) {
            known.access &= !wanted.access;
        }
        self.exceptions.retain(|e| e.access != 0);
    }
}

fn number(value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| Error::Invalid(format!("device number {n}"))),
    }
}

fn access(text: &str) -> Result<u32> {
    if text.is_empty() {
        return Ok(ALL);
    }
    text.chars().try_fold(0, |bits, c| match c {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MAKE),
        other => Err(Error::Invalid(format!("device access {other:?}"))),
    })
}
