//! Strings and regular expressions.

use super::convert::{display, double_text};
use super::{Eval, Function, fail, int, items, no_overload, regex, text};
use crate::{EvalError, Value};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "contains" => |a| Ok(Value::Bool(text(a, 0)?.contains(text(a, 1)?))),
        "startsWith" => |a| Ok(Value::Bool(text(a, 0)?.starts_with(text(a, 1)?))),
        "endsWith" => |a| Ok(Value::Bool(text(a, 0)?.ends_with(text(a, 1)?))),
        "matches" => |a| Ok(Value::Bool(compiled(text(a, 1)?)?.is_match(text(a, 0)?))),
        "charAt" => char_at,
        "lowerAscii" => |a| Ok(Value::str(text(a, 0)?.to_ascii_lowercase())),
        "upperAscii" => |a| Ok(Value::str(text(a, 0)?.to_ascii_uppercase())),
        "trim" => |a| Ok(Value::str(text(a, 0)?.trim())),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "format" => format_string,
        "strings.quote" => |a| Ok(Value::str(quote(text(a, 0)?))),
        "find" => |a| {
            let found = compiled(text(a, 1)?)?.find(text(a, 0)?).map_or("", |m| m.as_str());
            Ok(Value::str(found))
        },
        "findAll" => |a| {
            let limit = if a.len() > 2 { int(a, 2)? } else { -1 };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let regex = compiled(text(a, 1)?)?;
            Ok(Value::list(
                regex.find_iter(text(a, 0)?).take(limit).map(|m| Value::str(m.as_str())).collect(),
            ))
        },
        "jsonpatch.escapeKey" => |a| Ok(Value::str(text(a, 0)?.replace('~', "~0").replace('/', "~1"))),
        _ => return None,
    })
}

fn compiled(pattern: &str) -> Result<regex::Regex, EvalError> {
    regex(pattern).map_err(|error| EvalError::new(format!("error parsing regexp: {error}")))
}

fn chars(args: &[Value]) -> Result<Vec<char>, EvalError> {
    Ok(text(args, 0)?.chars().collect())
}

fn char_at(args: &[Value]) -> Eval {
    let (chars, at) = (chars(args)?, int(args, 1)?);
    match usize::try_from(at) {
        Ok(i) if i == chars.len() => Ok(Value::str("")),
        Ok(i) if i < chars.len() => Ok(Value::str(chars[i].to_string())),
        _ => fail(format!("index out of range: {at}")),
    }
}

/// `indexOf` and `lastIndexOf` of strings, with an optional offset.
pub(super) fn index_of(args: &[Value], last: bool) -> Eval {
    let (chars, wanted): (Vec<char>, Vec<char>) = (chars(args)?, text(args, 1)?.chars().collect());
    let offset = match args.get(2) {
        Some(_) => Some(int(args, 2)?),
        None => None,
    };
    if let Some(offset) = offset.filter(|o| *o < 0 || *o as usize > chars.len()) {
        return fail(format!("index out of range: {offset}"));
    }
    if wanted.is_empty() {
        let end = if last { chars.len() as i64 } else { 0 };
        return Ok(Value::Int(offset.unwrap_or(end)));
    }
    if wanted.len() > chars.len() {
        return Ok(Value::Int(-1));
    }
    let fits = |at: &usize| chars[*at..].starts_with(&wanted);
    let (end, offset) = (chars.len() - wanted.len(), offset.map(|o| o as usize));
    let found = match last {
        true => (0..=end.min(offset.unwrap_or(end))).rev().find(fits),
        false => (offset.unwrap_or(0)..=end).find(fits),
    };
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn replace(args: &[Value]) -> Eval {
    let (from, to) = (text(args, 1)?, text(args, 2)?);
    let limit = if args.len() > 3 { int(args, 3)? } else { -1 };
    Ok(Value::str(match usize::try_from(limit) {
        Ok(limit) => text(args, 0)?.replacen(from, to, limit),
        Err(_) => text(args, 0)?.replace(from, to),
    }))
}

fn split(args: &[Value]) -> Eval {
    let (whole, separator) = (text(args, 0)?, text(args, 1)?);
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    let parts: Vec<Value> = match (limit, separator) {
        (0, _) => Vec::new(),
        (n, "") => {
            let all: Vec<char> = whole.chars().collect();
            let single = usize::try_from(n).map_or(all.len(), |n| all.len().min(n - 1));
            let mut parts: Vec<Value> = all[..single].iter().map(|c| Value::str(c.to_string())).collect();
            if single < all.len() {
                parts.push(Value::str(all[single..].iter().collect::<String>()));
            }
            parts
        }
        (n, separator) if n > 0 => whole.splitn(n as usize, separator).map(Value::str).collect(),
        (_, separator) => whole.split(separator).map(Value::str).collect(),
    };
    Ok(Value::list(parts))
}

fn substring(args: &[Value]) -> Eval {
    let (chars, start) = (chars(args)?, int(args, 1)?);
    let end = if args.len() > 2 { int(args, 2)? } else { chars.len() as i64 };
    if start > end {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    for at in [start, end] {
        if at < 0 || at as usize > chars.len() {
            return fail(format!("index out of range: {at}"));
        }
    }
    Ok(Value::str(chars[start as usize..end as usize].iter().collect::<String>()))
}

fn join(args: &[Value]) -> Eval {
    let separator = if args.len() > 1 { text(args, 1)? } else { "" };
    let parts: Option<Vec<&str>> = items(args, 0)?.iter().map(Value::as_str).collect();
    match parts {
        Some(parts) => Ok(Value::str(parts.join(separator))),
        None => no_overload(),
    }
}

/// A string in quotes with escapes.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `'%d of %s'.format([1, 'x'])`
fn format_string(args: &[Value]) -> Eval {
    let (template, values) = (text(args, 0)?, items(args, 1)?);
    let mut out = String::new();
    let (mut chars, mut next) = (template.chars().peekable(), 0);
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = digits.parse::<usize>().ok();
        }
        let Some(clause) = chars.next() else {
            return fail("could not parse formatting clause: unexpected end of format string");
        };
        if clause == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.get(next) else { return fail(format!("index {next} out of range")) };
        next += 1;
        out.push_str(&clause_text(clause, precision, value)?);
    }
    Ok(Value::str(out))
}

