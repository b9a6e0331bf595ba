//! Validation of custom resources by their OpenAPI schema, in the words of upstream's OpenAPI validator.
//!
//! Rules (`x-kubernetes-validations`) are run by [`crate::CustomRules`].

use schema::{Constraints, Kind, ListType, Node, SmolStr, Value};

use crate::field::{BadValue, ErrorKind, Errors, FieldError, json};
use crate::formats::matches_format;

/// Checks `value` against its schema. With `root`, `apiVersion`, `kind` and `metadata` are left to others.
pub fn validate_custom(node: Node<'_>, value: &Value, root: bool) -> Errors {
    let mut walk = Walk { path: String::new(), errors: Errors::new() };
    walk.value(node, value, root);
    walk.errors
}

struct Walk {
    path: String,
    errors: Errors,
}

impl Walk {
    fn push(&mut self, kind: ErrorKind, value: impl Into<BadValue>, detail: impl Into<String>) {
        self.errors.push(FieldError {
            kind,
            field: self.path.clone(),
            value: value.into(),
            detail: detail.into(),
        });
    }

    /// An error whose text begins with the path, as the OpenAPI validator's do.
    fn invalid(&mut self, value: &Value, text: &str) {
        let detail = format!("{} in body {text}", self.path);
        self.push(ErrorKind::Invalid, value, detail);
    }

    fn wrong_type(&mut self, wanted: &str, value: &Value) {
        let found = type_of(value);
        let detail = format!("{} in body must be of type {wanted}: {found:?}", self.path);
        self.push(ErrorKind::TypeInvalid, found, detail);
    }

    fn at(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        visit(self);
        self.path.truncate(len);
    }

