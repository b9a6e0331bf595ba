//! PATCH of an object: JSON patch, merge patch, strategic merge patch, apply.

use std::sync::Arc;

use bytes::Bytes;
use codec::json;
use http::Response;
use merge::{ApplyError, JsonPatchError, StrategicError};
use rules::{BadValue, FieldError, Path};
use schema::Value;

use super::{Call, create, render};
use crate::encoding;
use crate::http::negotiate::{Accept, content_type};
use crate::http::{Body, body};
use crate::registry::options::{FieldValidation, OptionsKind};
use crate::registry::{Served, Update, WriteContext, WriteOptions, meta};
use crate::status::{ApiError, ApiResult, Details};

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    /// By the body's media type.
    pub(crate) fn of(call: &Call<'_>, served: &Served) -> ApiResult<Self> {
        const ALL: [(&str, PatchKind); 4] = [
            ("application/json-patch+json", PatchKind::Json),
            ("application/merge-patch+json", PatchKind::Merge),
            ("application/strategic-merge-patch+json", PatchKind::Strategic),
            ("application/apply-patch+yaml", PatchKind::Apply),
        ];
        let said = content_type(&call.parts.headers);
        let found = ALL.iter().find(|(name, _)| *name == said).map(|(_, kind)| *kind);
        match found {
            Some(Self::Strategic) | None if served.resource.custom => Err(ApiError::unsupported_media_type(
                &ALL.iter().map(|(n, _)| *n).filter(|n| !n.contains("strategic")).collect::<Vec<_>>(),
            )),
            Some(kind) => Ok(kind),
            None => Err(ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
                .with_details(Details::default())),
        }
    }

    /// For error messages of its options.
    pub(crate) fn options_kind(self) -> OptionsKind {
        if self == Self::Apply { OptionsKind::Apply } else { OptionsKind::Patch }
    }
}

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let kind = PatchKind::of(call, served)?;
    let options = WriteOptions::parse(kind.options_kind(), call.query, &call.parts.headers)?;
    let bytes = body::read(body).await?;
    let options_value = options.to_value("UpdateOptions");
    let context = call.write_context(served, &options, &options_value);
    serve_patch(call, served, accept, &context, kind, &bytes).await
}

/// Patches the object of `context` and answers with it.
pub(crate) async fn serve_patch(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    context: &WriteContext<'_>,
    kind: PatchKind,
    bytes: &Bytes,
) -> ApiResult<Response<Body>> {
    let strict = match context.options.field_validation {
        FieldValidation::Ignore => Vec::new(),
        _ => strict_errors(kind, bytes)?,
    };
    let patch = Patch { served, context, body: parse_body(kind, bytes, served, call)?, kind, strict };
    let transform = |live: Option<&Value>| patch.apply(live);
    let applies = kind == PatchKind::Apply;
    let update = Update { transform: &transform, fields_tracked: applies, force_create: applies };
    let updated = context.update(&update).await?;
    let code = if updated.created { 201 } else { 200 };
    render::saved(call, served, accept, code, updated.saved).await
}

/// A patch that was read.
struct Patch<'a> {
    served: &'a Served,
    context: &'a WriteContext<'a>,
    kind: PatchKind,
    body: Value,
    /// What strict reading finds wrong with the patch itself.
    strict: Vec<String>,
}