/// Most digits behind the point that `format` gives.
const MAX_PRECISION: usize = 100;

fn clause_text(clause: char, precision: Option<usize>, value: &Value) -> Result<String, EvalError> {
    let digits = precision.unwrap_or(6).min(MAX_PRECISION);
    Ok(match (clause, value) {
        ('s', value) => shown(value),
        ('d', Value::Int(i)) => i.to_string(),
        ('d', Value::Uint(u)) => u.to_string(),
        ('f' | 'e', Value::Double(d)) if !d.is_finite() => {
            double_text(*d).replace("+Inf", "Infinity").replace("Inf", "Infinity")
        }
        ('f', number) => format!("{:.digits$}", as_double(number)?),
        ('e', number) => {
            let text = format!("{:.digits$e}", as_double(number)?);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        ('b', Value::Bool(b)) => i32::from(*b).to_string(),
        ('b', Value::Int(i)) => format!("{}{:b}", if *i < 0 { "-" } else { "" }, i.unsigned_abs()),
        ('b', Value::Uint(u)) => format!("{u:b}"),
        ('o', Value::Int(i)) => format!("{}{:o}", if *i < 0 { "-" } else { "" }, i.unsigned_abs()),
        ('o', Value::Uint(u)) => format!("{u:o}"),
        ('x', value) => hex(value)?,
        ('X', value) => hex(value)?.to_uppercase(),
        ('d' | 'b' | 'o', other) => {
            return Err(EvalError::new(format!(
                "error during formatting: %{clause} clause cannot be used on {}",
                super::convert::type_of(other)
            )));
        }
        _ => {
            let words =
                format!("could not parse formatting clause: unrecognized formatting clause \"{clause}\"");
            return Err(EvalError::new(words));
        }
    })
}

fn as_double(value: &Value) -> Result<f64, EvalError> {
    match value {
        Value::Double(d) => Ok(*d),
        Value::Int(i) => Ok(*i as f64),
        Value::Uint(u) => Ok(*u as f64),
        _ => no_overload(),
    }
}

fn hex(value: &Value) -> Result<String, EvalError> {
    let bytes = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect();
    match value {
        Value::Int(i) => Ok(format!("{}{:x}", if *i < 0 { "-" } else { "" }, i.unsigned_abs())),
        Value::Uint(u) => Ok(format!("{u:x}")),
        Value::String(text) => Ok(bytes(text.as_bytes())),
        Value::Bytes(b) => Ok(bytes(b)),
        _ => no_overload(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::List(items, _) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(map) | Value::Object(_, map) => {
            let entry = |(k, v): (&crate::Key, &Value)| format!("{k}: {}", shown(v));
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Host(_) => super::net::text_of(value).unwrap_or_else(|| display(value)),
        other => display(other),
    }
}
