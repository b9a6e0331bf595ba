//! Decoding by schema: what Go's typed decoding keeps is kept, the rest is dropped and reported.

use std::borrow::Cow;

use schema::{Field, Kind, Map, Node, Object, Presence, Schema, SmolStr, Value, Variant};

use super::go::{self, Step};
use super::read::{Reader, number};
use crate::{Error, scalar};

/// Upstream reports no more than this many unknown and duplicate fields.
const STRICT_ERRORS_MAX: usize = 100;

/// What a body decodes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, in normal form.
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "data.a"`, in the body's order. With `fieldValidation=Strict`
    /// they are an error (joined by `, ` after `strict decoding error: `), with `Warn` each is a warning.
    pub strict_errors: Vec<String>,
}

/// Decodes an object of the kind that `schema` describes.
///
/// Built-in kinds come out as Go's types would write them: unknown fields dropped, null and omitted zero values
/// dropped, always-written fields filled, quantities, times and base64 in canonical form. Custom kinds keep every
/// value of a known field as it is, null and wrong types included (validation reports those); their metadata is
/// decoded as built in.
pub fn decode(body: &[u8], schema: &Schema) -> Result<Decoded, Error> {
    let text = text(body);
    let mut decoder = Decoder { reader: Reader::new(&text), steps: Vec::new(), strict: Vec::new() };
    let value = decoder.value(schema.root(), schema.is_custom())?;
    decoder.reader.finish()?;
    Ok(Decoded { value, strict_errors: decoder.strict })
}

/// Decodes any JSON without a schema. On a repeated key the last value stays.
pub fn parse(body: &[u8]) -> Result<Value, Error> {
    let text = text(body);
    let mut reader = Reader::new(&text);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// Brings an object that a patch or a mutating webhook made into the form that [`decode`] gives.
pub fn conform(value: &Value, schema: &Schema) -> Result<Decoded, Error> {
    decode(&super::encode(value), schema)
}

/// Go replaces what is no UTF-8.
fn text(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body)
}

struct Decoder<'i, 's> {
    reader: Reader<'i>,
    steps: Vec<Step<'s>>,
    strict: Vec<String>,
}

impl<'s> Decoder<'_, 's> {
    /// `verbatim` for values of custom kinds, where nothing is a type error.
    fn value(&mut self, node: Node<'s>, verbatim: bool) -> Result<Value, Error> {
        let first = self.reader.peek()?;
        if first == b'n' {
            return self.reader.literal();
        }
        match (node.kind(), first) {
            (Kind::Any, _) => self.reader.value(),
            (Kind::Object(object), b'{') => self.object(object, node, verbatim),
            (Kind::Map(values), b'{') => self.map(values, verbatim),
            (Kind::List(items), b'[') => self.list(items, verbatim),
            (Kind::Variant(variant, schema), _) => self.variant(variant, schema, first),
            (Kind::Object(_) | Kind::Map(_) | Kind::List(_), _) if verbatim => self.reader.value(),
            (Kind::Object(_) | Kind::Map(_), _) => self.mismatch(node, first),
            // Bytes are a list to Go, which reads base64 from a string.
            (Kind::List(_), _) => self.mismatch(node, first),
            (_, _) if verbatim => self.reader.value(),
            _ => self.scalar(node, first),
        }
    }

    fn mismatch<T>(&mut self, node: Node<'s>, first: u8) -> Result<T, Error> {
        // A syntax error further on goes before a type error.
        let mark = self.reader.mark();
        self.reader.skip()?;
        let found = match first {
            b'{' => "object".to_owned(),
            b'[' => "array".to_owned(),
            b'"' => "string".to_owned(),
            b't' | b'f' => "bool".to_owned(),
            _ if matches!(node.kind(), Kind::Int32 | Kind::Int64 | Kind::Number | Kind::IntOrString) => {
                format!("number {}", self.reader.since(mark).trim())
            }
            _ => "number".to_owned(),
        };
        Err(go::mismatch(&self.steps, &found, &go::target(&self.steps, node)))
    }

    fn scalar(&mut self, node: Node<'s>, first: u8) -> Result<Value, Error> {
        let mark = self.reader.mark();
        match (node.kind(), first) {
            (Kind::String, b'"') => Ok(Value::Str(self.reader.string()?.into())),
            (Kind::Boolean, b't' | b'f') => self.reader.literal(),
            (Kind::Int32 | Kind::Int64 | Kind::IntOrString, b'-' | b'0'..=b'9') => {
                let text = self.reader.number()?;
                let whole = text.parse::<i64>().ok().filter(|i| match node.kind() {
                    Kind::Int64 => true,
                    _ => i32::try_from(*i).is_ok(),
                });
                whole.map(Value::Int).ok_or_else(|| {
                    let found = format!("number {}", self.reader.since(mark).trim());
                    go::mismatch(&self.steps, &found, &go::type_name(node))
                })
            }
            (Kind::IntOrString, b'"') => Ok(Value::Str(self.reader.string()?.into())),
            (Kind::Number, b'-' | b'0'..=b'9') => self.reader.number().map(number),
            (Kind::Quantity, b'"') => scalar::quantity(&self.reader.string()?),
            (Kind::Quantity, b'-' | b'0'..=b'9') => scalar::quantity(self.reader.number()?),
            (Kind::Time, b'"') => scalar::time(&self.reader.string()?),
            (Kind::MicroTime, b'"') => scalar::micro_time(&self.reader.string()?),
            (Kind::Duration, b'"') => scalar::duration(&self.reader.string()?),
            // Go hands whatever is there to the parser.
            (Kind::Quantity, _) => {
                self.reader.skip()?;
                scalar::quantity(self.reader.since(mark).trim())
            }
            (Kind::Bytes, b'"') => scalar::bytes(&self.reader.string()?),
            _ => self.mismatch(node, first),
        }
    }

    fn object(&mut self, object: Object<'s>, node: Node<'s>, verbatim: bool) -> Result<Value, Error> {
        self.reader.enter()?;
        let mut entries: Vec<(SmolStr, Value)> = Vec::new();
        let mut first = true;
        while let Some(key) = self.reader.key(std::mem::take(&mut first))? {
            let (name, value) = match object.field(&key) {
                Some(field) => match self.field(object, field)? {
                    Some(value) => (field.smol_name().clone(), value),
                    None => continue,
                },
                None if node.preserve_unknown() => (key.into(), self.reader.value()?),
                None => {
                    self.reader.skip()?;
                    self.report("unknown", Some(&key));
                    continue;
                }
            };
            match entries.iter_mut().find(|(k, _)| *k == name) {
                Some(entry) => {
                    self.report("duplicate", Some(&name));
                    entry.1 = value;
                }
                None => entries.push((name, value)),
            }
        }
        if !verbatim || object.field("metadata").is_some() {
            fill(object, &mut entries);
        }
        Ok(Value::Map(Map::from_unsorted(entries)))
    }

    /// The value of a known field, or `None` when Go would not write it.
    fn field(&mut self, object: Object<'s>, field: Field<'s>) -> Result<Option<Value>, Error> {
        self.steps.push(Step::Field(object, field));
        let value = self.value(field.node(), field.presence() == Presence::Verbatim)?;
        self.steps.pop();
        Ok(match field.presence() {
            Presence::Optional | Presence::Always if value.is_null() => None,
            Presence::OmitZero if omitted(&value) => None,
            _ => Some(value),
        })
    }

    fn map(&mut self, values: Node<'s>, verbatim: bool) -> Result<Value, Error> {
        self.reader.enter()?;
        let mut entries: Vec<(SmolStr, Value)> = Vec::new();
        while let Some(key) = self.reader.key(entries.is_empty())? {
            let key = SmolStr::from(key);
            self.steps.push(Step::Key(key.clone()));
            let value = self.value(values, verbatim)?;
            self.steps.pop();
            let value = if value.is_null() && !verbatim { zero(values) } else { value };
            entries.push((key, value));
        }
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            let mut keys: Vec<&SmolStr> = entries.iter().map(|(k, _)| k).collect();
            keys.sort_unstable();
            let twice: Vec<SmolStr> =
                keys.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].clone()).collect();
            twice.iter().for_each(|key| self.report("duplicate", Some(key)));
        }
        Ok(Value::Map(Map::from_unsorted(entries)))
    }

    fn list(&mut self, items: Node<'s>, verbatim: bool) -> Result<Value, Error> {
        self.reader.enter()?;
        let mut list = Vec::new();
        while self.reader.item(list.is_empty())? {
            self.steps.push(Step::Index(list.len()));
            let value = self.value(items, verbatim)?;
            self.steps.pop();
            list.push(if value.is_null() && !verbatim { zero(items) } else { value });
        }
        Ok(Value::List(list))
    }

    fn variant(&mut self, variant: Variant, schema: Node<'s>, first: u8) -> Result<Value, Error> {
        match (variant, first) {
            (_, b'{') => self.value(schema, false),
            (Variant::OrList, b'[') => self.list(schema, false),
            (Variant::OrBool, b't' | b'f') => self.reader.literal(),
            (Variant::OrStrings, b'[') => {
                let list = self.reader.value()?;
                let strings = list.items().iter().all(|item| item.as_str().is_some());
                if strings { Ok(list) } else { Err(Error::Type("expected list of strings".to_owned())) }
            }
            (Variant::OrBool, _) => Err(Error::Type("boolean or JSON schema expected".to_owned())),
            _ => self.mismatch(schema, first),
        }
    }

    fn report(&mut self, what: &str, last: Option<&str>) {
        if self.strict.len() < STRICT_ERRORS_MAX {
            self.strict.push(format!("{what} field \"{}\"", go::path(&self.steps, last)));
        }
    }
}

/// What `omitempty` leaves out. A struct is never empty to Go.
fn omitted(value: &Value) -> bool {
    value.is_zero()
}

/// Adds the fields that Go always writes.
pub(crate) fn fill(object: Object<'_>, entries: &mut Vec<(SmolStr, Value)>) {
    for field in object.fields().filter(|f| f.presence() == Presence::Always) {
        if !entries.iter().any(|(k, _)| k == field.name()) {
            entries.push((field.smol_name().clone(), zero(field.node())));
        }
    }
}

/// Go's zero value as JSON.
pub(crate) fn zero(node: Node<'_>) -> Value {
    match node.kind() {
        Kind::Object(object) => {
            let mut entries = Vec::new();
            fill(object, &mut entries);
            Value::Map(Map::from_unsorted(entries))
        }
        Kind::String => Value::str(""),
        Kind::Int32 | Kind::Int64 | Kind::Number | Kind::IntOrString => Value::Int(0),
        Kind::Boolean => Value::Bool(false),
        Kind::Quantity => Value::str("0"),
        _ => Value::Null,
    }
}
