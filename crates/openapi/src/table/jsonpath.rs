//! The JSONPath of printer columns and of scale and selectable-field paths: fields, indices, wildcards and filters.

use schema::{SmolStr, Value};

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(SmolStr),
    Index(i64),
    Wildcard,
    Filter { path: JsonPath, operator: Operator, literal: Value },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Exists,
}

/// Why a text is not a path that is understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("unrecognized JSONPath {0:?}")]
pub struct PathError(String);

impl JsonPath {
    /// Parses `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels.a\.b`, `['x']`.
    /// Braces around it are allowed; the empty text is an error.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(inner);
        let inner = inner.strip_prefix(['$', '@']).unwrap_or(inner);
        if inner.is_empty() {
            return Err(PathError(text.to_owned()));
        }
        steps(inner).map(Self).ok_or_else(|| PathError(text.to_owned()))
    }

    /// All values that the path leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![value], |found, step| found.into_iter().flat_map(|v| step.apply(v)).collect())
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                let items = value.items();
                let at = if *index < 0 { items.len() as i64 + index } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            Self::Wildcard => value.items().iter().chain(value.entries().iter().map(|(_, v)| v)).collect(),
            Self::Filter { path, operator, literal } => value
                .items()
                .iter()
                .filter(|item| {
                    let found = path.find(item);
                    match operator {
                        Operator::Exists => !found.is_empty(),
                        Operator::Equal => found.contains(&literal),
                        Operator::NotEqual => found.iter().any(|v| *v != literal),
                    }
                })
                .collect(),
        }
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after)?;
            steps.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(after) = rest.strip_prefix('*') {
            steps.push(Step::Wildcard);
            rest = after;
            continue;
        }
        let (name, after) = field(rest);
        if name.is_empty() && !after.starts_with('[') {
            return None;
        }
        if !name.is_empty() {
            steps.push(Step::Field(name.into()));
        }
        rest = after;
    }
    Some(steps)
}

/// A name up to the next dot or bracket; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes that is already open, quotes and inner brackets minded.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return self::filter(filter);
    }
    match (text, unquote(text)) {
        ("*", _) => Some(Step::Wildcard),
        (_, Some(name)) => Some(Step::Field(name.into())),
        _ => text.parse().ok().map(Step::Index),
    }
}

fn filter(text: &str) -> Option<Step> {
    let (operator, left, right) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((left, right)), _) => (Operator::Equal, left, right),
        (None, Some((left, right))) => (Operator::NotEqual, left, right),
        (None, None) => (Operator::Exists, text, "null"),
    };
    let right = right.trim();
    let literal = match unquote(right) {
        Some(text) => Value::str(text),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Filter { path: JsonPath::parse(left).ok()?, operator, literal })
}

fn unquote(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
}

/// A value as the JSONPath printer writes it: strings as they are, the rest as JSON.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        // Writing a value to a string has no way to fail.
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn paths() {
        let object = value!({"spec": {"n": 3, "l": [1, 2]}, "metadata": {"labels": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        for (path, expected) in [
            (".spec.n", "3"),
            ("{.spec.n}", "3"),
            (".spec.l[1]", "2"),
            (".spec.l[-1]", "2"),
            (".spec.l", "[1,2]"),
            (".metadata.labels.a\\.b/c", "x"),
            (".metadata.labels['a.b/c']", "x"),
            (".status.conditions[?(@.type==\"Ready\")].status", "True"),
            (".status.conditions[?(@.type=='A')].status", "False"),
            (".status.conditions[*].type", "A"),
        ] {
            let found = JsonPath::parse(path).unwrap();
            assert_eq!(found.find(&object).first().map(|v| print(v)).as_deref(), Some(expected), "{path}");
        }
        assert!(JsonPath::parse(".nope").unwrap().find(&object).is_empty());
        assert!(JsonPath::parse("").is_err());
        assert!(JsonPath::parse(".a[").is_err());
    }
}
