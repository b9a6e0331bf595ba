//! Requests to a registry: challenges answered, redirects followed, passing failures tried again.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;

use super::answers::{
    causes, challenge_of, connection_refused, header, invalid, parse_uri, range_start, read_limited,
    redirect_target, refusal,
};
use super::auth::{Challenge, Credentials, query_escape, token_of};
use super::connect::Connector;
use super::endpoint::Endpoint;
use super::{RegistryConfig, RegistryError};
use crate::images::digest::Digest;
use crate::images::manifest::{INDEX_TYPES, MANIFEST_TYPES, MAX_JSON_BYTES};
use crate::images::reference::Reference;

pub(super) type Result<T> = std::result::Result<T, RegistryError>;
type Http = Client<Connector, Full<Bytes>>;

const MAX_REDIRECTS: usize = 10;
const MAX_ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// How long a registry may take to begin an answer, and between two pieces of it.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of an error page is looked at.
pub(super) const MAX_ERROR_BODY: usize = 64 << 10;
const USER_AGENT: &str = concat!("corten/", env!("CARGO_PKG_VERSION"));

/// Speaks to registries as configured. Cheap to make requests from many tasks.
pub struct RegistryClient {
    config: RegistryConfig,
    verified: Http,
    unverified: Http,
}

/// A registry that had the image, ready to give its parts.
pub struct Resolved<'a> {
    client: &'a RegistryClient,
    endpoint: Endpoint,
    image: Reference,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<String>>,
    /// The media type of what the name stands for.
    pub media_type: String,
    /// Its bytes.
    pub body: Bytes,
}

/// A blob as it arrives.
pub struct BlobStream {
    body: Incoming,
    url: String,
    /// The position of the first byte; less than asked for if the registry knows no ranges.
    pub offset: u64,
}

impl RegistryClient {
    /// A client for `config`; fails if its certificate files cannot be read.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        let http = |verify| -> Result<Http> {
            let connector = Connector::new(&config, verify)?;
            Ok(Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(30))
                .build(connector))
        };
        Ok(Self { verified: http(true)?, unverified: http(false)?, config })
    }

    /// Finds the image at one of its endpoints and gets what its name stands for.
    pub async fn resolve(&self, image: &Reference, credentials: Option<Credentials>) -> Result<Resolved<'_>> {
        let mut first_error = None;
        for endpoint in self.config.endpoints(image) {
            let credentials = credentials.clone().filter(|_| endpoint.origin);
            let mut candidate = Resolved {
                client: self,
                endpoint,
                image: image.clone(),
                authorization: Mutex::new(match &credentials {
                    Some(Credentials::Registry(token)) => Some(format!("Bearer {token}")),
                    _ => None,
                }),
                credentials,
                media_type: String::new(),
                body: Bytes::new(),
            };
            match candidate.manifest(image.target()).await {
                Ok((media_type, body)) => {
                    (candidate.media_type, candidate.body) = (media_type, body);
                    return Ok(candidate);
                }
                Err(error) => {
                    tracing::debug!(image = %image, endpoint = candidate.endpoint.base, %error, "not resolved");
                    // The registry's own answer says more than that plain HTTP was tried in vain before it.
                    let keep = matches!(first_error, None | Some(RegistryError::Unreachable { .. }));
                    if keep && !(first_error.is_some() && matches!(error, RegistryError::Unreachable { .. }))
                    {
                        first_error = Some(error);
                    }
                }
            }
        }
        Err(first_error.unwrap_or(RegistryError::NotFound { name: image.to_string() }))
    }

    async fn send(&self, endpoint: &Endpoint, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let http = if endpoint.verify { &self.verified } else { &self.unverified };
        let url = request.uri().to_string();
        let unreachable = |message: String| RegistryError::Unreachable { url: url.clone(), message };
        match tokio::time::timeout(IDLE_TIMEOUT, http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreachable(causes(&error))),
            Err(_) => Err(unreachable(format!("no answer within {IDLE_TIMEOUT:?}"))),
        }
    }
}

