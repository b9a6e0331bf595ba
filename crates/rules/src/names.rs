//! Syntax checks of names, labels and other short texts (`apimachinery/pkg/util/validation`).
//!
//! Each check gives the list of what is wrong, in upstream's words; an empty list means it is right.

use std::sync::LazyLock;

use regex::Regex;

/// What is wrong with a text.
pub type Messages = Vec<String>;

/// Longest DNS-1123 label (RFC 1123).
pub const LABEL_MAX_LEN: usize = 63;
/// Longest DNS-1123 subdomain (RFC 1123).
pub const SUBDOMAIN_MAX_LEN: usize = 253;

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
     and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_LABEL_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character";
const WILDCARD_SUBDOMAIN: &str = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const WILDCARD_SUBDOMAIN_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
     which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
const C_IDENTIFIER: &str = "[A-Za-z_][A-Za-z0-9_]*";
const C_IDENTIFIER_TEXT: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
     alphanumeric characters or '_'";
const HTTP_HEADER: &str = "[-A-Za-z0-9]+";
const HTTP_HEADER_TEXT: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
const CONFIG_MAP_KEY: &str = "[-._a-zA-Z0-9]+";
const CONFIG_MAP_KEY_TEXT: &str =
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const PERCENT: &str = "[0-9]+%";
const PERCENT_TEXT: &str = "a valid percent string must be a numeric string followed by an ending '%'";

macro_rules! whole {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| {
            // The patterns are constants that the tests compile.
            Regex::new(&format!("^(?:{})$", $pattern)).expect("constant pattern")
        });
    };
}

whole!(WILDCARD_SUBDOMAIN_RE, WILDCARD_SUBDOMAIN);

/// `must be no more than N characters`
pub fn max_len(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// `must be no more than N bytes`
pub fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// `must be non-empty`
pub fn empty() -> String {
    "must be non-empty".to_owned()
}

/// A message with examples and the pattern (`validation.RegexError`).
pub fn regex_error(text: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// `must be between A and B, inclusive`
pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn matches_dns_label(text: &str, first: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&a), Some(&z)) => {
            first(a) && lower_alnum(z) && bytes.iter().all(|&b| b == b'-' || lower_alnum(b))
        }
        _ => false,
    }
}

fn matches_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(a), Some(z)) => {
            a.is_ascii_alphanumeric()
                && z.is_ascii_alphanumeric()
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

fn is_c_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A DNS-1123 label: a name in one namespace of DNS.
pub fn dns1123_label(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > LABEL_MAX_LEN {
        out.push(max_len(LABEL_MAX_LEN));
    }
    if !matches_dns_label(text, lower_alnum) {
        out.push(match text.split('.').all(|label| matches_dns_label(label, lower_alnum)) {
            // What would be a subdomain is told what alone is wrong with it.
            true => "must not contain dots".to_owned(),
            false => regex_error(DNS1123_LABEL_TEXT, DNS1123_LABEL, &["my-name", "123-abc"]),
        });
    }
    out
}

/// A DNS-1123 subdomain: labels joined by dots.
pub fn dns1123_subdomain(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > SUBDOMAIN_MAX_LEN {
        out.push(max_len(SUBDOMAIN_MAX_LEN));
    }
    if !text.split('.').all(|label| matches_dns_label(label, lower_alnum)) {
        out.push(regex_error(DNS1123_SUBDOMAIN_TEXT, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    out
}

/// A DNS-1035 label: as DNS-1123, but begins with a letter.
pub fn dns1035_label(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > LABEL_MAX_LEN {
        out.push(max_len(LABEL_MAX_LEN));
    }
    if !matches_dns_label(text, |b| b.is_ascii_lowercase()) {
        out.push(regex_error(DNS1035_LABEL_TEXT, DNS1035_LABEL, &["my-name", "abc-123"]));
    }
    out
}

/// `*.` and a subdomain.
pub fn wildcard_subdomain(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > SUBDOMAIN_MAX_LEN {
        out.push(max_len(SUBDOMAIN_MAX_LEN));
    }
    if !WILDCARD_SUBDOMAIN_RE.is_match(text) {
        out.push(regex_error(WILDCARD_SUBDOMAIN_TEXT, WILDCARD_SUBDOMAIN, &["*.example.com"]));
    }
    out
}

/// A name with an optional `subdomain/` before it (`IsQualifiedName`).
pub fn qualified_name(text: &str) -> Messages {
    label_key(text)
}

/// The key of a label (`content.IsLabelKey`).
pub fn label_key(text: &str) -> Messages {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut out = Messages::new();
    let mut parts = text.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(QUALIFIED_TEXT, QUALIFIED, &examples)
            )];
        }
    };
    match prefix {
        Some("") => out.push(format!("prefix part {}", empty())),
        Some(prefix) => out.extend(dns1123_subdomain(prefix).iter().map(|m| format!("prefix part {m}"))),
        None => {}
    }
    if name.is_empty() {
        out.push(format!("name part {}", empty()));
    } else if name.len() > LABEL_MAX_LEN {
        out.push(format!("name part {}", max_bytes(LABEL_MAX_LEN)));
    }
    if !matches_qualified(name) {
        out.push(format!("name part {}", regex_error(QUALIFIED_TEXT, QUALIFIED, &examples)));
    }
    out
}

/// A label's value, which may be empty.
pub fn label_value(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > LABEL_MAX_LEN {
        out.push(max_bytes(LABEL_MAX_LEN));
    }
    if !text.is_empty() && !matches_qualified(text) {
        out.push(regex_error(LABEL_VALUE_TEXT, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    out
}

/// `domain/path`, as signer names and finalizers are (`IsDomainPrefixedPath`).
pub fn domain_prefixed_path(text: &str) -> Messages {
    let Some((host, path)) = text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()];
    };
    let mut out: Messages = dns1123_subdomain(host);
    let path_ok = path.bytes().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'/' | b'%'
                    | b'_'
                    | b'.'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
                    | b'-'
            )
    });
    if !path_ok {
        out.push(regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:@]+", &[]));
    }
    out
}

