//! Regular expressions in RE2's syntax, run by the `regex` crate.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;

/// Most compiled expressions kept; beyond it the cache starts anew.
const MAX_CACHED: usize = 1_024;

/// Compiles a pattern of RE2's syntax; the error is for people. Compiled patterns are kept for a while.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    static CACHE: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = cache.get(pattern) {
        return Ok(found.clone());
    }
    let compiled = Regex::new(&translate(pattern)).map_err(|error| error.to_string())?;
    if cache.len() >= MAX_CACHED {
        cache.clear();
    }
    cache.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}

/// The two syntaxes differ in what `\d` and its kin cover, and in what needs escaping.
fn translate(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let (mut i, mut class_start) = (0, None::<usize>);
    while i < chars.len() {
        let (c, next) = (chars[i], chars.get(i + 1).copied());
        if c == '\\' {
            i += escape(&chars[i..], class_start.is_some(), &mut out);
            continue;
        }
        match class_start {
            None if c == '[' => {
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    i += 1;
                }
                class_start = Some(i + 1);
            }
            None if c == '{' && !is_repetition(&chars[i..]) => out.push_str("\\{"),
            Some(start) if c == ']' && i > start => {
                out.push(']');
                class_start = None;
            }
            Some(_) if c == '[' && next == Some(':') => {
                let end =
                    chars[i..].windows(2).position(|w| w == [':', ']']).map_or(chars.len(), |n| i + n + 2);
                out.extend(&chars[i..end]);
                i = end;
                continue;
            }
            Some(_) if matches!(c, '[' | ']' | '&' | '~') => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        i += 1;
    }
    out
}

/// Writes what stands for an escape; gives how many characters it was.
fn escape(chars: &[char], in_class: bool, out: &mut String) -> usize {
    let Some(c) = chars.get(1) else {
        out.push('\\');
        return 1;
    };
    let (inner, negated) = match c {
        'd' => ("0-9", false),
        'D' => ("0-9", true),
        'w' => ("0-9A-Za-z_", false),
        'W' => ("0-9A-Za-z_", true),
        's' => ("\\t\\n\\f\\r ", false),
        'S' => ("\\t\\n\\f\\r ", true),
        'b' if !in_class => {
            out.push_str("(?-u:\\b)");
            return 2;
        }
        'B' if !in_class => {
            out.push_str("\\B");
            return 2;
        }
        'Q' => {
            let end = chars.windows(2).position(|w| w == ['\\', 'E']).unwrap_or(chars.len());
            let literal: String = chars[2..end.max(2)].iter().collect();
            out.push_str(&regex::escape(&literal));
            return (end + 2).min(chars.len());
        }
        _ => {
            out.push('\\');
            out.push(*c);
            return 2;
        }
    };
    match (in_class, negated) {
        (true, false) => out.push_str(inner),
        (_, false) => {
            out.push('[');
            out.push_str(inner);
            out.push(']');
        }
        (_, true) => {
            out.push_str("[^");
            out.push_str(inner);
            out.push(']');
        }
    }
    2
}

/// `{n}`, `{n,}` or `{n,m}`; other braces are plain characters.
fn is_repetition(chars: &[char]) -> bool {
    let inner: String = chars[1..].iter().take_while(|c| **c != '}').collect();
    let closed = chars.len() > inner.chars().count() + 1;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    closed
        && match inner.split_once(',') {
            Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
            None => digits(&inner),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_re2() {
        for (pattern, text, matches) in [
            ("^\\d+$", "12", true),
            ("^\\d+$", "١٢", false),
            ("^[\\w.]+$", "a.b_c", true),
            ("^[^\\s]+$", "a b", false),
            ("a{", "a{", true),
            ("^a{2}$", "aa", true),
            ("^[a&&b]$", "&", true),
            ("^[]a]$", "]", true),
            ("^[[:alpha:]]$", "x", true),
            ("^\\Qa.b\\E$", "a.b", true),
            ("^\\Qa.b\\E$", "axb", false),
        ] {
            assert_eq!(regex(pattern).unwrap().is_match(text), matches, "{pattern} {text}");
        }
        assert!(regex("a(").is_err());
    }
}
