//! Field paths and field errors (`field.Path`, `field.Error`), printed exactly as upstream prints them.

use std::fmt;

/// Where in an object a value stands, e.g. `spec.containers[0].ports[1].name`.
///
/// A path borrows its parent, so that walking an object without finding errors allocates nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    element: Element<'a>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Element<'a> {
    #[default]
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself. Prints as nothing.
    pub const ROOT: Path<'static> = Path { parent: None, element: Element::Root };

    /// A path of one name, or of several joined by dots.
    pub fn new(name: &'a str) -> Self {
        Self { parent: None, element: Element::Child(name) }
    }

    /// The field `name` of this value; several names may be joined by dots.
    pub fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), element: Element::Child(name) }
    }

    /// Item `index` of this list.
    pub fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), element: Element::Index(index) }
    }

    /// The entry `key` of this map, printed in brackets.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), element: Element::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nested = match self.parent {
            Some(parent) => {
                write!(f, "{parent}")?;
                !matches!(parent.element, Element::Root)
            }
            None => false,
        };
        match self.element {
            Element::Root => Ok(()),
            Element::Child(name) if nested => write!(f, ".{name}"),
            Element::Child(name) => f.write_str(name),
            Element::Index(index) => write!(f, "[{index}]"),
            Element::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field (`field.ErrorType`). The name of a variant is its reason in a Status cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Not there and must be.
    Required,
    /// Malformed, out of range, or at odds with another field.
    Invalid,
    /// There already.
    Duplicate,
    /// Not among the allowed values.
    NotSupported,
    /// Allowed in other circumstances.
    Forbidden,
    /// Too many bytes or characters.
    TooLong,
    /// Too many items.
    TooMany,
    /// Of the wrong type.
    TypeInvalid,
    /// Could not be checked.
    Internal,
    /// Refers to what is not there.
    NotFound,
}

impl ErrorKind {
    /// The reason of the Status cause (`metav1.CauseType`).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Duplicate => "Duplicate value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
            Self::NotFound => "Not found",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

/// The offending value as messages show it: strings quoted, all else as JSON.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum BadValue {
    /// No value is shown.
    #[default]
    Omit,
    /// Shown as it is.
    Text(String),
    /// A map or a list, whose fields [`crate::show_values`] puts in upstream's order and words.
    Json(schema::Value),
}

impl BadValue {
    /// No value is shown.
    pub const OMIT: Self = Self::Omit;

    /// Shown as it is.
    pub fn raw(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The value of a nil pointer, slice or map.
    pub fn null() -> Self {
        Self::raw("null")
    }
}

impl From<&str> for BadValue {
    fn from(text: &str) -> Self {
        Self::Text(quote(text))
    }
}

impl From<&String> for BadValue {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<i64> for BadValue {
    fn from(number: i64) -> Self {
        Self::Text(number.to_string())
    }
}

impl From<&schema::Value> for BadValue {
    fn from(value: &schema::Value) -> Self {
        match value {
            schema::Value::Str(text) => Self::from(text.as_str()),
            other @ (schema::Value::Map(_) | schema::Value::List(_)) => Self::Json(other.clone()),
            other => Self::Text(json(other)),
        }
    }
}

impl From<Option<&schema::Value>> for BadValue {
    fn from(value: Option<&schema::Value>) -> Self {
        value.map_or_else(Self::null, Self::from)
    }
}

/// JSON as Go's encoder writes it, which escapes what HTML would take.
pub fn json(value: &schema::Value) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if text.contains(['<', '>', '&']) {
        return text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    }
    text
}

impl From<bool> for BadValue {
    fn from(truth: bool) -> Self {
        Self::Text(truth.to_string())
    }
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The printed path.
    pub field: String,
    /// What was there.
    pub value: BadValue,
    /// More words; may be empty.
    pub detail: String,
}

/// Shorthand for what most checks give.
pub type Errors = Vec<FieldError>;

impl FieldError {
    /// An error of `kind` at `path`.
    pub fn new(
        kind: ErrorKind,
        path: &Path<'_>,
        value: impl Into<BadValue>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, field: path.to_string(), value: value.into(), detail: detail.into() }
    }

