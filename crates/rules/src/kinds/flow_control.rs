//! Flow schemas and priority levels.

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{BadValue, ErrorKind, Errors, FieldError, quote};
use crate::names::{dns1123_label, dns1123_subdomain};

/// Greatest precedence, which is the least urgent (`FlowSchemaMaxMatchingPrecedence`).
const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of a flow's hash that queues are chosen by (`shufflesharding.MaxHashBits`).
const MAX_HASH_BITS: i64 = 60;
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(super) const SCHEMAS: KindRules = KindRules {
    validate: |schema, _, out| validate_schema(schema, out),
    validate_update: |new, _: &Value, write: &Write<'_>, out| match write.subresource {
        "status" => validate_conditions(new, out),
        _ => validate_schema(new, out),
    },
    ..KindRules::NONE
};

fn validate_conditions(object: &Cursor<'_>, out: &mut Errors) {
    let status = object.field("status");
    let conditions = status.field("conditions");
    for (i, condition) in conditions.items().enumerate() {
        let kind = condition.field("type");
        if conditions.value.items()[..i].iter().any(|c| c["type"] == *kind.value) {
            kind.duplicate(out);
        }
        if kind.text().is_empty() {
            kind.required(out, "must not be empty");
        }
    }
}

fn validate_schema(schema: &Cursor<'_>, out: &mut Errors) {
    let spec = schema.field("spec");
    let precedence = spec.field("matchingPrecedence");
    if precedence.int() <= 0 {
        precedence.invalid_as(out, precedence.int(), "must be a positive value");
    }
    if precedence.int() > MAX_PRECEDENCE {
        precedence.invalid(out, format!("must not be greater than {MAX_PRECEDENCE}"));
    }
    if precedence.int() == 1 && schema.value.str_at("metadata.name") != Some("exempt") {
        precedence.invalid(out, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.field("distinguisherMethod");
    if method.is_set() && !matches!(method.text_of("type"), "ByNamespace" | "ByUser") {
        let shown = BadValue::raw(format!("{{\"Type\":{}}}", quote(method.text_of("type"))));
        let words = r#"supported values: "ByNamespace", "ByUser""#;
        out.push(FieldError::new(ErrorKind::NotSupported, &method.path.child("type"), shown, words));
    }
    let level = spec.field("priorityLevelConfiguration");
    let name = level.field("name");
    match name.text().is_empty() {
        true => name.required(out, "must reference a priority level"),
        false => name.check(out, dns1123_subdomain),
    }
    spec.field("rules").items().for_each(|rule| validate_rule(&rule, out));
    validate_conditions(schema, out);
}

fn validate_rule(rule: &Cursor<'_>, out: &mut Errors) {
    let subjects = rule.field("subjects");
    if subjects.is_empty() {
        subjects.required(out, "subjects must contain at least one value");
    }
    subjects.items().for_each(|subject| validate_subject(&subject, out));
    let (resources, paths) = (rule.field("resourceRules"), rule.field("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        rule.required(out, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for rule in resources.items() {
        validate_verbs(&rule.field("verbs"), out);
        for (list, missing, other) in [
            ("apiGroups", "resource rules must supply at least one api group", "api groups"),
            ("resources", "resource rules must supply at least one resource", "resources"),
        ] {
            let list = rule.field(list);
            match list.is_empty() {
                true => list.required(out, missing),
                false => validate_star(&list, other, out),
            }
        }
        validate_namespaces(&rule, out);
    }
    for rule in paths.items() {
        validate_verbs(&rule.field("verbs"), out);
        let urls = rule.field("nonResourceURLs");
        if urls.is_empty() {
            urls.required(out, "nonResourceURLs must contain at least one value");
        } else if has_star(&urls) {
            validate_star(&urls, "non-resource URLs", out);
        } else {
            urls.items().for_each(|url| validate_url(&url, out));
        }
    }
}

fn has_star(c: &Cursor<'_>) -> bool {
    c.value.items().iter().any(|item| item.as_str() == Some("*"))
}

fn validate_star(c: &Cursor<'_>, others: &str, out: &mut Errors) {
    if c.len() > 1 && has_star(c) {
        c.invalid(out, format!("if '*' is present, must not specify other {others}"));
    }
}

fn validate_verbs(c: &Cursor<'_>, out: &mut Errors) {
    if c.is_empty() {
        c.required(out, "verbs must contain at least one value");
    } else if has_star(c) {
        validate_star(c, "verbs", out);
    } else if c.items().any(|verb| !VERBS.contains(&verb.text())) {
        c.not_supported(out, &VERBS);
    }
}

fn validate_namespaces(rule: &Cursor<'_>, out: &mut Errors) {
    let namespaces = rule.field("namespaces");
    if namespaces.is_empty() {
        if !rule.bool_of("clusterScope") {
            namespaces.required(
                out,
                "resource rules that are not cluster scoped must supply at least one namespace",
            );
        }
    } else if has_star(&namespaces) {
        validate_star(&namespaces, "namespaces", out);
    } else {
        for namespace in namespaces.items() {
            for message in dns1123_label(namespace.text()) {
                let words = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                namespace.invalid(out, words);
            }
        }
    }
}

/// `ValidateNonResourceURLPath`.
fn validate_url(c: &Cursor<'_>, out: &mut Errors) {
    let text = c.text();
    if text.is_empty() {
        c.invalid_as(out, "", "must not be empty");
    } else if text != "/" && !text.starts_with('/') {
        c.invalid(out, "must start with slash");
    } else if text.contains(' ') {
        c.invalid(out, "must not contain white-space");
    } else if text.contains("//") {
        c.invalid(out, "must not contain double slash");
    } else if text.strip_suffix('*').unwrap_or(text).contains('*') {
        c.invalid(out, "wildcard can only do suffix matching");
    } else if text.ends_with('*') && !text.ends_with("/*") {
        c.invalid(out, "wildcard matching must take a form of '/{prefix}/*'");
    }
}

fn validate_subject(c: &Cursor<'_>, out: &mut Errors) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let Some((kind, field)) = KINDS.iter().find(|(kind, _)| *kind == c.text_of("kind")) else {
        return c.field("kind").among(out, &["Group", "ServiceAccount", "User"]);
    };
    let own = c.field(field);
    let name = own.field("name");
    if !own.is_set() {
        own.required(out, format!("{field} is required when subject kind is '{kind}'"));
    } else if name.text().is_empty() {
        name.required(out, "");
    } else if *kind == "ServiceAccount" && name.text() != "*" {
        name.check(out, dns1123_subdomain);
    }
    if *kind == "ServiceAccount" && own.is_set() {
        let namespace = own.field("namespace");
        match namespace.text().is_empty() {
            true => namespace.required(out, "must specify namespace for service account"),
            false => namespace.check(out, dns1123_label),
        }
    }
    for (other, field) in KINDS.iter().filter(|(other, field)| other != kind && c.has(field)) {
        c.field(field).forbidden(out, format!("{field} is forbidden when subject kind is not '{other}'"));
    }
}

pub(super) const LEVELS: KindRules = KindRules {
    validate: |level, _, out| validate_level(level, out),
    validate_update: |new, _: &Value, write: &Write<'_>, out| match write.subresource {
        "status" => validate_conditions(new, out),
        _ => validate_level(new, out),
    },
    ..KindRules::NONE
};

fn validate_level(level: &Cursor<'_>, out: &mut Errors) {
    let spec = level.field("spec");
    let kind = spec.field("type");
    let named_exempt = level.value.str_at("metadata.name") == Some("exempt");
    if named_exempt != (kind.text() == "Exempt") {
        kind.invalid_as(out, kind.text(), "type must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (limited, exempt) = (spec.field("limited"), spec.field("exempt"));
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                limited.forbidden(out, "must be nil if the type is not Limited");
            }
            if exempt.is_set() {
                validate_shares(&exempt, out);
                validate_lendable(&exempt, out);
            }
        }
        "Limited" => {
            if exempt.is_set() {
                exempt.forbidden(out, "must be nil if the type is Limited");
            }
            match limited.is_set() {
                true => validate_limited(&limited, out),
                false => limited.required(out, "must not be empty when type is Limited"),
            }
        }
        _ => kind.among(out, &["Exempt", "Limited"]),
    }
    validate_conditions(level, out);
}

