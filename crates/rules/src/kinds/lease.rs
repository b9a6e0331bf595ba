//! Leases and lease candidates.

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::Errors;
use crate::names::qualified_name;

/// Fields of coordinated leader election, which is off by default (KEP-4355).
const COORDINATED: [&str; 2] = ["strategy", "preferredHolder"];
const OLDEST: &str = "OldestEmulationVersion";

pub(super) const LEASES: KindRules = KindRules {
    prepare_create: |lease, _| drop_coordinated(lease, &Value::Null),
    prepare_update: |new, old, _| drop_coordinated(new, old),
    validate: |lease, _, out| validate_lease(&lease.field("spec"), out),
    validate_update: |lease, _, _, out| validate_lease(&lease.field("spec"), out),
    ..KindRules::NONE
};

pub(super) const CANDIDATES: KindRules = KindRules {
    validate: |candidate, _, out| validate_candidate(&candidate.field("spec"), out),
    validate_update: |new, old, _: &Write<'_>, out| {
        let spec = new.field("spec");
        validate_candidate(&spec, out);
        spec.field("leaseName").immutable(out, &old["spec"]["leaseName"]);
    },
    ..KindRules::NONE
};

/// Drops fields that are off, unless they are in use already.
fn drop_coordinated(new: &mut Value, old: &Value) {
    if COORDINATED.iter().any(|f| !old["spec"][*f].is_null()) {
        return;
    }
    if let Some(spec) = new.get_mut("spec") {
        COORDINATED.iter().for_each(|field| {
            spec.remove(field);
        });
    }
}

fn validate_lease(spec: &Cursor<'_>, out: &mut Errors) {
    let (duration, transitions) = (spec.field("leaseDurationSeconds"), spec.field("leaseTransitions"));
    if duration.is_set() && duration.int() <= 0 {
        duration.invalid(out, "must be greater than 0");
    }
    transitions.not_negative(out);
    let strategy = spec.field("strategy");
    if strategy.is_set() {
        validate_strategy(&strategy, out);
    }
    if !spec.text_of("preferredHolder").is_empty() && strategy.text().is_empty() {
        spec.field("preferredHolder").forbidden(out, "may only be specified if `strategy` is defined");
    }
}

fn validate_strategy(c: &Cursor<'_>, out: &mut Errors) {
    // Upstream names the field twice.
    let path = c.path.child("strategy");
    let c = c.at(path);
    match c.text().contains('/') {
        true => c.check(out, qualified_name),
        false => c.among(out, &[OLDEST]),
    }
}

fn validate_candidate(spec: &Cursor<'_>, out: &mut Errors) {
    if spec.text_of("leaseName").is_empty() {
        spec.field("leaseName").required(out, "");
    }
    let (emulation, binary) = (spec.field("emulationVersion"), spec.field("binaryVersion"));
    let emulated = version(emulation.text());
    let own = version(binary.text());
    const MALFORMED: &str = "must be a valid semantic version";
    if !emulation.text().is_empty() && emulated.is_none() {
        emulation.invalid(out, MALFORMED);
    }
    match (binary.text().is_empty(), own) {
        (true, _) => binary.required(out, ""),
        (false, None) => binary.invalid(out, MALFORMED),
        (false, Some(own)) => {
            if emulated.is_some_and(|emulated| own < emulated) {
                binary.invalid(out, "must be greater than or equal to `emulationVersion`");
            }
        }
    }
    let strategy = spec.field("strategy");
    if strategy.text().is_empty() {
        return strategy.required(out, "");
    }
    if strategy.text() == OLDEST && emulated.is_none_or(|v| v == (0, 0, 0)) {
        emulation.required(out, "must be specified when `strategy` is 'OldestEmulationVersion'");
    }
    validate_strategy(&strategy, out);
}

/// The three numbers of a semantic version.
fn version(text: &str) -> Option<(u64, u64, u64)> {
    let core = text.split(['-', '+']).next()?;
    let mut numbers = core.split('.').map(|part| {
        let plain = part == "0" || !part.starts_with('0');
        (plain && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok()).flatten()
    });
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, parsed) in [
            ("1.2.3", Some((1, 2, 3))),
            ("1.2.3-rc.1+x", Some((1, 2, 3))),
            ("1.2", None),
            ("1.02.3", None),
            ("v1.2.3", None),
            ("", None),
        ] {
            assert_eq!(version(text), parsed, "{text}");
        }
    }
}
