//! Service-account tokens.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::Response;
use rules::{FieldError, Path};
use schema::{Value, value};

use crate::api::Call;
use crate::http::negotiate::Accept;
use crate::http::{Body, respond};
use crate::registry::options::OptionsKind;
use crate::registry::{Served, WriteOptions, meta};
use crate::status::{ApiError, ApiResult, GroupResource};

/// What a service-account token says.
#[derive(Debug, Clone, Default)]
pub struct TokenClaims {
    /// Namespace of the service account.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// Its uid.
    pub uid: String,
    /// Whom the token is for; never empty.
    pub audiences: Vec<String>,
    /// How long it is good for, in seconds.
    pub expires_in_s: i64,
    /// The object whose end ends the token: kind (`Pod`, `Node`, `Secret`), name, uid.
    pub bound_to: Option<(String, String, String)>,
    /// The node of the pod it is bound to: name, uid.
    pub node: Option<(String, String)>,
    /// When upstream would warn that the token is used past the time asked for, seconds from now.
    pub warn_after_s: Option<i64>,
}

/// A token as issued.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The JWT.
    pub token: String,
    /// When it ends, seconds since the epoch.
    pub expires_at: i64,
}

/// Signs service-account tokens and publishes how to verify them.
#[async_trait]
pub trait TokenIssuer: Send + Sync + 'static {
    /// Makes a token.
    async fn issue(&self, claims: &TokenClaims) -> ApiResult<IssuedToken>;

    /// The audiences that tokens have when none are asked for.
    fn default_audiences(&self) -> Vec<String>;

    /// `/openid/v1/jwks`
    fn jwks(&self) -> Value;

    /// `/.well-known/openid-configuration`; `address` is where the keys are served.
    fn openid_configuration(&self, address: SocketAddr) -> Value;
}

/// Shortest and longest life of a token that may be asked for, in seconds.
const MIN_EXPIRATION_S: i64 = 600;
const MAX_EXPIRATION_S: i64 = 1 << 32;
/// A pod's token asked for this long is extended, since old clients do not read theirs again (upstream's
/// `WarnOnlyBoundTokenExpirationPeriod`), to this long.
const WARN_ONLY_S: i64 = 3607;
const EXTENDED_S: i64 = 365 * 24 * 3600;

/// POST of a TokenRequest.
pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let options = WriteOptions::parse(OptionsKind::Create, call.query, &call.parts.headers)?;
    let mut request = super::decode_body(call, served, &options, body).await?;
    let options_value = options.to_value("CreateOptions");
    request = call.write_context(served, &options, &options_value).admit_body(request).await?;
    let Some(issuer) = &call.core.issuer else {
        return Err(ApiError::not_implemented(
            "service-account tokens without --service-account-signing-key-file",
        ));
    };
    let (namespace, name) = (call.namespace(served), call.info.name.as_str());
    check_body(&request, namespace, name)?;
    let account = call.core.registry.require("", "serviceaccounts", namespace, name)?;
    let uid = meta::uid(&request);
    if !uid.is_empty() && uid != meta::uid(&account) {
        let resource = GroupResource::new("authentication.k8s.io", "TokenRequest");
        return Err(ApiError::conflict(
            resource,
            name,
            format!(
                "the UID in the token request ({uid}) does not match the UID of the service account ({})",
                meta::uid(&account)
            ),
        ));
    }
    let audiences: Vec<String> =
        request.items_at("spec.audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if audiences.is_empty() { issuer.default_audiences() } else { audiences };
    request.set("spec.audiences", audiences.clone());
    let asked = request.int_at("spec.expirationSeconds").unwrap_or(3600);
    check_expiration(asked, name)?;
    request.set("spec.expirationSeconds", asked);
    let mut claims = TokenClaims {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
        uid: meta::uid(&account).to_owned(),
        audiences,
        expires_in_s: asked,
        ..TokenClaims::default()
    };
    bind(call, &request["spec"]["boundObjectRef"], &mut claims)?;
    let for_pod = claims.bound_to.as_ref().is_some_and(|(kind, ..)| kind == "Pod");
    let own_audiences = claims.audiences == issuer.default_audiences();
    if call.core.options.service_account_extend_token_expiration
        && for_pod
        && asked == WARN_ONLY_S
        && own_audiences
    {
        claims.expires_in_s = EXTENDED_S;
        claims.warn_after_s = Some(asked);
    }
    let now = call.core.registry.now();
    let issued = issuer.issue(&claims).await?;
    // The answer says the time asked for, so that clients renew in time.
    let expires = match claims.warn_after_s {
        Some(_) => meta::timestamp(&*call.core.registry.clock, asked),
        None => jiff::Timestamp::from_second(issued.expires_at).map(|t| t.to_string()).unwrap_or_default(),
    };
    meta::set(&mut request, "name", name);
    meta::set(&mut request, "namespace", namespace);
    meta::set(&mut request, "creationTimestamp", now);
    request.insert("status", value!({"token": (issued.token), "expirationTimestamp": expires}));
    respond::object(201, &request, accept, served.resource.subresource("token").map(|s| &s.schema))
}

/// Name and namespace in the body, if given, must be the account's.
fn check_body(request: &Value, namespace: &str, name: &str) -> ApiResult<()> {
    let metadata = Path::new("metadata");
    let given = [("name", meta::name(request), name), ("namespace", meta::namespace(request), namespace)];
    for (field, said, wanted) in given {
        if !said.is_empty() && said != wanted {
            let words = format!("must match the service account {field} if specified");
            let error = FieldError::invalid(&metadata.child(field), said, words);
            return Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", name, &[error]));
        }
    }
    Ok(())
}

fn check_expiration(asked: i64, name: &str) -> ApiResult<()> {
    let path = Path::new("spec.expirationSeconds");
    let words = match asked {
        s if s < MIN_EXPIRATION_S => "may not specify a duration less than 10 minutes",
        s if s > MAX_EXPIRATION_S => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let error = FieldError::invalid(&path, asked, words);
    let _ = name;
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
}

/// The object that the token is to live no longer than.
fn bind(call: &Call<'_>, reference: &Value, claims: &mut TokenClaims) -> ApiResult<()> {
    if reference.is_null() {
        return Ok(());
    }
    let text = |name: &str| reference.str_at(name).unwrap_or_default();
    let registry = &call.core.registry;
    let (kind, name) = (text("kind"), text("name"));
    let (plural, namespace) = match (text("apiVersion"), kind) {
        ("v1" | "", "Pod") => ("pods", claims.namespace.as_str()),
        ("v1" | "", "Secret") => ("secrets", claims.namespace.as_str()),
        ("v1" | "", "Node") => ("nodes", ""),
        (version, kind) => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let object = registry.require("", plural, namespace, name)?;
    let uid = meta::uid(&object).to_owned();
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != uid {
        let words = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(GroupResource::new("", plural), name, words));
    }
    if kind == "Pod" {
        let account = object.str_at("spec.serviceAccountName").unwrap_or_default();
        if account != claims.service_account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                rules::quote(&claims.service_account)
            )));
        }
        if let Some(node) = object.str_at("spec.nodeName").filter(|n| !n.is_empty()) {
            let uid =
                registry.find("", "nodes", "", node)?.map(|n| meta::uid(&n).to_owned()).unwrap_or_default();
            claims.node = Some((node.to_owned(), uid));
        }
    }
    claims.bound_to = Some((kind.to_owned(), name.to_owned(), uid));
    Ok(())
}