    /// `path: Required value: detail`
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, path, BadValue::OMIT, detail)
    }

    /// `path: Invalid value: "value": detail`
    pub fn invalid(path: &Path<'_>, value: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, path, value, detail)
    }

    /// `path: Duplicate value: "value"`
    pub fn duplicate(path: &Path<'_>, value: impl Into<BadValue>) -> Self {
        Self::new(ErrorKind::Duplicate, path, value, "")
    }

    /// `path: Forbidden: detail`
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, path, BadValue::OMIT, detail)
    }

    /// `path: Not found: "value"`
    pub fn not_found(path: &Path<'_>, value: impl Into<BadValue>) -> Self {
        Self::new(ErrorKind::NotFound, path, value, "")
    }

    /// `path: Unsupported value: "value": supported values: "a", "b"`
    pub fn not_supported(path: &Path<'_>, value: impl Into<BadValue>, supported: &[&str]) -> Self {
        let detail = match supported.is_empty() {
            true => String::new(),
            false => {
                let quoted: Vec<String> = supported.iter().map(|text| quote(text)).collect();
                format!("supported values: {}", quoted.join(", "))
            }
        };
        Self::new(ErrorKind::NotSupported, path, value, detail)
    }

    /// `path: Too long: may not be more than N bytes`
    pub fn too_long(path: &Path<'_>, max_bytes: usize) -> Self {
        Self::new(
            ErrorKind::TooLong,
            path,
            BadValue::OMIT,
            format!("may not be more than {max_bytes} {}", if max_bytes == 1 { "byte" } else { "bytes" }),
        )
    }

    /// `path: Too many: N: must have at most M items`
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        Self::new(
            ErrorKind::TooMany,
            path,
            actual as i64,
            format!("must have at most {max} {}", if max == 1 { "item" } else { "items" }),
        )
    }

    /// `path: Internal error: detail`
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, path, BadValue::OMIT, detail)
    }

    /// The message without the field, as in a Status cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        let shown = match &self.value {
            BadValue::Text(shown) => Some(std::borrow::Cow::Borrowed(shown.as_str())),
            BadValue::Json(value) => Some(json(value).into()),
            BadValue::Omit => None,
        };
        if let (true, Some(shown)) = (self.kind.shows_value(), shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// All messages as one (`ErrorList.ToAggregate`): equal ones once, in brackets when there are several.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut seen = std::collections::HashSet::new();
    let texts: Vec<String> =
        errors.iter().map(FieldError::to_string).filter(|t| seen.insert(t.clone())).collect();
    match texts.as_slice() {
        [only] => only.clone(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// Quotes a text as Go's `%q` does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_print_as_upstream_does() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let name = first.child("name");
        for (error, text) in [
            (FieldError::required(&name, ""), "spec.containers[0].name: Required value"),
            (
                FieldError::invalid(&name, "a\"b", "must be so"),
                r#"spec.containers[0].name: Invalid value: "a\"b": must be so"#,
            ),
            (
                FieldError::not_supported(&spec.child("type"), "x", &["a", "b"]),
                r#"spec.type: Unsupported value: "x": supported values: "a", "b""#,
            ),
            (FieldError::duplicate(&first.key("k"), 3), "spec.containers[0][k]: Duplicate value: 3"),
            (FieldError::too_long(&Path::ROOT.child("a"), 1), "a: Too long: may not be more than 1 byte"),
            (FieldError::too_many(&spec, 3, 2), "spec: Too many: 3: must have at most 2 items"),
            (FieldError::forbidden(&spec, "no"), "spec: Forbidden: no"),
            (FieldError::invalid(&spec, BadValue::OMIT, "no"), "spec: Invalid value: no"),
            (FieldError::invalid(&spec, BadValue::null(), "no"), "spec: Invalid value: null: no"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn equal_messages_are_said_once() {
        let path = Path::new("a");
        let error = FieldError::required(&path, "");
        assert_eq!(aggregate(&[error.clone(), error.clone()]), "a: Required value");
        let other = FieldError::forbidden(&path, "x");
        assert_eq!(aggregate(&[error, other]), "[a: Required value, a: Forbidden: x]");
    }
}
