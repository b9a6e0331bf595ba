//! A value together with where it stands: what checks walk with.

use schema::{Map, SmolStr, Value};

use crate::field::{BadValue, Errors, FieldError, Path};
use crate::meta::NOT_NEGATIVE;
use crate::names::Messages;

static NULL: Value = Value::Null;

/// A value and its path. Missing fields are null values that still know where they would be.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    /// The value; null when missing.
    pub value: &'a Value,
    /// Where it stands.
    pub path: Path<'a>,
}

impl<'a> Cursor<'a> {
    /// A whole object.
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: Path::ROOT }
    }

    /// A value at `path`.
    pub fn new(value: &'a Value, path: Path<'a>) -> Self {
        Self { value, path }
    }

    /// The field `name`.
    pub fn field<'b>(&'b self, name: &'b str) -> Cursor<'b> {
        Cursor { value: self.value.get(name).unwrap_or(&NULL), path: self.path.child(name) }
    }

    /// Item `index` of a list.
    pub fn index(&self, index: usize) -> Cursor<'_> {
        Cursor { value: self.value.items().get(index).unwrap_or(&NULL), path: self.path.index(index) }
    }

    /// The value at `key` of a map, printed in brackets.
    pub fn key<'b>(&'b self, key: &'b str) -> Cursor<'b> {
        Cursor { value: self.value.get(key).unwrap_or(&NULL), path: self.path.key(key) }
    }

    /// The same value under another path.
    pub fn at<'b>(&'b self, path: Path<'b>) -> Cursor<'b> {
        Cursor { value: self.value, path }
    }

    /// Items of a list with their paths.
    pub fn items(&self) -> impl Iterator<Item = Cursor<'_>> {
        (0..self.value.items().len()).map(|i| self.index(i))
    }

    /// Entries of a map, by key.
    pub fn entries(&self) -> &'a [(SmolStr, Value)] {
        self.value.entries()
    }

    /// Number of items or entries.
    pub fn len(&self) -> usize {
        match self.value {
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            _ => 0,
        }
    }

    /// True when nothing is there: null, `""`, 0, `false`, `[]`, `{}`.
    pub fn is_empty(&self) -> bool {
        self.value.is_zero()
    }

    /// True when something is there, even if empty: what a pointer that is not nil is in Go.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// The text of a string; empty otherwise.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    /// A whole number; 0 otherwise.
    pub fn int(&self) -> i64 {
        self.value.as_int().unwrap_or(0)
    }

    /// A whole number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        self.value.as_int()
    }

    /// A boolean; `false` otherwise.
    pub fn bool(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// An object, if it is one.
    pub fn map(&self) -> Option<&'a Map> {
        self.value.as_map()
    }

    /// The text of a field.
    pub fn text_of(&self, name: &str) -> &'a str {
        self.value.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// A whole number in a field; 0 when missing.
    pub fn int_of(&self, name: &str) -> i64 {
        self.value.get(name).and_then(Value::as_int).unwrap_or(0)
    }

    /// A boolean in a field; `false` when missing.
    pub fn bool_of(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// True when a field is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(|v| !v.is_null())
    }

    /// `Required value: detail`
    pub fn required(&self, out: &mut Errors, detail: impl Into<String>) {
        out.push(FieldError::required(&self.path, detail));
    }

    /// `Invalid value: <this value>: detail`
    pub fn invalid(&self, out: &mut Errors, detail: impl Into<String>) {
        out.push(FieldError::invalid(&self.path, self.value, detail));
    }

    /// `Invalid value: <shown>: detail`
    pub fn invalid_as(&self, out: &mut Errors, shown: impl Into<BadValue>, detail: impl Into<String>) {
        out.push(FieldError::invalid(&self.path, shown, detail));
    }

    /// `Forbidden: detail`
    pub fn forbidden(&self, out: &mut Errors, detail: impl Into<String>) {
        out.push(FieldError::forbidden(&self.path, detail));
    }

    /// `Duplicate value: <this value>`
    pub fn duplicate(&self, out: &mut Errors) {
        out.push(FieldError::duplicate(&self.path, self.value));
    }

    /// `Not found: <this value>`
    pub fn not_found(&self, out: &mut Errors) {
        out.push(FieldError::not_found(&self.path, self.value));
    }

    /// `Unsupported value: <this value>: supported values: ...`
    pub fn not_supported(&self, out: &mut Errors, supported: &[&str]) {
        out.push(FieldError::not_supported(&self.path, self.value, supported));
    }

    /// Each message as an error about this value.
    pub fn each(&self, out: &mut Errors, messages: Messages) {
        let shown = if self.value.is_null() { BadValue::from("") } else { BadValue::from(self.value) };
        out.extend(messages.into_iter().map(|m| FieldError::invalid(&self.path, shown.clone(), m)));
    }

    /// A syntax check of this text; a missing one counts as empty.
    pub fn check(&self, out: &mut Errors, rule: impl Fn(&str) -> Messages) {
        self.each(out, rule(self.text()));
    }

    /// The text must be there, and pass a syntax check.
    pub fn required_name(&self, out: &mut Errors, rule: impl Fn(&str) -> Messages) {
        match self.text().is_empty() {
            true => self.required(out, ""),
            false => self.check(out, rule),
        }
    }

    /// The number must not be below zero; a missing one is not.
    pub fn not_negative(&self, out: &mut Errors) {
        if self.int() < 0 {
            self.invalid(out, NOT_NEGATIVE);
        }
    }

    /// The number must be above zero.
    pub fn positive(&self, out: &mut Errors) {
        if self.int() <= 0 {
            self.invalid_as(out, self.int(), "must be greater than zero");
        }
    }

    /// The text must be one of `allowed`, and must be there.
    pub fn one_of(&self, out: &mut Errors, allowed: &[&str]) {
        match self.text() {
            "" => self.required(out, ""),
            text if allowed.contains(&text) => {}
            _ => self.not_supported(out, allowed),
        }
    }

    /// The text must be one of `allowed`; a missing one counts as the empty text.
    pub fn among(&self, out: &mut Errors, allowed: &[&str]) {
        if !allowed.contains(&self.text()) {
            out.push(FieldError::not_supported(&self.path, self.text(), allowed));
        }
    }

    /// An error when this differs from `old`; nothing, null and empty are the same.
    pub fn immutable(&self, out: &mut Errors, old: &Value) {
        out.extend(crate::meta::immutable(Some(self.value), Some(old), &self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn walks_and_reports() {
        let pod = value!({"spec": {"containers": [{"name": ""}]}});
        let (mut out, root) = (Errors::new(), Cursor::root(&pod));
        let spec = root.field("spec");
        for container in spec.field("containers").items() {
            container.field("name").required_name(&mut out, crate::names::dns1123_label);
            container.field("restartPolicy").among(&mut out, &["Always"]);
        }
        spec.field("priority").not_negative(&mut out);
        let texts: Vec<String> = out.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers[0].name: Required value",
                "spec.containers[0].restartPolicy: Unsupported value: \"\": supported values: \"Always\""
            ]
        );
    }
}