/// Names that repeat in the patch, and what no operation of a JSON patch has.
fn strict_errors(kind: PatchKind, bytes: &[u8]) -> ApiResult<Vec<String>> {
    let decode = |e: codec::Error| match kind {
        PatchKind::Strategic => ApiError::bad_request(e.to_string()),
        _ => ApiError::bad_request(format!("error decoding patch: {e}")),
    };
    match kind {
        PatchKind::Apply => Ok(codec::yaml::duplicate_key(bytes).into_iter().collect()),
        PatchKind::Merge | PatchKind::Strategic => json::duplicates(bytes).map_err(decode),
        PatchKind::Json => {
            let mut errors = json::duplicates(bytes).map_err(decode)?;
            let operations = json::parse(bytes).map_err(decode)?;
            for (i, operation) in operations.items().iter().enumerate() {
                let unknown = operation.entries().iter().map(|(name, _)| name.as_str());
                let unknown = unknown.filter(|name| !matches!(*name, "op" | "path" | "from" | "value"));
                errors.extend(unknown.map(|name| format!("unknown field \"[{i}].{name}\"")));
            }
            Ok(errors.into_iter().map(|error| format!("json patch {error}")).collect())
        }
    }
}

fn parse_body(kind: PatchKind, bytes: &[u8], served: &Served, call: &Call<'_>) -> ApiResult<Value> {
    if kind != PatchKind::Apply {
        return json::parse(bytes).map_err(|e| match kind {
            PatchKind::Json => ApiError::bad_request(format!("error decoding patch: {e}")),
            _ => ApiError::bad_request(e.to_string()),
        });
    }
    let text = codec::yaml::to_json(bytes)
        .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
    let mut applied =
        json::parse(&text).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
    check_applied_name(&mut applied, call)?;
    let _ = served;
    Ok(applied)
}

