//! The writer: block style, two spaces, lists not indented, as `sigs.k8s.io/yaml` writes.

use schema::Value;

use crate::json;

/// The object as one YAML document, keys in order.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    match value {
        Value::Map(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::List(list) if !list.is_empty() => block(value, 0, &mut out),
        _ => {
            scalar(value, 0, &mut out);
            out.push(b'\n');
        }
    }
    out
}

fn indent(depth: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * depth, b' ');
}

/// The lines of a list or map that is not empty.
fn block(value: &Value, depth: usize, out: &mut Vec<u8>) {
    for item in value.items() {
        indent(depth, out);
        out.extend_from_slice(b"- ");
        match item {
            Value::Map(map) if !map.is_empty() => inline_first(item, depth + 1, out),
            Value::List(list) if !list.is_empty() => inline_first(item, depth + 1, out),
            _ => {
                scalar(item, depth + 1, out);
                out.push(b'\n');
            }
        }
    }
    for (key, item) in value.entries() {
        indent(depth, out);
        string(key, depth, out);
        out.push(b':');
        match item {
            Value::Map(map) if !map.is_empty() => {
                out.push(b'\n');
                block(item, depth + 1, out);
            }
            Value::List(list) if !list.is_empty() => {
                out.push(b'\n');
                block(item, depth, out);
            }
            _ => {
                out.push(b' ');
                scalar(item, depth + 1, out);
                out.push(b'\n');
            }
        }
    }
}

/// A block whose first line continues the line of its dash.
fn inline_first(value: &Value, depth: usize, out: &mut Vec<u8>) {
    let start = out.len();
    block(value, depth, out);
    out.drain(start..start + 2 * depth);
}

fn scalar(value: &Value, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Str(text) => string(text, depth, out),
        Value::List(_) => out.extend_from_slice(b"[]"),
        Value::Map(_) => out.extend_from_slice(b"{}"),
        other => json::encode_into(other, out),
    }
}

fn string(text: &str, depth: usize, out: &mut Vec<u8>) {
    if plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else if literal(text) {
        let chomp = match (text.ends_with('\n'), text.ends_with("\n\n")) {
            (false, _) => "|-",
            (true, false) => "|",
            (true, true) => "|+",
        };
        out.extend_from_slice(chomp.as_bytes());
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            out.push(b'\n');
            if !line.is_empty() {
                indent(depth, out);
                out.extend_from_slice(line.as_bytes());
            }
        }
    } else if quotable(text) {
        out.push(b'\'');
        out.extend_from_slice(text.replace('\'', "''").as_bytes());
        out.push(b'\'');
    } else {
        // A JSON string is a YAML double-quoted string.
        json::encode_string(text, out);
    }
}

/// Several lines of printable text can stand as they are in a literal block.
fn literal(text: &str) -> bool {
    let printable = |c: char| {
        c == '\n' || c == '\t' || !(c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'))
    };
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(printable)
        && text.trim_end_matches('\n') == text.trim_end_matches(['\n', ' ', '\t'])
}

/// True when the text needs no quotes and reads back as a string.
fn plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let alone = text.chars().nth(1).is_none_or(char::is_whitespace);
    !(other_type(text)
        || text.starts_with("---")
        || text.starts_with("...")
        || text.starts_with(' ')
        || text.ends_with([' ', ':'])
        || "#,[]{}&*!|>'\"%@`".contains(first)
        || ("-?:".contains(first) && alone)
        || text.contains(": ")
        || text.contains(" #")
        || !text.chars().all(printable))
}

/// True when single quotes do: what is plain to look at and would read back as a string but for its punctuation.
fn quotable(text: &str) -> bool {
    !other_type(text) && text.chars().all(printable)
}

fn printable(c: char) -> bool {
    !(c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'))
}

/// What YAML 1.1 takes for a number, a time, a truth value or nothing.
fn other_type(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return true };
    let number_like = first.is_ascii_digit() || "+-.".contains(first);
    let digits = text.chars().any(|c| c.is_ascii_digit());
    if number_like && digits && text.chars().all(|c| c.is_ascii_hexdigit() || "xXoO_+-.:TZtz ".contains(c)) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    matches!(
        lower.as_str(),
        "y" | "n"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "true"
            | "false"
            | "null"
            | "~"
            | "nan"
            | ".nan"
            | ".inf"
            | "+.inf"
            | "-.inf"
            | "inf"
            | "<<"
            | "="
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;
    use schema::value;

    #[test]
    fn block_style() {
        let object = value!({"kind": "Pod", "spec": {"containers": [{"name": "a", "args": ["-c", "x: y"], "env": []}]}, "o": null});
        let expected = "kind: Pod\no: null\nspec:\n  containers:\n  - args:\n    - -c\n    - 'x: y'\n    env: []\n    name: a\n";
        assert_eq!(String::from_utf8(encode(&object)).unwrap(), expected);
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            "",
            " ",
            "a",
            "yes",
            "1",
            "1.5",
            "0x1f",
            "2020-01-01T00:00:00Z",
            "a\nb",
            "a\nb\n",
            "a\n\n",
            "\na",
            " a\nb",
            "a: b",
            "a #b",
            "- a",
            "é\u{1}",
            "tab\there",
            "it's: so",
            "configmaps \"none\" not found",
            "-c",
            "--flag=x",
            "-1",
            "[x]",
            "@x",
            "...",
            "a:b",
            "http://x/y?z#a",
            "true",
            "~",
            "null",
            "*x",
            "&x",
            "a\n  b\nc\n",
            "1Gi",
            "100m",
            "12:30",
            "=",
            "\"q\"",
            "trailing \nx",
        ] {
            let object = value!({"k": text, "l": [text, [text], {"m": text}]});
            assert_eq!(yaml::parse(&encode(&object)), Ok(object), "{text:?}");
        }
    }
}
