//! Lists, watch events and Status, put together from parts that are already encoded.

use schema::{Catalog, Schema, SmolStr, Value, value};

use crate::Error;
use crate::json::{encode_into, encode_string};
use crate::protobuf::{self, wire};

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// List metadata (`metav1.ListMeta`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListMeta {
    /// Revision of the whole list.
    pub resource_version: String,
    /// Token for the next page; empty on the last.
    pub continue_token: String,
    /// Items after this page, when known.
    pub remaining_item_count: Option<i64>,
}

impl ListMeta {
    /// As an object.
    pub fn to_value(&self) -> Value {
        let mut meta = value!({"resourceVersion": (self.resource_version.as_str())});
        if !self.continue_token.is_empty() {
            meta.insert("continue", self.continue_token.as_str());
        }
        if let Some(remaining) = self.remaining_item_count {
            meta.insert("remainingItemCount", remaining);
        }
        meta
    }
}

/// A JSON list from its items' JSON: `{"kind":"PodList","apiVersion":"v1","metadata":{...},"items":[...]}`.
pub fn json_list<'a>(
    api_version: &str,
    list_kind: &str,
    meta: &ListMeta,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"kind\":");
    encode_string(list_kind, &mut out);
    out.extend_from_slice(b",\"apiVersion\":");
    encode_string(api_version, &mut out);
    out.extend_from_slice(b",\"metadata\":");
    encode_into(&meta.to_value(), &mut out);
    out.extend_from_slice(b",\"items\":[");
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.extend_from_slice(b"]}\n");
    out
}

/// One event of a JSON watch stream: `{"type":"ADDED","object":...}` and a line feed.
pub fn json_event(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 32);
    out.extend_from_slice(b"{\"type\":");
    encode_string(event, &mut out);
    out.extend_from_slice(b",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out
}

/// A protobuf list with envelope from its items' messages (without envelopes).
pub fn protobuf_list<'a>(
    api_version: &str,
    list_kind: &str,
    meta: &ListMeta,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    items.into_iter().for_each(|item| protobuf_item(item, &mut all));
    let (mut out, tail) = protobuf_list_around(api_version, list_kind, meta, all.len())?;
    out.extend_from_slice(&all);
    out.extend_from_slice(&tail);
    Ok(out)
}

/// Appends an item of a protobuf list, from its message.
pub fn protobuf_item(message: &[u8], out: &mut Vec<u8>) {
    wire::put_bytes(2, message, out);
}

/// The bytes that [`protobuf_item`] makes of a message of that many.
pub fn protobuf_item_length(message_bytes: usize) -> usize {
    let bits = usize::BITS - (message_bytes | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + message_bytes
}

/// What comes before and after the items of a protobuf list when these take `item_bytes`.
pub fn protobuf_list_around(
    api_version: &str,
    list_kind: &str,
    meta: &ListMeta,
    item_bytes: usize,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let list_meta = Catalog::builtin().type_named(LIST_META).unwrap_or_else(Schema::any);
    let mut start = Vec::new();
    wire::put_bytes(1, &protobuf::encode_message(&meta.to_value(), &list_meta)?, &mut start);
    let mut head = protobuf::wrap_start(api_version, list_kind, start.len() + item_bytes);
    head.extend_from_slice(&start);
    Ok((head, protobuf::wrap_end()))
}

/// One event of a protobuf watch stream: length of four bytes, then a `WatchEvent` without envelope that holds the
/// object with its own.
pub fn protobuf_event(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::put_bytes(1, object, &mut raw);
    let mut out = vec![0; 4];
    wire::put_bytes(1, event.as_bytes(), &mut out);
    wire::put_bytes(2, &raw, &mut out);
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// One cause in a Status (`metav1.StatusCause`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cause {
    /// `FieldValueInvalid` and the like.
    pub reason: SmolStr,
    /// What is wrong.
    pub message: String,
    /// Field path.
    pub field: String,
}

/// The answer to a request that failed, or that has no object to give (`metav1.Status`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// `NotFound` and the like; empty on success.
    pub reason: SmolStr,
    /// For people.
    pub message: String,
    /// Name of the object or resource in question.
    pub name: String,
    /// Its API group.
    pub group: String,
    /// Its kind or plural resource, as upstream mixes them.
    pub kind: String,
    /// Its UID.
    pub uid: String,
    /// What is wrong in detail.
    pub causes: Vec<Cause>,
    /// When to try again.
    pub retry_after_seconds: i32,
}

impl Status {
    /// As an object, `details` left out when there is nothing in it.
    pub fn to_value(&self) -> Value {
        let failed = self.code >= 400 || (self.code == 0 && !self.reason.is_empty());
        let mut status = value!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": (if failed { "Failure" } else { "Success" }),
        });
        let texts = [("message", self.message.as_str()), ("reason", self.reason.as_str())];
        set_texts(&mut status, &texts);
        let mut details = Value::map();
        let texts = [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        set_texts(&mut details, &texts.map(|(k, v)| (k, v.as_str())));
        if !self.causes.is_empty() {
            details.insert("causes", self.causes.iter().map(cause).collect::<Value>());
        }
        if self.retry_after_seconds != 0 {
            details.insert("retryAfterSeconds", self.retry_after_seconds);
        }
        if !details.is_zero() {
            status.insert("details", details);
        }
        if self.code != 0 {
            status.insert("code", i32::from(self.code));
        }
        status
    }
}

fn set_texts(object: &mut Value, texts: &[(&str, &str)]) {
    for (key, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        object.insert(*key, *text);
    }
}

fn cause(cause: &Cause) -> Value {
    let mut value = Value::map();
    set_texts(
        &mut value,
        &[("reason", cause.reason.as_str()), ("message", &cause.message), ("field", &cause.field)],
    );
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn items_are_as_long_as_said() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = Vec::new();
            protobuf_item(&vec![0; length], &mut out);
            assert_eq!(out.len(), protobuf_item_length(length));
        }
    }

    #[test]
    fn list_and_event() {
        let meta = ListMeta { resource_version: "7".to_owned(), ..ListMeta::default() };
        let list = json_list("v1", "PodList", &meta, [&b"{}"[..], b"{}"]);
        let value = json::parse(&list).unwrap();
        assert_eq!(value.items_at("items").len(), 2);
        assert_eq!(value.str_at("metadata.resourceVersion"), Some("7"));
        assert_eq!(json_event("ADDED", b"{}"), b"{\"type\":\"ADDED\",\"object\":{}}\n");
    }

    #[test]
    fn status_leaves_out_what_is_empty() {
        let status =
            Status { code: 404, reason: "NotFound".into(), message: "no".to_owned(), ..Status::default() };
        let expected = value!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": "no", "reason": "NotFound", "code": 404});
        assert_eq!(status.to_value(), expected);
    }
}
