//! The stored form of objects: JSON without resourceVersion, laid out so that readers are served by copying bytes.
//!
//! `kind`, `apiVersion` and `metadata` come first, in this order. An answer is made from stored bytes by writing the
//! kind and version asked for and the entry's revision before the rest; nothing is decoded.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use schema::{Resource, SelectableField, SmolStr, Value};
use store::Entry;

use crate::encryption::{Encryption, MARK};
use crate::status::{ApiError, ApiResult};

/// What marks the start of metadata in stored JSON.
const METADATA: &[u8] = b"\"metadata\":{";

/// A larger scratch is given back to the system.
const MAX_SCRATCH_BYTES: usize = 256 * 1024;

thread_local! {
    /// Where objects are encoded before their length is known.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Hangs on every entry: where the splice goes, and what selectors ask for.
#[derive(Debug)]
pub struct ObjectMemo {
    /// Offset in the JSON just after `"metadata":{`.
    splice_at: usize,
    json: Json,
    facts: OnceLock<Facts>,
    decoded: OnceLock<Arc<Value>>,
}

/// Where an object's JSON is.
#[derive(Debug)]
enum Json {
    /// It is the stored value.
    Stored,
    /// Here: the stored value is something else (of another layout, encrypted).
    Own(Bytes),
    /// Nowhere: the stored value cannot be decrypted; [`readable`] says why.
    Unreadable,
}

impl From<Option<Bytes>> for Json {
    fn from(own: Option<Bytes>) -> Self {
        own.map_or(Self::Stored, Self::Own)
    }
}

/// Hangs on an encrypted entry that could not be decrypted when it was looked at first.
#[derive(Debug)]
struct Sealed {
    why: Mutex<Box<str>>,
    opened: OnceLock<Arc<ObjectMemo>>,
}

impl Sealed {
    fn of(entry: &Entry, why: &str) -> Arc<Self> {
        entry.memo_or_init(|_| Self { why: Mutex::new(why.into()), opened: OnceLock::new() })
    }
}

/// What selectors ask for.
#[derive(Debug, Default)]
struct Facts {
    labels: Box<[(SmolStr, SmolStr)]>,
    fields: Box<[(SmolStr, SmolStr)]>,
}

/// Encodes an object for the store, with the memo for its entry.
pub fn encode(object: &Value, resource: &Resource) -> ApiResult<(Bytes, Arc<ObjectMemo>)> {
    let mut out = SCRATCH.take();
    out.clear();
    out.push(b'{');
    for field in ["kind", "apiVersion"] {
        if let Some(text) = object.get(field).and_then(Value::as_str) {
            write_member(&mut out, field, &Value::str(text))?;
            out.push(b',');
        }
    }
    out.extend_from_slice(METADATA);
    let splice_at = out.len();
    for (i, (key, value)) in
        object["metadata"].entries().iter().filter(|(k, _)| k != "resourceVersion").enumerate()
    {
        if i > 0 {
            out.push(b',');
        }
        write_member(&mut out, key, value)?;
    }
    out.push(b'}');
    for (key, value) in object.entries() {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            out.push(b',');
            write_member(&mut out, key, value)?;
        }
    }
    out.push(b'}');
    let facts = OnceLock::from(facts_of(object, resource));
    let memo = ObjectMemo { splice_at, json: Json::Stored, facts, decoded: OnceLock::new() };
    let bytes = Bytes::copy_from_slice(&out);
    if out.capacity() <= MAX_SCRATCH_BYTES {
        SCRATCH.set(out);
    }
    Ok((bytes, Arc::new(memo)))
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) -> ApiResult<()> {
    serde_json::to_writer(&mut *out, key).map_err(ApiError::internal)?;
    out.push(b':');
    serde_json::to_writer(out, value).map_err(ApiError::internal)
}

/// The memo of an entry, made now if it was read from disk.
pub fn memo(entry: &Entry) -> Arc<ObjectMemo> {
    if entry.value.starts_with(MARK) {
        return entry.memo().unwrap_or_else(|| {
            let sealed = entry.memo::<Sealed>();
            let opened = sealed.and_then(|sealed| sealed.opened.get().cloned());
            opened.unwrap_or_else(|| Arc::new(ObjectMemo::unreadable()))
        });
    }
    entry.memo_or_init(|entry| {
        let json = laid_out(&entry.value);
        let bytes = json.as_ref().unwrap_or(&entry.value);
        let splice_at = find(bytes, METADATA).map_or(bytes.len(), |at| at + METADATA.len());
        ObjectMemo { splice_at, json: json.into(), facts: OnceLock::new(), decoded: OnceLock::new() }
    })
}