    fn value(&mut self, node: Node<'_>, value: &Value, root: bool) {
        if value.is_null() && node.nullable() {
            return;
        }
        if let Some(wanted) = type_mismatch(node, value) {
            return self.wrong_type(wanted, value);
        }
        match (node.kind(), value) {
            (Kind::Object(object), Value::Map(map)) => {
                let required = object.fields().filter(|f| f.required() && !map.contains_key(f.name()));
                for field in required {
                    self.at(field.name(), |walk| walk.push(ErrorKind::Required, BadValue::OMIT, ""));
                }
                for (name, value) in map {
                    if root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                        continue;
                    }
                    if let Some(field) = object.field(name) {
                        self.at(name, |walk| walk.value(field.node(), value, false));
                    }
                }
            }
            (Kind::Map(values), Value::Map(map)) => {
                for (name, value) in map {
                    self.at(name, |walk| walk.value(values, value, false));
                }
            }
            (Kind::List(items), Value::List(list)) => {
                for (i, value) in list.iter().enumerate() {
                    self.at(&format!("[{i}]"), |walk| walk.value(items, value, false));
                }
                self.list_type(node, items, list);
            }
            _ => {}
        }
        if node.has_constraints() {
            self.limits(node.constraints(), value);
            self.combinations(node, value);
        }
    }

    fn limits(&mut self, limits: &Constraints, value: &Value) {
        if !limits.enumeration.is_empty() && !limits.enumeration.contains(value) {
            let texts: Vec<String> = limits
                .enumeration
                .iter()
                .map(|v| v.as_str().map_or_else(|| json(v), str::to_owned))
                .collect();
            let supported: Vec<&str> = texts.iter().map(String::as_str).collect();
            let path = self.path.clone();
            self.errors.push(FieldError::not_supported(&crate::Path::new(&path), value, &supported));
        }
        match value {
            Value::Int(_) | Value::Float(_) => self.number(limits, value),
            Value::Str(text) => self.string(limits, text, value),
            Value::List(list) => self.list(limits, list, value),
            Value::Map(map) => {
                let len = map.len() as u64;
                if let Some(max) = limits.max_properties.filter(|max| len > *max) {
                    self.too_many(len, max);
                }
                if let Some(min) = limits.min_properties.filter(|min| len < *min) {
                    self.invalid(value, &format!("should have at least {min} properties"));
                }
            }
            _ => {}
        }
    }

    fn number(&mut self, limits: &Constraints, value: &Value) {
        let number = value.as_f64().unwrap_or(0.0);
        if let Some(max) = limits.maximum {
            let (wrong, words) = match limits.exclusive_maximum {
                true => (number >= max, "less than"),
                false => (number > max, "less than or equal to"),
            };
            if wrong {
                self.invalid(value, &format!("should be {words} {max}"));
            }
        }
        if let Some(min) = limits.minimum {
            let (wrong, words) = match limits.exclusive_minimum {
                true => (number <= min, "greater than"),
                false => (number < min, "greater than or equal to"),
            };
            if wrong {
                self.invalid(value, &format!("should be {words} {min}"));
            }
        }
        if let Some(factor) = limits.multiple_of.filter(|f| *f > 0.0 && (number / f).fract() != 0.0) {
            self.invalid(value, &format!("should be a multiple of {factor}"));
        }
        let range = match limits.format.as_deref() {
            Some("int32") => f64::from(i32::MIN)..=f64::from(i32::MAX),
            _ => return,
        };
        if !range.contains(&number) {
            self.invalid(value, "must be a valid int32");
        }
    }

    fn string(&mut self, limits: &Constraints, text: &str, value: &Value) {
        let len = text.chars().count() as u64;
        if let Some(max) = limits.max_length.filter(|max| len > *max) {
            let unit = if max == 1 { "byte" } else { "bytes" };
            self.push(ErrorKind::TooLong, BadValue::OMIT, format!("may not be more than {max} {unit}"));
        }
        if let Some(min) = limits.min_length.filter(|min| len < *min) {
            self.invalid(value, &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = &limits.pattern
            && !matches_pattern(pattern, text)
        {
            self.invalid(value, &format!("should match '{pattern}'"));
        }
        if let Some(format) = &limits.format
            && !matches_format(format, text)
        {
            let detail = format!("{} in body must be of type {format}: {}", self.path, crate::quote(text));
            self.push(ErrorKind::Invalid, value, detail);
        }
    }

    fn list(&mut self, limits: &Constraints, list: &[Value], value: &Value) {
        let len = list.len() as u64;
        if let Some(max) = limits.max_items.filter(|max| len > *max) {
            self.too_many(len, max);
        }
        if let Some(min) = limits.min_items.filter(|min| len < *min) {
            self.invalid(value, &format!("should have at least {min} items"));
        }
        if limits.unique_items && list.iter().enumerate().any(|(i, v)| list[..i].contains(v)) {
            self.invalid(value, "shouldn't contain duplicates");
        }
    }

    fn too_many(&mut self, len: u64, max: u64) {
        let unit = if max == 1 { "item" } else { "items" };
        self.push(ErrorKind::TooMany, len as i64, format!("must have at most {max} {unit}"));
    }

    /// Sets hold each value once, maps each key once.
    fn list_type(&mut self, node: Node<'_>, items: Node<'_>, list: &[Value]) {
        let identity = |item: &Value| -> Value {
            let key = |name: &SmolStr| {
                let default = || items.field(name).and_then(|f| f.node().default());
                (name.clone(), item.get(name).or_else(default).cloned().unwrap_or_default())
            };
            match node.list_type() {
                ListType::Map => Value::Map(node.list_keys().iter().map(key).collect()),
                _ => item.clone(),
            }
        };
        if node.list_type() == ListType::Atomic {
            return;
        }
        let mut seen: Vec<Value> = Vec::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            let identity = identity(item);
            if seen.contains(&identity) {
                self.at(&format!("[{i}]"), |walk| walk.push(ErrorKind::Duplicate, &identity, ""));
            }
            seen.push(identity);
        }
    }

    fn combinations(&mut self, node: Node<'_>, value: &Value) {
        let fits = |node: Node<'_>| validate_custom(node, value, false).is_empty();
        let mut all = node.all_of().peekable();
        if all.peek().is_some() {
            let mut failed = false;
            for part in all {
                let before = self.errors.len();
                self.value(part, value, false);
                failed |= self.errors.len() > before;
            }
            if failed {
                self.invalid(value, "must validate all the schemas (allOf)");
            }
        }
        let mut any = node.any_of().peekable();
        if any.peek().is_some() && !any.any(fits) {
            self.invalid(value, "must validate at least one schema (anyOf)");
        }
        let mut one = node.one_of().peekable();
        if one.peek().is_some() {
            match one.filter(|part| fits(*part)).count() {
                1 => {}
                0 => self.invalid(value, "must validate one and only one schema (oneOf). Found none valid"),
                several => self.invalid(
                    value,
                    &format!(
                        "must validate one and only one schema (oneOf). Found {several} valid alternatives"
                    ),
                ),
            }
        }
        if node.not().is_some_and(fits) {
            self.invalid(value, "must not validate the schema (not)");
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Int(_) => "integer",
        Value::Float(_) => "number",
        Value::Str(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "object",
    }
}

/// The wanted type, when the value is of another.
fn type_mismatch(node: Node<'_>, value: &Value) -> Option<&'static str> {
    match (node.kind(), value) {
        (Kind::Any | Kind::Variant(..), _) => None,
        (Kind::Object(_) | Kind::Map(_), Value::Map(_)) | (Kind::List(_), Value::List(_)) => None,
        (Kind::Object(_) | Kind::Map(_), _) => Some("object"),
        (Kind::List(_), _) => Some("array"),
        (Kind::Int32 | Kind::Int64, Value::Int(_)) => None,
        (Kind::Int32 | Kind::Int64, Value::Float(f)) if f.fract() == 0.0 => None,
        (Kind::Int32 | Kind::Int64, _) => Some("integer"),
        (Kind::Number, Value::Int(_) | Value::Float(_)) => None,
        (Kind::Number, _) => Some("number"),
        (Kind::Boolean, Value::Bool(_)) => None,
        (Kind::Boolean, _) => Some("boolean"),
        (Kind::IntOrString, Value::Int(_) | Value::Str(_)) => None,
        (Kind::IntOrString, _) => Some("integer,string"),
        (Kind::Quantity, Value::Str(_) | Value::Int(_) | Value::Float(_)) => None,
        (_, Value::Str(_)) => None,
        _ => Some("string"),
    }
}

/// One that does not compile matches nothing, as the definition should have been refused.
fn matches_pattern(pattern: &SmolStr, text: &str) -> bool {
    cel::regex(pattern).is_ok_and(|regex| regex.is_match(text))
}
