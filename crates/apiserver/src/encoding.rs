//! Bodies to objects and back, in every media type, with upstream's words for bodies that are none.

use codec::{Error as CodecError, json, protobuf};
use schema::{Catalog, GroupVersion, GroupVersionKind, Schema, Value};
use serde::Deserialize;

use crate::http::negotiate::Media;
use crate::registry::Warnings;
use crate::registry::options::FieldValidation;
use crate::status::{ApiError, ApiResult};

/// Most bytes of a body that an error repeats.
const SUMMARY_BYTES: usize = 30;

/// What a body is expected to be.
pub struct Expected<'a> {
    /// Its type.
    pub schema: &'a Schema,
    /// Its kind; an object that says nothing is taken as this.
    pub gvk: GroupVersionKind,
    /// A custom kind, which must say what it is.
    pub custom: bool,
}

/// `apiVersion` and `kind` of a body.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TypeMeta {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
}

/// Decodes a request body. Unknown and duplicate fields are dropped, warned of or refused as `validation` says.
pub fn decode(
    media: Media,
    body: &[u8],
    expected: &Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> ApiResult<Value> {
    match media {
        Media::Json => decode_json(body, body, expected, validation, warnings),
        Media::Yaml => {
            let text =
                codec::yaml::to_json(body).map_err(|e| unrecognized(expected, &e.to_string(), body))?;
            decode_yaml(&text, body, expected, validation, warnings)
        }
        Media::Protobuf => {
            let envelope =
                protobuf::unwrap(body).map_err(|e| unrecognized(expected, &e.to_string(), body))?;
            let found = TypeMeta {
                api_version: Some(envelope.api_version.to_owned()).filter(|v| !v.is_empty()),
                kind: Some(envelope.kind.to_owned()).filter(|k| !k.is_empty()),
            };
            let gvk = check_kind(&found, expected, body)?;
            let mut value =
                protobuf::decode(body, expected.schema).map_err(|e| unhandled(&gvk, expected, &e))?;
            set_kind(&mut value, &expected.gvk);
            Ok(value)
        }
    }
}

/// YAML whose JSON is `text`. A name that repeats is told of in Go's words, which no header can hold: only strict
/// reading minds it.
fn decode_yaml(
    text: &[u8],
    body: &[u8],
    expected: &Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> ApiResult<Value> {
    let twice = match validation {
        FieldValidation::Strict => codec::yaml::duplicate_key(body),
        _ => None,
    };
    decode_noting(text, body, expected, validation, warnings, |errors| {
        errors.retain(|error| !error.starts_with("duplicate field"));
        errors.splice(0..0, twice);
    })
}

fn decode_json(
    text: &[u8],
    body: &[u8],
    expected: &Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> ApiResult<Value> {
    decode_noting(text, body, expected, validation, warnings, |_| {})
}

/// Decodes JSON; `note` sees what strict reading found before it is reported.
fn decode_noting(
    text: &[u8],
    body: &[u8],
    expected: &Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
    note: impl FnOnce(&mut Vec<String>),
) -> ApiResult<Value> {
    let found: TypeMeta = match serde_json::from_slice(text) {
        Ok(found) if first_byte(text) != b'[' => found,
        _ => recover_type(text, body, expected)?,
    };
    let gvk = check_kind(&found, expected, body)?;
    let mut decoded = json::decode(text, expected.schema).map_err(|e| unhandled(&gvk, expected, &e))?;
    note(&mut decoded.strict_errors);
    report_strict(decoded.strict_errors, validation, warnings, |words| {
        unhandled_text(&gvk, expected, &words)
    })?;
    let mut value = decoded.value;
    if !matches!(value, Value::Map(_)) {
        value = Value::map();
    }
    set_kind(&mut value, &expected.gvk);
    Ok(value)
}

fn first_byte(text: &[u8]) -> u8 {
    text.iter().copied().find(|b| !b.is_ascii_whitespace()).unwrap_or(0)
}

/// What a body that has no plain `apiVersion` and `kind` is, in upstream's words if it is nothing at all.
fn recover_type(text: &[u8], body: &[u8], expected: &Expected<'_>) -> ApiResult<TypeMeta> {
    let parse_error = |words: &str| {
        unrecognized(expected, &format!("couldn't get version/kind; json parse error: {words}"), body)
    };
    let value = json::parse(text).map_err(|e| parse_error(&e.to_string()))?;
    const TARGET: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    match value {
        Value::Null => Ok(TypeMeta::default()),
        Value::Map(map) => {
            for (field, go) in [("apiVersion", "apiVersion"), ("kind", "kind")] {
                match map.get(field) {
                    None | Some(Value::Null | Value::Str(_)) => {}
                    Some(other) => {
                        return Err(parse_error(&format!(
                            "json: cannot unmarshal {} into Go struct field .{go} of type string",
                            other.type_name()
                        )));
                    }
                }
            }
            let text = |name: &str| map.get_str(name).map(str::to_owned);
            Ok(TypeMeta { api_version: text("apiVersion"), kind: text("kind") })
        }
        other => Err(parse_error(&format!(
            "json: cannot unmarshal {} into Go value of type {TARGET}",
            other.type_name()
        ))),
    }
}

/// The kind that the body says it is, filled with what is expected; refused if it is none that can be taken here.
fn check_kind(found: &TypeMeta, expected: &Expected<'_>, body: &[u8]) -> ApiResult<GroupVersionKind> {
    let wanted = &expected.gvk;
    let version = found.api_version.as_deref().filter(|v| !v.is_empty());
    let kind = found.kind.as_deref().filter(|k| !k.is_empty());
    if expected.custom && kind.is_none() {
        let words = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(body));
        return Err(unrecognized(expected, &words, body));
    }
    let group_version = match version {
        None => wanted.group_version(),
        Some(text) => GroupVersion::parse(text).ok_or_else(|| {
            unrecognized(expected, &format!("unexpected GroupVersion string: {text}"), body)
        })?,
    };
    let gvk = group_version.kind(kind.unwrap_or(&wanted.kind));
    if gvk == *wanted {
        return Ok(gvk);
    }
    if !expected.custom && Catalog::builtin().kind(&gvk).is_none() {
        let words = format!(
            "no kind {} is registered for version {} in scheme {}",
            rules::quote(&gvk.kind),
            rules::quote(&gvk.api_version()),
            rules::quote(scheme_of(&wanted.group))
        );
        return Err(ApiError::bad_request(unhandled_text(&gvk, expected, &words)));
    }
    if gvk.group != wanted.group || gvk.version != wanted.version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            gvk.api_version(),
            wanted.api_version()
        )));
    }
    if expected.custom {
        let error = rules::FieldError::invalid(
            &rules::Path::new("kind"),
            gvk.kind.as_str(),
            format!("must be {}", wanted.kind),
        );
        return Err(ApiError::invalid(&wanted.group, &wanted.kind, "", &[error]));
    }
    let words = format!(
        "converting ({}.{}) to ({}.{}): unknown conversion",
        gvk.version,
        gvk.kind,
        if wanted.group.is_empty() { "core" } else { wanted.group.split('.').next().unwrap_or_default() },
        wanted.kind
    );
    Err(ApiError::bad_request(unhandled_text(&gvk, expected, &words)))
}