/// The applied configuration must be of the object in the URL.
fn check_applied_name(applied: &mut Value, call: &Call<'_>) -> ApiResult<()> {
    let (url, name) = (&call.info.name, meta::name(applied).to_owned());
    if !name.is_empty() && name != *url {
        return Err(ApiError::bad_request(format!(
            "patch name {name} does not match name in the request path: {url}"
        )));
    }
    if name.is_empty() {
        meta::set(applied, "name", url.as_str());
    }
    let namespace = meta::namespace(applied);
    if !namespace.is_empty() && namespace != call.info.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

impl Patch<'_> {
    /// The patched object, in normal form and defaulted.
    fn apply(&self, live: Option<&Value>) -> ApiResult<Value> {
        if self.kind == PatchKind::Apply {
            return self.apply_configuration(live);
        }
        let Some(live) = live else { return Err(self.context.not_found(self.context.name)) };
        let mut object = live.clone();
        match self.kind {
            PatchKind::Json => merge::json_patch(&mut object, &self.body).map_err(json_patch_error)?,
            PatchKind::Merge => {
                if !matches!(self.body, Value::Map(_)) {
                    let reading = match self.context.options.field_validation {
                        FieldValidation::Ignore => "",
                        _ => "error decoding patch: ",
                    };
                    return Err(ApiError::bad_request(format!(
                        "{reading}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                        self.body.type_name()
                    )));
                }
                merge::merge_patch(&mut object, self.body.clone());
            }
            PatchKind::Strategic => self.apply_strategic(&mut object)?,
            PatchKind::Apply => {}
        }
        self.conform(object)
    }

    fn apply_strategic(&self, object: &mut Value) -> ApiResult<()> {
        let schema = &self.served.resource.schema;
        merge::strategic_merge_patch(object, self.body.clone(), schema).map_err(|e| match e {
            StrategicError::BadPatch(words) => ApiError::bad_request(words),
            StrategicError::Unprocessable(words) => ApiError::new(422, "Invalid", words),
            StrategicError::Internal(words) => ApiError::unexplained(words),
        })?;
        merge::check_convertible(object, schema.root()).map_err(|words| {
            let shown = merge::GoText(&self.body).to_string();
            let error = FieldError::invalid(&Path::new("patch"), BadValue::from(shown.as_str()), words);
            ApiError::invalid("", "", "", &[error])
        })
    }

    fn apply_configuration(&self, live: Option<&Value>) -> ApiResult<Value> {
        let now = self.context.registry.now();
        let decoded = json::conform(&self.body, &self.served.resource.schema);
        let strict = decoded.map_or_else(|_| Vec::new(), |d| d.strict_errors);
        let gvk = self.served.resource.gvk();
        encoding::report_strict(
            strict,
            self.context.options.field_validation,
            self.context.warnings,
            |words| format!("error unmarshalling apply patch for {}: {words}", gvk.kind),
        )?;
        let object = self.context.apply_fields(live, &self.body, &now).map_err(apply_error)?;
        let mut object = json::conform(&object, &self.served.resource.schema)
            .map_err(|e| self.unhandled(&e.to_string()))?
            .value;
        if let (FieldValidation::Strict, Some(words)) =
            (self.context.options.field_validation, self.strict.first())
        {
            return Err(ApiError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: {words}"
            )));
        }
        create::apply_defaults(self.served, &mut object);
        Ok(object)
    }

    fn conform(&self, object: Value) -> ApiResult<Value> {
        let decoded = json::conform(&object, &self.served.resource.schema)
            .map_err(|e| self.refused(&object, &e.to_string()))?;
        let errors: Vec<String> = self.strict.iter().cloned().chain(decoded.strict_errors).collect();
        let validation = self.context.options.field_validation;
        if validation == FieldValidation::Strict && !errors.is_empty() {
            return Err(self.refused(&object, &format!("strict decoding error: {}", errors.join(", "))));
        }
        encoding::report_strict(errors, validation, self.context.warnings, |words| words)?;
        let mut object = decoded.value;
        self.check_kind(&object)?;
        create::apply_defaults(self.served, &mut object);
        Ok(object)
    }

    /// What the patch made is no object of the kind: the patched object is shown, or for a strategic patch the patch.
    fn refused(&self, patched: &Value, words: &str) -> ApiError {
        let shown = match self.kind {
            PatchKind::Strategic => merge::GoText(&self.body).to_string(),
            _ => String::from_utf8_lossy(&json::encode(patched)).into_owned(),
        };
        let error = FieldError::invalid(&Path::new("patch"), BadValue::from(shown.as_str()), words);
        ApiError::invalid("", "", "", &[error])
    }

    fn check_kind(&self, object: &Value) -> ApiResult<()> {
        let resource = &self.served.resource;
        let version = object.str_at("apiVersion").unwrap_or_default();
        let kind = object.str_at("kind").unwrap_or_default();
        if version == resource.api_version() && kind == resource.kind {
            return Ok(());
        }
        Err(ApiError::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: the patch changed its kind or version",
            rules::quote(version),
            resource.kind
        )))
    }

    fn unhandled_text(&self, words: &str) -> String {
        let resource = &self.served.resource;
        let (kind, version) = (&resource.kind, rules::quote(&resource.version));
        format!("{kind} in version {version} cannot be handled as a {kind}: {words}")
    }

    fn unhandled(&self, words: &str) -> ApiError {
        ApiError::bad_request(self.unhandled_text(words))
    }
}

fn json_patch_error(error: JsonPatchError) -> ApiError {
    match error {
        JsonPatchError::Decode(words) => ApiError::bad_request(words),
        JsonPatchError::TooManyOperations(_) => ApiError::too_large(error.to_string()),
        JsonPatchError::Apply(_) | JsonPatchError::CopyTooLarge(_) => {
            tracing::debug!(%error, "JSON patch does not apply");
            ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request")
                .with_details(Details::default())
        }
    }
}

/// What a client is told of an apply that failed.
pub(crate) fn apply_error(error: ApplyError) -> ApiError {
    match &error {
        ApplyError::Conflicts(conflicts) => {
            conflicts.iter().fold(ApiError::new(409, "Conflict", error.to_string()), |status, conflict| {
                status.with_cause("FieldManagerConflict", conflict.message(), &conflict.path)
            })
        }
        ApplyError::WrongKind { .. } | ApplyError::AppliedManaged => ApiError::bad_request(error.to_string()),
        ApplyError::Invalid { .. } | ApplyError::LiveManaged(_) => ApiError::unexplained(error.to_string()),
    }
}