/// Gives an entry whose stored form is encrypted its plain form.
pub fn set_plain(entry: &Entry, plain: Bytes) {
    let json = laid_out(&plain).unwrap_or(plain);
    let made = Arc::new(memo_of_sealed(json));
    entry.set_memo(made.clone());
    if entry.memo::<ObjectMemo>().is_none() {
        let _ = Sealed::of(entry, "").opened.set(made);
    }
}

/// Says why the stored form of an entry cannot be decrypted.
pub fn set_unreadable(entry: &Entry, why: &str) {
    *Sealed::of(entry, why).why.lock() = why.into();
}

/// Whether an encrypted entry has its plain form.
pub fn is_readable(entry: &Entry) -> bool {
    entry.memo::<ObjectMemo>().is_some() || entry.memo::<Sealed>().is_some_and(|s| s.opened.get().is_some())
}

/// An error that says why if an entry cannot be decrypted.
pub fn readable(entry: &Entry) -> ApiResult<()> {
    if !entry.value.starts_with(MARK) || is_readable(entry) {
        return Ok(());
    }
    let why = Sealed::of(entry, "nothing decrypts it").why.lock().clone();
    Err(ApiError::internal(format!("unable to transform key {:?}: {why}", entry.key.to_string())))
}

/// The memo of an entry whose stored form is not its JSON.
fn memo_of_sealed(json: Bytes) -> ObjectMemo {
    let splice_at = find(&json, METADATA).map_or(json.len(), |at| at + METADATA.len());
    ObjectMemo { splice_at, json: Json::Own(json), facts: OnceLock::new(), decoded: OnceLock::new() }
}

/// As [`encode`], encrypted if the server's configuration says so.
pub fn encode_sealed(
    object: &Value,
    resource: &Resource,
    key: &str,
    encryption: Option<&Encryption>,
) -> ApiResult<(Bytes, Arc<ObjectMemo>)> {
    seal(encode(object, resource)?, resource, key, encryption)
}

/// What [`encode`] gave, encrypted if the server's configuration says so.
pub fn seal(
    (bytes, memo): (Bytes, Arc<ObjectMemo>),
    resource: &Resource,
    key: &str,
    encryption: Option<&Encryption>,
) -> ApiResult<(Bytes, Arc<ObjectMemo>)> {
    match encryption.map(|encryption| encryption.seal(resource, key, &bytes)).transpose()?.flatten() {
        Some(sealed) => Ok((sealed, Arc::new(memo_of_sealed(bytes)))),
        None => Ok((bytes, memo)),
    }
}