/// The scheme that upstream decodes a group's kinds with, as its messages name it.
fn scheme_of(group: &str) -> &'static str {
    match group {
        "apiextensions.k8s.io" => "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    }
}

fn set_kind(value: &mut Value, gvk: &GroupVersionKind) {
    value.insert("apiVersion", gvk.api_version());
    value.insert("kind", gvk.kind.clone());
}

fn unhandled_text(gvk: &GroupVersionKind, expected: &Expected<'_>, words: &str) -> String {
    format!(
        "{} in version {} cannot be handled as a {}: {words}",
        gvk.kind,
        rules::quote(&gvk.version),
        expected.gvk.kind
    )
}

fn unhandled(gvk: &GroupVersionKind, expected: &Expected<'_>, error: &CodecError) -> ApiError {
    ApiError::bad_request(unhandled_text(gvk, expected, &error.to_string()))
}

fn unrecognized(expected: &Expected<'_>, words: &str, body: &[u8]) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {words} ({})",
        expected.gvk.kind,
        summary(body)
    ))
}

/// The start of a body: text when it looks like JSON, else hexadecimal.
fn summary(body: &[u8]) -> String {
    let cut = &body[..body.len().min(SUMMARY_BYTES)];
    let dots = if body.len() > SUMMARY_BYTES { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(cut)),
        Some(_) => {
            let hex: String = cut.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hex}{dots}")
        }
    }
}

/// Warns of unknown and duplicate fields, refuses them, or lets them pass.
pub fn report_strict(
    errors: Vec<String>,
    validation: FieldValidation,
    warnings: &Warnings,
    refuse: impl FnOnce(String) -> String,
) -> ApiResult<()> {
    match validation {
        _ if errors.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            errors.into_iter().for_each(|e| warnings.add(e));
            Ok(())
        }
        FieldValidation::Strict => {
            Err(ApiError::bad_request(refuse(format!("strict decoding error: {}", errors.join(", ")))))
        }
    }
}

/// Encodes an object. `schema` is its type, needed for protobuf.
pub fn encode(object: &Value, media: Media, pretty: bool, schema: Option<&Schema>) -> ApiResult<Vec<u8>> {
    match media {
        Media::Json if pretty => {
            let mut out = serde_json::to_vec_pretty(object).map_err(ApiError::internal)?;
            out.push(b'\n');
            Ok(out)
        }
        Media::Json => {
            let mut out = json::encode(object);
            out.push(b'\n');
            Ok(out)
        }
        Media::Yaml => Ok(codec::yaml::encode(object)),
        Media::Protobuf => {
            let schema = schema.ok_or_else(crate::http::negotiate::not_acceptable)?;
            protobuf::encode(object, schema).map_err(ApiError::internal)
        }
    }
}

/// Writes one watch event.
pub fn watch_frame(
    out: &mut Vec<u8>,
    media: Media,
    kind: &str,
    object: &Value,
    schema: Option<&Schema>,
) -> ApiResult<()> {
    match media {
        Media::Json => {
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            json::encode_into(object, out);
            out.extend_from_slice(b"}\n");
        }
        Media::Yaml => {
            let event = schema::value!({"type": kind, "object": (object)});
            out.extend_from_slice(b"---\n");
            out.extend_from_slice(&codec::yaml::encode(&event));
        }
        Media::Protobuf => {
            let object = encode(object, media, false, schema)?;
            out.extend_from_slice(&codec::frame::protobuf_event(kind, &object));
        }
    }
    Ok(())
}
