//! Media types: what the client accepts and what it sends.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use crate::request::Query;
use crate::status::{ApiError, ApiResult, Details};

/// An encoding of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Media {
    /// The media type's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn of(name: &str) -> Option<Self> {
        match name {
            "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// What objects are turned into for the client (`as=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The object.
    Whole,
    /// `meta.k8s.io/v1 Table`, or `v1beta1`.
    Table {
        /// The older version was asked for.
        beta: bool,
    },
    /// `meta.k8s.io/v1 PartialObjectMetadata` or its list.
    Metadata {
        /// The older version was asked for.
        beta: bool,
        /// `PartialObjectMetadataList`, which fits lists alone, as the other one fits objects alone.
        list: bool,
    },
}

/// What the answer shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// Encoding.
    pub media: Media,
    /// Form of objects.
    pub form: Form,
    /// Indented.
    pub pretty: bool,
}

impl Accept {
    /// Plain JSON.
    pub const JSON: Self = Self { media: Media::Json, form: Form::Whole, pretty: false };
}

/// One clause of an Accept header.
pub struct Clause<'a> {
    /// `type/subtype`.
    pub name: &'a str,
    /// Parameters but `q`.
    pub params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    /// A parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)
    }
}

/// The media types of resources, as errors name them.
const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The clauses of the Accept header, best first; `*/*` when there is none.
pub fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut all: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(clause)
        .collect();
    if all.is_empty() {
        all.push(Clause { name: "*/*", params: Vec::new(), quality: 1.0 });
    }
    all.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    all
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|n| !n.is_empty())?;
    let mut found = Clause { name, params: Vec::new(), quality: 1.0 };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "q" => found.quality = value.parse().unwrap_or(1.0),
            key => found.params.push((key, value)),
        }
    }
    Some(found)
}

/// What a resource request's answer shall be.
pub fn accept(headers: &HeaderMap, query: &Query) -> ApiResult<Accept> {
    let found = clauses(headers).iter().find_map(|clause| {
        let media = Media::of(clause.name)?;
        Some((media, form(clause)?))
    });
    match found {
        Some((media, form)) => Ok(Accept { media, form, pretty: pretty(headers, query) }),
        None => Err(not_acceptable()),
    }
}

/// What the answer shall be of a resource that has no Tables (upstream: storage without a `TableConvertor`).
pub fn accept_without_tables(headers: &HeaderMap, query: &Query) -> ApiResult<Accept> {
    let found = clauses(headers).iter().find_map(|clause| {
        let form = form(clause).filter(|form| !matches!(form, Form::Table { .. }))?;
        Some((Media::of(clause.name)?, form))
    });
    match found {
        Some((media, form)) => Ok(Accept { media, form, pretty: pretty(headers, query) }),
        None => Err(ApiError::not_acceptable(&MEDIA_TYPES)),
    }
}

/// The form that a clause asks for; `None` if there is no such form.
fn form(clause: &Clause<'_>) -> Option<Form> {
    let Some(kind) = clause.param("as").filter(|k| !k.is_empty()) else { return Some(Form::Whole) };
    if !matches!(clause.param("g"), Some("meta.k8s.io")) {
        return None;
    }
    let beta = match clause.param("v") {
        Some("v1") => false,
        Some("v1beta1") => true,
        _ => return None,
    };
    match kind {
        "Table" => Some(Form::Table { beta }),
        "PartialObjectMetadata" => Some(Form::Metadata { beta, list: false }),
        "PartialObjectMetadataList" => Some(Form::Metadata { beta, list: true }),
        _ => None,
    }
}

/// 406 in the words that upstream's router has.
pub fn not_acceptable() -> ApiError {
    const WORDS: &str = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                         application/vnd.kubernetes.protobuf, application/json;stream=watch, \
                         application/vnd.kubernetes.protobuf;stream=watch";
    ApiError::new(406, "NotAcceptable", WORDS).with_details(Details::default())
}

/// The encoding of an error: any that the client takes, JSON otherwise.
pub fn accept_for_error(headers: &HeaderMap, query: &Query) -> Accept {
    let media = clauses(headers).iter().find_map(|c| Media::of(c.name)).unwrap_or(Media::Json);
    Accept { media, form: Form::Whole, pretty: pretty(headers, query) }
}

fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(asked) = query.get("pretty") {
        return !matches!(asked, "" | "false" | "0" | "f" | "F" | "FALSE" | "False");
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|browser| agent.starts_with(browser))
}

/// The media type of a request body, without parameters, in lower case; empty when not said.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The encoding of a request body that is an object; JSON when not said.
pub fn body_media(headers: &HeaderMap, custom: bool) -> ApiResult<Media> {
    const BUILTIN: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    const CUSTOM: &[&str] = &["application/json", "application/yaml"];
    let accepted = if custom { CUSTOM } else { BUILTIN };
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" if !custom => Ok(Media::Protobuf),
        _ => Err(ApiError::unsupported_media_type(accepted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept_header: &str) -> Option<(Media, Form)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept_header.parse().unwrap());
        accept(&headers, &Query::default()).ok().map(|a| (a.media, a.form))
    }

    #[test]
    fn the_first_that_can_be_given_wins() {
        let table = Form::Table { beta: false };
        assert_eq!(
            check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            Some((Media::Json, table))
        );
        assert_eq!(
            check("application/json;as=Nope;v=v1;g=meta.k8s.io, */*"),
            Some((Media::Json, Form::Whole))
        );
        assert_eq!(check("text/nope"), None);
        for (header, expected) in [
            ("application/json;as=Table;v=v1;g=meta.k8s.io", Err(406)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml", Ok(Form::Whole)),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, header.parse().unwrap())]);
            let given = accept_without_tables(&headers, &Query::default());
            assert_eq!(given.map(|a| a.form).map_err(|e| e.code), expected, "{header}");
        }
        assert_eq!(
            check("application/yaml;q=0.5, application/vnd.kubernetes.protobuf;q=0.9"),
            Some((Media::Protobuf, Form::Whole))
        );
    }
}
