//! Named formats of strings.

use std::sync::Arc;

use base64::Engine;

use super::{Function, host, library_type, text};
use crate::Value;
use crate::re2::regex;
use crate::time::parse_timestamp;

/// A named format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named(&'static str);

library_type!(Named, "kubernetes.NamedFormat");

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "format.named" => |a| {
            let wanted = text(a, 0)?;
            let found = NAMES.iter().find(|n| **n == wanted);
            Ok(Value::Optional(found.map(|n| Arc::new(Value::from(Named(n))))))
        },
        "format.dns1123Label" => |_| Ok(Named("dns1123Label").into()),
        "format.dns1123Subdomain" => |_| Ok(Named("dns1123Subdomain").into()),
        "format.dns1035Label" => |_| Ok(Named("dns1035Label").into()),
        "format.qualifiedName" => |_| Ok(Named("qualifiedName").into()),
        "format.dns1123LabelPrefix" => |_| Ok(Named("dns1123LabelPrefix").into()),
        "format.dns1123SubdomainPrefix" => |_| Ok(Named("dns1123SubdomainPrefix").into()),
        "format.dns1035LabelPrefix" => |_| Ok(Named("dns1035LabelPrefix").into()),
        "format.labelValue" => |_| Ok(Named("labelValue").into()),
        "format.uri" => |_| Ok(Named("uri").into()),
        "format.uuid" => |_| Ok(Named("uuid").into()),
        "format.byte" => |_| Ok(Named("byte").into()),
        "format.date" => |_| Ok(Named("date").into()),
        "format.datetime" => |_| Ok(Named("datetime").into()),
        "validate" => |a| {
            let problems = validate(host::<Named>(a, 0)?.0, text(a, 1)?);
            let list = || Arc::new(Value::list(problems.iter().map(|p| Value::str(p.as_str())).collect()));
            Ok(Value::Optional((!problems.is_empty()).then(list)))
        },
        _ => return None,
    })
}

fn matches(pattern: &str, text: &str) -> bool {
    regex(&format!("^({pattern})$")).is_ok_and(|r| r.is_match(text))
}

fn too_long(max: usize, text: &str) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} bytes"))
}

/// What is wrong with a text by a format; nothing if it fits.
fn validate(format: &str, text: &str) -> Vec<String> {
    let masked = match format.strip_suffix("Prefix") {
        // A trailing dash is fine in a prefix: a suffix follows.
        Some(_) if text.len() > 1 && text.ends_with('-') => format!("{}a", &text[..text.len() - 1]),
        _ => text.to_owned(),
    };
    let text = masked.as_str();
    let one = |fine: bool, words: String| if fine { Vec::new() } else { vec![words] };
    let with_regex = |max: usize, pattern: &str, words: &str, example: &str| {
        let mut problems: Vec<String> = too_long(max, text).into_iter().collect();
        if !matches(pattern, text) {
            problems.push(format!("{words} (e.g. {example}, regex used for validation is '{pattern}')"));
        }
        problems
    };
    match format.trim_end_matches("Prefix") {
        "dns1123Label" => with_regex(
            63,
            LABEL,
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character",
            "'my-name',  or '123-abc'",
        ),
        "dns1123Subdomain" => with_regex(
            253,
            &format!("{LABEL}(\\.{LABEL})*"),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            "'example.com'",
        ),
        "dns1035Label" => with_regex(
            63,
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "'my-name',  or 'abc-123'",
        ),
        "labelValue" => with_regex(
            63,
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "'MyValue',  or 'my_value',  or '12345'",
        ),
        "qualifiedName" => {
            let (prefix, name) = text.split_once('/').map_or((None, text), |(p, n)| (Some(p), n));
            let mut problems: Vec<String> = match prefix {
                Some("") => vec!["prefix part must be non-empty".to_owned()],
                Some(prefix) => {
                    validate("dns1123Subdomain", prefix).iter().map(|p| format!("prefix part {p}")).collect()
                }
                None => Vec::new(),
            };
            if name.is_empty() {
                problems.push("name part must be non-empty".to_owned());
            } else if name.len() > 63 {
                problems.push("name part must be no more than 63 bytes".to_owned());
            }
            const PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
            if !matches(PATTERN, name) {
                problems.push(format!(
                    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                     '{PATTERN}')"
                ));
            }
            problems
        }
        "uri" => one(
            super::url::find("isURL")
                .is_some_and(|f| matches!(f(&[Value::str(text)]), Ok(Value::Bool(true)))),
            format!("parse {text:?}: invalid URI for request"),
        ),
        "uuid" => one(
            matches("(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", text),
            "does not match the UUID format".to_owned(),
        ),
        "byte" => {
            one(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64".to_owned())
        }
        "date" => one(
            matches("[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
                && parse_timestamp(&format!("{text}T00:00:00Z")).is_some(),
            "invalid date".to_owned(),
        ),
        "datetime" => one(parse_timestamp(text).is_some(), "invalid datetime".to_owned()),
        _ => Vec::new(),
    }
}
