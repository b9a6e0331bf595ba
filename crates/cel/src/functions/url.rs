//! URLs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Function, fail, host, library_type, text};
use crate::value::Key;
use crate::{EvalError, Value};

/// An absolute URL, or an absolute path, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

library_type!(Url, "kubernetes.URL");

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "url" => |a| parse(text(a, 0)?).map(Value::from),
        "isURL" => |a| Ok(Value::Bool(parse(text(a, 0)?).is_ok())),
        "getScheme" => |a| Ok(Value::str(host::<Url>(a, 0)?.scheme.as_str())),
        "getHost" => |a| Ok(Value::str(host::<Url>(a, 0)?.host.as_str())),
        "getHostname" => |a| Ok(Value::str(split_port(&host::<Url>(a, 0)?.host).0)),
        "getPort" => |a| Ok(Value::str(split_port(&host::<Url>(a, 0)?.host).1)),
        "getEscapedPath" => |a| Ok(Value::str(host::<Url>(a, 0)?.path.as_str())),
        "getQuery" => |a| Ok(query(&host::<Url>(a, 0)?.query)),
        _ => return None,
    })
}

/// As Go's `url.ParseRequestURI`: a scheme, or a path that begins at the root.
fn parse(text: &str) -> Result<Url, EvalError> {
    let wrong =
        |why: &str| fail(format!("URL parse error during conversion from string: parse {text:?}: {why}"));
    if text.is_empty() {
        return wrong("empty url");
    }
    if text.bytes().any(|b| b.is_ascii_control()) {
        return wrong("net/url: invalid control character in URL");
    }
    let scheme_len = text
        .bytes()
        .enumerate()
        .take_while(|(i, b)| {
            b.is_ascii_alphabetic() || (*i > 0 && (b.is_ascii_digit() || b"+-.".contains(b)))
        })
        .count();
    let (scheme, rest) = match text[scheme_len..].strip_prefix(':') {
        Some(rest) if scheme_len > 0 => (text[..scheme_len].to_ascii_lowercase(), rest),
        Some(_) => return wrong("missing protocol scheme"),
        None => (String::new(), text),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        return wrong("invalid URI for request");
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        _ => ("", rest),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.contains([' ', '<', '>', '"', '^', '`', '{', '|', '}']) {
        return wrong("invalid character \" \" in host name");
    }
    let port = split_port(host).1;
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return wrong(&format!("invalid port \":{port}\" after host"));
    }
    let path: String = path.chars().map(escaped).collect();
    Ok(Url { text: text.to_owned(), scheme, host: host.to_owned(), path, query: query.to_owned() })
}

fn escaped(c: char) -> String {
    let plain = c.is_ascii_alphanumeric() || "-_.~$&+,/:;=@%!'()*[]".contains(c);
    match plain {
        true => c.to_string(),
        false => c.to_string().bytes().map(|b| format!("%{b:02X}")).collect(),
    }
}

/// Host name without brackets, and port.
fn split_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => (&host[..at], &host[at + 1..]),
        _ => (host, ""),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = text.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn query(text: &str) -> Value {
    let mut all: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.entry(Key::String(unescaped(name).into())).or_default().push(Value::str(unescaped(value)));
    }
    Value::Map(Arc::new(all.into_iter().map(|(name, values)| (name, Value::list(values))).collect()))
}