/// Stored bytes of another layout (written by another server) brought into ours; `None` when they are in it.
fn laid_out(value: &Bytes) -> Option<Bytes> {
    if value.starts_with(b"{\"kind\":") {
        return None;
    }
    let object: Value = serde_json::from_slice(value).ok()?;
    let mut out = b"{".to_vec();
    for field in ["kind", "apiVersion"] {
        write_member(&mut out, field, &object[field]).ok()?;
        out.push(b',');
    }
    write_member(&mut out, "metadata", &object["metadata"]).ok()?;
    for (key, value) in
        object.entries().iter().filter(|(k, _)| !["kind", "apiVersion", "metadata"].contains(&k.as_str()))
    {
        out.push(b',');
        write_member(&mut out, key, value).ok()?;
    }
    out.push(b'}');
    Some(out.into())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn facts_of(object: &Value, resource: &Resource) -> Facts {
    let labels = object["metadata"]["labels"]
        .entries()
        .iter()
        .filter_map(|(k, v)| Some((k.clone(), v.as_smol()?.clone())))
        .collect();
    let fields = resource
        .selectable_fields
        .iter()
        .map(|field| (field.label.clone(), field_text(object, field)))
        .collect();
    Facts { labels, fields }
}

/// A field's value as field selectors compare it.
fn field_text(object: &Value, field: &SelectableField) -> SmolStr {
    let mut values = field.paths.iter().filter_map(|path| object.pointer(path));
    match values.next() {
        Some(Value::Str(text)) => text.clone(),
        Some(Value::Bool(b)) => SmolStr::new_static(if *b { "true" } else { "false" }),
        Some(Value::Int(i)) => SmolStr::from(i.to_string()),
        _ => field.absent.clone(),
    }
}

impl ObjectMemo {
    fn unreadable() -> Self {
        Self { splice_at: 0, json: Json::Unreadable, facts: OnceLock::default(), decoded: OnceLock::new() }
    }

    /// The JSON of the object as it is stored, decrypted; nothing if it cannot be.
    pub fn bytes<'a>(&'a self, entry: &'a Entry) -> &'a [u8] {
        match &self.json {
            Json::Stored => &entry.value,
            Json::Own(json) => json,
            Json::Unreadable => b"",
        }
    }

    fn facts(&self, entry: &Entry, resource: &Resource) -> &Facts {
        self.facts.get_or_init(|| match self.parse(entry) {
            Ok(object) => facts_of(&object, resource),
            Err(error) => {
                tracing::error!(key = %entry.key, %error, "stored object cannot be read");
                Facts::default()
            }
        })
    }

    /// The value of a label.
    pub fn label<'a>(&'a self, entry: &Entry, resource: &Resource, key: &str) -> Option<&'a str> {
        self.facts(entry, resource).labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The value of a selectable field; `None` if it is none.
    pub fn field<'a>(&'a self, entry: &Entry, resource: &Resource, label: &str) -> Option<&'a str> {
        self.facts(entry, resource).fields.iter().find(|(k, _)| k == label).map(|(_, v)| v.as_str())
    }

    fn parse(&self, entry: &Entry) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(self.bytes(entry))
    }

    /// Writes the object as JSON with its resourceVersion. `header` is [`header`]'s text, or `{` for list items
    /// without kind.
    pub fn write_json(&self, out: &mut Vec<u8>, entry: &Entry, header: &[u8], revision: u64) {
        let rest = &self.bytes(entry)[self.splice_at..];
        out.reserve(header.len() + rest.len() + 64);
        out.extend_from_slice(header);
        out.extend_from_slice(METADATA);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        let mut digits = [0_u8; 20];
        out.extend_from_slice(decimal(revision, &mut digits));
        out.push(b'"');
        if !rest.starts_with(b"}") {
            out.push(b',');
        }
        out.extend_from_slice(rest);
    }

    /// The object decoded, with its resourceVersion. Decoded anew each time.
    pub fn decode(&self, entry: &Entry) -> ApiResult<Value> {
        readable(entry)?;
        let mut object = self
            .parse(entry)
            .map_err(|e| ApiError::internal(format!("unable to decode {}: {e}", entry.key)))?;
        super::meta::set(&mut object, "resourceVersion", entry.mod_revision.0.to_string());
        Ok(object)
    }

    /// The object decoded once and kept as long as the entry: for small objects that every request asks for
    /// (namespaces, roles, priority classes).
    pub fn decoded(&self, entry: &Entry) -> ApiResult<Arc<Value>> {
        if let Some(object) = self.decoded.get() {
            return Ok(object.clone());
        }
        let object = Arc::new(self.decode(entry)?);
        Ok(self.decoded.get_or_init(|| object).clone())
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// The start of an object of that kind and version: `{"kind":"Pod","apiVersion":"v1",`.
pub fn header(kind: &str, api_version: &str) -> Vec<u8> {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{LeaseId, Revision};

    fn resource() -> Resource {
        Resource {
            group: "".into(),
            version: "v1".into(),
            plural: "pods".into(),
            singular: "pod".into(),
            kind: "Pod".into(),
            list_kind: "PodList".into(),
            short_names: vec![],
            categories: vec![],
            namespaced: true,
            verbs: vec![],
            subresources: vec![],
            schema: schema::Schema::any(),
            columns: vec![],
            selectable_fields: vec![SelectableField {
                label: "spec.nodeName".into(),
                paths: vec![vec!["spec".into(), "nodeName".into()]],
                absent: "".into(),
            }],
            storage: Default::default(),
            custom: false,
        }
    }

    #[test]
    fn bytes_are_spliced_and_facts_survive_a_restart() {
        let pod = schema::value!({
            "apiVersion": "v1", "kind": "Pod", "data": {"metadata": {}},
            "metadata": {"name": "p", "labels": {"a": "b"}, "resourceVersion": "7"}, "spec": {"nodeName": "n"}
        });
        let (bytes, with_facts) = encode(&pod, &resource()).unwrap();
        let revisions = (Revision(1), Revision(42), 1);
        let fresh = Entry::new("k".into(), bytes.clone(), revisions, LeaseId::NONE);
        fresh.set_memo(with_facts);
        let recovered = Entry::new("k".into(), bytes, revisions, LeaseId::NONE);
        for entry in [fresh, recovered] {
            let memo = memo(&entry);
            let mut out = Vec::new();
            memo.write_json(&mut out, &entry, &header("Pod", "v2"), 42);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                r#"{"kind":"Pod","apiVersion":"v2","metadata":{"resourceVersion":"42","labels":{"a":"b"},"name":"p"},"data":{"metadata":{}},"spec":{"nodeName":"n"}}"#
            );
            assert_eq!(memo.label(&entry, &resource(), "a"), Some("b"));
            assert_eq!(memo.field(&entry, &resource(), "spec.nodeName"), Some("n"));
        }
    }
}
