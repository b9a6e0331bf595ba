//! Paths that name no resource: discovery, health, version, metrics, OpenAPI, OpenID.

use bytes::Bytes;
use http::{HeaderValue, Response};
use schema::{Value, value};

use super::Call;
use crate::http::negotiate::{Accept, clauses};
use crate::http::{Body, respond};
use crate::status::{ApiError, ApiResult};

/// Paths listed at `/`.
const PATHS: [&str; 15] = [
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/apis/",
    "/configz",
    "/healthz",
    "/flagz",
    "/livez",
    "/metrics",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/statusz",
    "/version",
];

/// JSON that is always laid out for people (`responsewriters.WriteRawJSON`).
fn raw(value: &Value) -> ApiResult<Response<Body>> {
    respond::object(200, value, Accept { pretty: true, ..Accept::JSON }, None)
}

pub(super) async fn serve(call: &Call<'_>, _: Body) -> ApiResult<Response<Body>> {
    let path = call.info.path.as_str();
    let trimmed = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let encryption = call.core.registry.encryption.as_deref();
    if let Some(response) = call.core.health.serve(trimmed, call.query, encryption).await {
        return Ok(response);
    }
    if let Some(response) = crate::operation::serve_page(call.core, trimmed) {
        return Ok(response);
    }
    match trimmed {
        "/" | "" => return raw(&value!({"paths": (index(call))})),
        "/version" => return raw(&version()),
        "/metrics" => {
            let mut text = call.core.metrics.render();
            call.core.flow.render_metrics(&mut text);
            crate::operation::render_process(call.core, &mut text);
            return Ok(respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text));
        }
        "/.well-known/openid-configuration" | "/openid/v1/jwks" => return openid(call, trimmed),
        path if crate::flow::is_dump(path).is_some() => {
            let text = crate::flow::is_dump(path).and_then(|page| call.core.flow.dump(page));
            return Ok(respond::bytes(200, "text/plain; charset=utf-8", text.unwrap_or_default()));
        }
        "/api" if wants_aggregated(call).is_none() => return Ok(respond::json(200, &api_versions(call))),
        "/api" | "/apis" => {
            if let Some(kind) = wants_aggregated(call) {
                return Ok(aggregated(call, trimmed == "/api", kind));
            }
        }
        _ => {}
    }
    if let Some(rest) = trimmed.strip_prefix("/openapi/") {
        return crate::openapi_docs::serve(call, rest);
    }
    if let Some(document) = call.core.documents.plain(&call.core.registry, trimmed) {
        let document = match trimmed {
            "/apis" => merged(call, document, crate::aggregation::add_to_group_list),
            _ => document,
        };
        return Ok(respond::bytes(200, "application/json", document));
    }
    if let Some(document) = crate::aggregation::group_document(&call.core.aggregation, trimmed) {
        return Ok(respond::json(200, &document));
    }
    let mut parts = trimmed.trim_start_matches('/').split('/');
    if parts.next() == Some("apis") {
        let group = parts.next().unwrap_or_default();
        let builtin =
            schema::Catalog::builtin().groups().iter().any(|g| g.name == group && !group.is_empty());
        if builtin && parts.next().is_some() {
            return Err(ApiError::unknown_resource());
        }
    }
    Ok(respond::page_not_found())
}

fn index(call: &Call<'_>) -> Vec<String> {
    let mut paths: Vec<String> = PATHS.iter().map(|p| (*p).to_owned()).collect();
    for served in call.core.registry.resources.load().all() {
        let resource = &served.resource;
        if !resource.group.is_empty() {
            paths.push(format!("/apis/{}", resource.group));
            paths.push(format!("/apis/{}/{}", resource.group, resource.version));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// `/version`
pub(crate) fn version() -> Value {
    value!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": (base::GIT_VERSION),
        "gitCommit": "unknown", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc",
        "platform": (format!("{}/{}", std::env::consts::OS, arch()))
    })
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn api_versions(call: &Call<'_>) -> Value {
    value!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": (call.core.advertise.to_string())}
        ]
    })
}

/// The version of aggregated discovery that the client prefers to the plain form.
fn wants_aggregated(call: &Call<'_>) -> Option<&'static str> {
    for clause in clauses(&call.parts.headers) {
        let aggregated = clause.param("as") == Some("APIGroupDiscoveryList");
        match (clause.name, aggregated, clause.param("v")) {
            ("application/json", true, Some("v2")) => return Some("v2"),
            ("application/json", true, Some("v2beta1")) => return Some("v2beta1"),
            (_, true, _) | ("application/vnd.kubernetes.protobuf", ..) => {}
            _ => return None,
        }
    }
    None
}

fn aggregated(call: &Call<'_>, core: bool, version: &'static str) -> Response<Body> {
    let mut document = call.core.documents.aggregated(&call.core.registry, core);
    if !core {
        document = merged(call, document, crate::aggregation::add_to_groups);
    }
    let (body, media) = match version {
        "v2" => (document, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
        _ => {
            let text = String::from_utf8_lossy(&document);
            let text = text.replacen("apidiscovery.k8s.io/v2", "apidiscovery.k8s.io/v2beta1", 1);
            (text.into(), "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")
        }
    };
    let digest = ring::digest::digest(&ring::digest::SHA512, &body);
    let tag: String = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    let tag = format!("\"{tag}\"");
    let same =
        call.parts.headers.get(http::header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = respond::bytes(200, media, body);
    if same {
        response = respond::not_modified();
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(http::header::ETAG, tag);
    }
    response.headers_mut().insert(http::header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// The document with what other servers serve.
fn merged(call: &Call<'_>, document: Bytes, add: fn(&crate::aggregation::Aggregation, &mut Value)) -> Bytes {
    if call.core.aggregation.is_empty() {
        return document;
    }
    let Ok(mut value) = codec::json::parse(&document) else { return document };
    add(&call.core.aggregation, &mut value);
    let mut out = codec::json::encode(&value);
    out.push(b'\n');
    out.into()
}

fn openid(call: &Call<'_>, path: &str) -> ApiResult<Response<Body>> {
    let Some(issuer) = &call.core.issuer else { return Ok(respond::page_not_found()) };
    let (media, document) = match path {
        "/openid/v1/jwks" => ("application/jwk-set+json", issuer.jwks()),
        _ => ("application/json", issuer.openid_configuration(call.core.advertise)),
    };
    Ok(respond::bytes(200, media, codec::json::encode(&document)))
}