fn validate_shares(c: &Cursor<'_>, out: &mut Errors) {
    let shares = c.field("nominalConcurrencyShares");
    if shares.int() < 0 {
        shares.invalid(out, "must be a non-negative integer");
    }
}

fn validate_lendable(c: &Cursor<'_>, out: &mut Errors) {
    let percent = c.field("lendablePercent");
    if !(0..=100).contains(&percent.int()) {
        percent.invalid(out, "must be between 0 and 100, inclusive");
    }
}

fn validate_limited(c: &Cursor<'_>, out: &mut Errors) {
    validate_shares(c, out);
    let response = c.field("limitResponse");
    let queuing = response.field("queuing");
    match response.text_of("type") {
        "Reject" => {
            if queuing.is_set() {
                queuing.forbidden(out, "must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" => match queuing.is_set() {
            true => validate_queuing(&queuing, out),
            false => queuing.required(out, "must not be empty if limited.limitResponse.type is Limited"),
        },
        _ => response.field("type").among(out, &["Queue", "Reject"]),
    }
    validate_lendable(c, out);
    let borrowing = c.field("borrowingLimitPercent");
    if borrowing.int() < 0 {
        borrowing.invalid(out, "if specified, must be a non-negative integer");
    }
}

fn validate_queuing(c: &Cursor<'_>, out: &mut Errors) {
    const POSITIVE: &str = "must be positive";
    let (length, queues, hand) = (c.field("queueLengthLimit"), c.field("queues"), c.field("handSize"));
    if length.int() <= 0 {
        length.invalid_as(out, length.int(), POSITIVE);
    }
    if queues.int() <= 0 {
        queues.invalid_as(out, queues.int(), POSITIVE);
    } else if queues.int() > MAX_QUEUES {
        queues.invalid(out, format!("must not be greater than {MAX_QUEUES}"));
    }
    let bits = || ((queues.int() as f64).log2() * hand.int() as f64).ceil() as i64;
    if hand.int() <= 0 {
        hand.invalid_as(out, hand.int(), POSITIVE);
    } else if hand.int() > queues.int() {
        hand.invalid(out, format!("should not be greater than queues ({})", queues.int()));
    } else if bits() > MAX_HASH_BITS {
        let words = format!(
            "required entropy bits of deckSize {} and handSize {} should not be greater than {MAX_HASH_BITS}",
            queues.int(),
            hand.int()
        );
        hand.invalid(out, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn queues() {
        for (queuing, errors) in [
            (value!({"queueLengthLimit": 50, "queues": 64, "handSize": 8}), "[]"),
            (
                value!({"queueLengthLimit": 50, "queues": 4, "handSize": 8}),
                "handSize: Invalid value: 8: should not be greater than queues (4)",
            ),
            (
                value!({"queueLengthLimit": 0, "queues": 4, "handSize": 2}),
                "queueLengthLimit: Invalid value: 0: must be positive",
            ),
        ] {
            let mut out = Errors::new();
            validate_queuing(&Cursor::root(&queuing), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }

    #[test]
    fn paths() {
        for (url, valid) in
            [("/", true), ("/a/*", true), ("/a*", false), ("a", false), ("/a//b", false), ("/a b", false)]
        {
            let mut out = Errors::new();
            validate_url(&Cursor::root(&Value::str(url)), &mut out);
            assert_eq!(out.is_empty(), valid, "{url}");
        }
    }
}
