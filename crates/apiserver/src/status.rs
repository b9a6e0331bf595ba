//! Errors as clients see them: `metav1.Status` with upstream's codes, reasons, details and messages.

use rules::{FieldError, aggregate, quote};
use schema::SmolStr;
use serde::Serialize;

/// Why a request failed, ready to be answered.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: ListMeta,
    status: &'static str,
    /// Words for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Machine-readable cause (`metav1.StatusReason`).
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub reason: SmolStr,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// HTTP status.
    pub code: u16,
}

/// `ListMeta` of a Status, of which a list that expired fills the token.
#[derive(Debug, Clone, Default, Serialize)]
struct ListMeta {
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    continue_token: String,
}

/// `metav1.StatusDetails`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// Its group.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub group: SmolStr,
    /// Its kind or resource.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub kind: SmolStr,
    /// Its uid.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub uid: SmolStr,
    /// The single things that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "is_zero")]
    pub retry_after_s: u32,
}

/// `metav1.StatusCause`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cause {
    /// `metav1.CauseType`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub reason: SmolStr,
    /// Words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field's path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A resource in errors: its group and plural name.
#[derive(Debug, Clone, Copy)]
pub struct GroupResource<'a> {
    /// Empty for core.
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

impl<'a> GroupResource<'a> {
    /// From its names.
    pub fn new(group: &'a str, resource: &'a str) -> Self {
        Self { group, resource }
    }

    fn details(&self, name: &str) -> Details {
        Details {
            name: name.into(),
            group: self.group.into(),
            kind: self.resource.into(),
            ..Details::default()
        }
    }
}

/// The result of serving a request.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error of that code and reason without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: ListMeta::default(),
            status: "Failure",
            message: message.into(),
            reason: SmolStr::new_static(reason),
            details: None,
            code,
        }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The same with one more cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause { reason: reason.into(), message: message.into(), field: field.into() });
        self
    }

    /// The same with a continue token that goes on at the newest revision.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.metadata.continue_token = token;
        self
    }

    /// 404: no such object.
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {} not found", quote(name)))
            .with_details(resource.details(name))
    }

    /// 404: no such group, version or resource (`NotFound` of the generic registry).
    pub fn unknown_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// 409: there is one already.
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {} already exists", quote(name)))
            .with_details(resource.details(name))
    }

    /// 409: refused as things stand.
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name)),
        )
        .with_details(resource.details(name))
    }

    /// 409: the object changed since it was read.
    pub fn modified(resource: GroupResource<'_>, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422: fields are wrong.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let group_kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let causes = errors.iter().map(|e| Cause {
            reason: e.kind.reason().into(),
            message: e.body(),
            field: e.field.clone(),
        });
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes: causes.collect(),
            ..Details::default()
        };
        let words = aggregate(errors);
        Self::new(422, "Invalid", format!("{group_kind} {} is invalid: {words}", quote(name)))
            .with_details(details)
    }

    /// 403: not allowed on this resource. With an empty name the resource as a whole is meant.
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: impl std::fmt::Display) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Self::new(403, "Forbidden", message).with_details(resource.details(name))
    }

    /// 401: credentials are missing or wrong.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405: the resource has no such verb.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_details(Details::default())
    }

    /// 405: the resource as it stands does not support the operation.
    pub fn method_not_supported(resource: GroupResource<'_>, action: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind {}", quote(&resource.to_string())),
        )
        .with_details(Details {
            group: resource.group.into(),
            kind: resource.resource.into(),
            ..Details::default()
        })
    }

    /// 406: none of the accepted media types can be given.
    pub fn not_acceptable(available: &[&str]) -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {}", available.join(", ")),
        )
    }

    /// 415: the body is of a media type that is not taken here.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413: the body is too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 410: the revision or token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 429: come again later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(429, "TooManyRequests", message)
            .with_details(Details { retry_after_s, ..Details::default() })
    }

    /// 504: it took too long.
    pub fn timeout(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into()))
            .with_details(Details { retry_after_s, ..Details::default() })
    }

    /// 500 `ServerTimeout`-like: the operation could not be finished in time, try again.
    pub fn server_timeout(resource: GroupResource<'_>, operation: &str, retry_after_s: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        let details = Details {
            kind: resource.resource.into(),
            group: resource.group.into(),
            retry_after_s,
            ..Details::default()
        };
        Self::new(500, "ServerTimeout", message).with_details(details)
    }

    /// 503: something that is needed is not there.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500: not the client's fault.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {why}")).with_cause(
            "",
            why.to_string(),
            "",
        )
    }

    /// 500 with upstream's bare words (an error that is no Status: `Internal error occurred` is not put before).
    pub fn internal_plain(why: impl Into<String>) -> Self {
        Self::new(500, "InternalError", why)
    }

    /// 500 without a reason, as upstream answers errors that it did not expect.
    pub fn unexplained(why: impl Into<String>) -> Self {
        Self::new(500, "", why)
    }

    /// 501: `feature` is not there yet.
    pub fn not_implemented(feature: &str) -> Self {
        Self::new(501, "NotImplemented", format!("not implemented: {feature}"))
    }

    /// The body, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings and numbers always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        match error {
            E::TooLarge { .. } => {
                Self::new(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")
            }
            E::Compacted { .. } => Self::expired("The resourceVersion for the provided list is too old."),
            E::FutureRevision { current } => too_large_revision(current.0, current.0),
            E::Closed => Self::unavailable("the server is stopping"),
            other => Self::internal(other),
        }
    }
}

/// 504: a revision was asked for that is not there yet (`TooLargeResourceVersion`).
pub fn too_large_revision(asked: u64, current: u64) -> ApiError {
    ApiError::timeout(format!("Too large resource version: {asked}, current: {current}"), 1).with_cause(
        "ResourceVersionTooLarge",
        "Too large resource version",
        "",
    )
}

/// A `Status` that says that all went well; `details` as upstream gives them after a deletion.
pub fn success(details: Option<Details>, code: Option<u16>) -> schema::Value {
    let mut value = schema::value!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"
    });
    if let Some(d) = details {
        let mut map = schema::Map::new();
        for (key, text) in [("name", d.name), ("group", d.group), ("kind", d.kind), ("uid", d.uid)] {
            if !text.is_empty() {
                map.insert(key, text);
            }
        }
        value.insert("details", map);
    }
    if let Some(code) = code {
        value.insert("code", code);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_upstreams() {
        let error = ApiError::not_found(GroupResource::new("apps", "deployments"), "none");
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"none\" not found","reason":"NotFound","details":{"name":"none","group":"apps","kind":"deployments"},"code":404}"#
        );
        let path = rules::Path::new("metadata.name");
        let error = ApiError::invalid(
            "",
            "Pod",
            "x",
            &[FieldError::required(&path, "name or generateName is required")],
        );
        assert_eq!(
            error.message,
            r#"Pod "x" is invalid: metadata.name: Required value: name or generateName is required"#
        );
        assert_eq!(error.code, 422);
    }
}