impl Resolved<'_> {
    /// Gets a manifest or index by tag or digest: its media type and bytes. A digest is verified.
    pub async fn manifest(&self, target: &str) -> Result<(String, Bytes)> {
        let accept = [INDEX_TYPES.join(", "), MANIFEST_TYPES.join(", "), "*/*".to_owned()].join(", ");
        let url = self.url("manifests", target);
        let name = format!("{}{}{target}", self.image.name(), if target.contains(':') { "@" } else { ":" });
        let response = self.get(&url, &accept, None, &name).await?;
        let media_type = header(response.headers(), CONTENT_TYPE.as_str());
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let body = read_limited(response.into_body(), MAX_JSON_BYTES as usize, &url).await?;
        if target.contains(':') && Digest::of(&body).as_str() != target {
            return Err(RegistryError::Invalid { url, message: format!("content is not that of {target}") });
        }
        Ok((media_type, body))
    }

    /// Begins to get a blob, from `offset` on if the registry can.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<BlobStream> {
        let url = self.url("blobs", digest.as_str());
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let name = self.image.with_digest(digest);
        let response = self.get(&url, "*/*", range.as_deref(), &name).await?;
        let offset = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(response.headers()).unwrap_or(offset),
            _ => 0,
        };
        Ok(BlobStream { body: response.into_body(), url, offset })
    }

    fn url(&self, what: &str, target: &str) -> String {
        let namespace = match &self.endpoint.namespace {
            Some(namespace) => format!("?ns={}", query_escape(namespace)),
            None => String::new(),
        };
        format!("{}/v2/{}/{what}/{target}{namespace}", self.endpoint.base, self.image.path)
    }

    async fn get(
        &self,
        url: &str,
        accept: &str,
        range: Option<&str>,
        name: &str,
    ) -> Result<Response<Incoming>> {
        let mut backoff = FIRST_BACKOFF;
        for attempt in 1.. {
            match self.get_once(url, accept, range, name).await {
                // A refused connection on loopback will be refused again; a broken or overloaded server may recover.
                Err(error) if error.is_passing() && attempt < MAX_ATTEMPTS && !connection_refused(&error) => {
                    tracing::debug!(url, %error, attempt, "trying again");
                    tokio::time::sleep(backoff).await;
                    backoff *= 2;
                }
                other => return other,
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    async fn get_once(
        &self,
        url: &str,
        accept: &str,
        range: Option<&str>,
        name: &str,
    ) -> Result<Response<Incoming>> {
        let mut challenged = false;
        loop {
            let response = self.follow(url, accept, range).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let challenge = (status == StatusCode::UNAUTHORIZED && !challenged)
                .then(|| challenge_of(response.headers()))
                .flatten();
            let Some(challenge) = challenge else {
                return Err(refusal(url, name, response).await);
            };
            challenged = true;
            match self.answer(challenge).await? {
                Some(header) => *self.authorization.lock() = Some(header),
                None => return Err(refusal(url, name, response).await),
            }
        }
    }

    /// Sends a GET, and follows redirects; the authorization goes to the registry's own host alone.
    async fn follow(&self, url: &str, accept: &str, range: Option<&str>) -> Result<Response<Incoming>> {
        let mut target = parse_uri(url)?;
        let home = target.authority().cloned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().uri(target.clone()).header(ACCEPT, accept);
            request = request.header("user-agent", USER_AGENT);
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            let authorization = self.authorization.lock().clone();
            if let Some(value) = authorization.filter(|_| target.authority() == home.as_ref()) {
                request = request.header(AUTHORIZATION, value);
            }
            let request = request.body(Full::default()).map_err(|e| invalid(url, e))?;
            let response = self.client.send(&self.endpoint, request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            target =
                redirect_target(&target, response.headers()).ok_or_else(|| invalid(url, "bad redirect"))?;
        }
        Err(invalid(url, "too many redirects"))
    }

    /// The authorization header that satisfies a challenge; `None` if these credentials cannot.
    async fn answer(&self, challenge: Challenge) -> Result<Option<String>> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.as_ref().and_then(Credentials::basic_header)),
            Challenge::Bearer { .. } if matches!(self.credentials, Some(Credentials::Registry(_))) => {
                Ok(None)
            }
            Challenge::Bearer { realm, service, scope } => {
                let scope =
                    if scope.is_empty() { format!("repository:{}:pull", self.image.path) } else { scope };
                self.token(&realm, &service, &scope).await.map(Some)
            }
        }
    }

    async fn token(&self, realm: &str, service: &str, scope: &str) -> Result<String> {
        let fields = format!("service={}&scope={}", query_escape(service), query_escape(scope));
        let request = match &self.credentials {
            Some(Credentials::Identity(token)) => Request::builder()
                .method(Method::POST)
                .uri(parse_uri(realm)?)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(format!(
                    "grant_type=refresh_token&client_id=corten&{fields}&refresh_token={}",
                    query_escape(token)
                ))),
            credentials => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let uri = parse_uri(&format!("{realm}{separator}{fields}"))?;
                let mut request = Request::builder().uri(uri).header("user-agent", USER_AGENT);
                if let Some(basic) = credentials.as_ref().and_then(Credentials::basic_header) {
                    request = request.header(AUTHORIZATION, basic);
                }
                request.body(Full::default())
            }
        };
        let request = request.map_err(|e| invalid(realm, e))?;
        let response = self.client.send(&self.endpoint, request).await?;
        if !response.status().is_success() {
            let error = refusal(realm, realm, response).await;
            return Err(RegistryError::Denied { message: format!("failed to fetch token: {error}") });
        }
        let body = read_limited(response.into_body(), MAX_ERROR_BODY, realm).await?;
        let token =
            token_of(&body).ok_or_else(|| invalid(realm, "the token server's answer has no token"))?;
        Ok(format!("Bearer {token}"))
    }
}

impl BlobStream {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(IDLE_TIMEOUT, self.body.frame()).await;
            let unreachable = |message: String| RegistryError::Unreachable { url: self.url.clone(), message };
            match frame {
                Err(_) => return Err(unreachable(format!("nothing came for {IDLE_TIMEOUT:?}"))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(unreachable(causes(&error))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}