/// At least two labels joined by dots (`IsFullyQualifiedName`).
pub fn fully_qualified_name(text: &str) -> Messages {
    if text.is_empty() {
        return vec![String::new()];
    }
    let out = dns1123_subdomain(text);
    if out.is_empty() && text.split('.').count() < 3 {
        return vec!["should be a domain with at least three segments separated by dots".to_owned()];
    }
    out
}

/// A DNS name with at least two segments, possibly ending in a dot (`IsFullyQualifiedDomainName`).
pub fn fully_qualified_domain_name(text: &str) -> Messages {
    let name = text.strip_suffix('.').unwrap_or(text);
    let out = dns1123_subdomain(name);
    if !out.is_empty() {
        return out;
    }
    if name.split('.').count() < 2 {
        return vec!["should be a domain with at least two segments separated by dots".to_owned()];
    }
    name.split('.').filter(|label| label.len() > LABEL_MAX_LEN).map(|_| max_len(LABEL_MAX_LEN)).collect()
}

/// A C identifier.
pub fn c_identifier(text: &str) -> Messages {
    match is_c_identifier(text) {
        true => Messages::new(),
        false => {
            vec![regex_error(C_IDENTIFIER_TEXT, C_IDENTIFIER, &["my_name", "MY_NAME", "MyName"])]
        }
    }
}

/// The name of an environment variable: printable ASCII without `=` (`IsRelaxedEnvVarName`).
pub fn env_var_name(text: &str) -> Messages {
    if text.is_empty() {
        return vec!["environment variable name ".to_owned() + &empty()];
    }
    match text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        true => Messages::new(),
        false => vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        ],
    }
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Messages {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Messages::new(),
        false => vec![regex_error(HTTP_HEADER_TEXT, HTTP_HEADER, &["X-Header-Name"])],
    }
}

/// The key of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > SUBDOMAIN_MAX_LEN {
        out.push(max_len(SUBDOMAIN_MAX_LEN));
    }
    let shape = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !shape {
        out.push(regex_error(CONFIG_MAP_KEY_TEXT, CONFIG_MAP_KEY, &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        text if text.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// A port number, 1 to 65535.
pub fn port_number(port: i64) -> Messages {
    match (1..=65535).contains(&port) {
        true => Messages::new(),
        false => vec![inclusive_range(1, 65535)],
    }
}

/// A word for machines, as the reason of a condition is.
pub fn condition_reason(text: &str) -> Messages {
    let bytes = text.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|b| word(*b))
        && bytes.iter().all(|b| word(*b) || matches!(b, b',' | b':'));
    match valid {
        true => Messages::new(),
        false => vec![regex_error(
            "a condition reason must start with alphabetic character, optionally followed by a string of \
             alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
            "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
            &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
        )],
    }
}

/// An IANA service name, as container ports have.
pub fn port_name(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 15 {
        out.push(max_len(15));
    }
    if !text.bytes().all(|b| lower_alnum(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// A number and `%`.
pub fn percent(text: &str) -> Messages {
    match text.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Messages::new(),
        _ => vec![regex_error(PERCENT_TEXT, PERCENT, &["1%", "93%"])],
    }
}

/// The prefix of a generated name: checked as a whole name would be, with a trailing hyphen replaced.
pub fn mask_trailing_dash(name: &str) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{}a", &name[..name.len() - 1]).into(),
        _ => name.into(),
    }
}

/// The segment of a path that a resource name is (`path.IsValidPathSegmentName`).
pub fn path_segment(name: &str) -> Messages {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    path_segment_prefix(name)
}

/// The beginning of such a segment.
pub fn path_segment_prefix(name: &str) -> Messages {
    ["/", "%"].iter().filter(|s| name.contains(**s)).map(|s| format!("may not contain '{s}'")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        type Check = fn(&str) -> Messages;
        let table: [(Check, &[&str], &[&str]); 11] = [
            (dns1123_label, &["a", "1-a", "a--b"], &["", "A", "-a", "a-", "a.b", "a_b"]),
            (dns1123_subdomain, &["a", "a.b", "1.2"], &["", ".a", "a.", "a..b", "A", "-a.b"]),
            (dns1035_label, &["a1", "a-1"], &["1a", "", "a-"]),
            (qualified_name, &["a", "A_b.c", "x.io/A"], &["", "/", "/a", "a/", "a/b/c", "X/a", "-a"]),
            (label_value, &["", "a", "A_1.b"], &["-a", "a b", "a/b"]),
            (config_map_key, &["a", ".a", "_"], &["", ".", "..", "..a", "a/b"]),
            (port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "A", "abcdefghijklmnop"]),
            (percent, &["1%", "007%"], &["%", "1", "1%%", "-1%"]),
            (env_var_name, &["a b", "1"], &["", "a=b", "ä"]),
            (wildcard_subdomain, &["*.a", "*.a.b"], &["a", "*", "*.", "*.*.a"]),
            (fully_qualified_name, &["a.b.c"], &["a.b", "A.b.c"]),
        ];
        for (check, good, bad) in table {
            good.iter().for_each(|t| assert_eq!(check(t), Messages::new(), "{t}"));
            bad.iter().for_each(|t| assert_ne!(check(t), Messages::new(), "{t}"));
        }
    }

    #[test]
    fn words() {
        assert_eq!(
            qualified_name("a/b/c"),
            [
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                 an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            ]
        );
        assert_eq!(
            dns1123_subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
    }
}
