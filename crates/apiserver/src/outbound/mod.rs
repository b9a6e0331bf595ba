//! Questions that the server asks others by HTTP: webhooks of authentication, authorization and audit, OpenID
//! providers, aggregated API servers.
//!
//! One connection per question, driven by whoever asks: nothing is spawned and nothing is left behind.

mod kubeconfig;
mod stream;
mod tls;
mod words;

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use schema::Value;

pub use kubeconfig::from_kubeconfig;
pub use stream::{Stream, TlsClient, connect};
pub use tls::{HTTP1, HTTP2_OR_1, Trust, client_config};

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Who asks.
static USER_AGENT: LazyLock<HeaderValue> = LazyLock::new(|| {
    HeaderValue::try_from(format!("kube-apiserver/{} ({})", base::GIT_VERSION, std::env::consts::OS))
        .unwrap_or(HeaderValue::from_static("kube-apiserver"))
});

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutboundError {
    /// The URL or a file cannot be used.
    #[error("{0}")]
    Config(String),
    /// No connection, or it broke.
    #[error("{url}: {why}")]
    Transport {
        /// Where to.
        url: String,
        /// What happened.
        why: String,
    },
    /// The answer is no success.
    #[error("{url}: {code}: {}", snippet(.body))]
    Status {
        /// Where to.
        url: String,
        /// HTTP status.
        code: StatusCode,
        /// The answer.
        body: Bytes,
    },
    /// The answer is not what was expected.
    #[error("{url}: {why}")]
    Content {
        /// Where to.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The first part of a body, for messages.
fn snippet(body: &[u8]) -> String {
    const SHOWN: usize = 256;
    String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim().to_owned()
}

/// Tries of one question, and the pause after the first (upstream's webhook backoff: 500 ms, factor 1.5, 5 steps).
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Asks again when there is no answer or the other side is in trouble.
pub async fn retrying<T, F>(ask: impl Fn() -> F) -> Result<T, OutboundError>
where
    F: Future<Output = Result<T, OutboundError>>,
{
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        let outcome = ask().await;
        let again = match &outcome {
            Err(OutboundError::Transport { .. }) => true,
            Err(OutboundError::Status { code, .. }) => code.is_server_error() || code.as_u16() == 429,
            _ => false,
        };
        if !again || tries == TRIES {
            return outcome;
        }
        tries += 1;
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5);
    }
}

/// Another server: where it is, how it is spoken to, and what it is shown.
#[derive(Clone)]
pub struct Endpoint {
    /// Scheme, host, port and path.
    pub url: Uri,
    /// Whom to believe and what to present.
    pub tls: TlsClient,
    /// Headers of every request, such as credentials.
    pub headers: HeaderMap,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Any.
    pub code: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
}

impl Endpoint {
    /// The server at `url`, believed by `trust`.
    pub fn new(url: &str, trust: &Trust) -> Result<Self, OutboundError> {
        let uri: Uri = url.parse().map_err(|e| OutboundError::Config(format!("{url}: {e}")))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) || uri.host().is_none() {
            return Err(OutboundError::Config(format!("{url}: not an http or https URL")));
        }
        let config = client_config(trust, HTTP1).map_err(OutboundError::Config)?;
        let tls = TlsClient { config, server_name: None };
        Ok(Self { url: uri, tls, headers: HeaderMap::new() })
    }

    /// Asks, and reads the whole answer.
    pub async fn send(
        &self,
        method: Method,
        body: Bytes,
        headers: &[(http::HeaderName, HeaderValue)],
        limit: Duration,
    ) -> Result<Answer, OutboundError> {
        match tokio::time::timeout(limit, self.exchange(method, body, headers)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.broken("context deadline exceeded".to_owned())),
        }
    }

    /// GETs a JSON document.
    pub async fn get_json(&self, limit: Duration) -> Result<(Value, HeaderMap), OutboundError> {
        let answer = self.send(Method::GET, Bytes::new(), &[], limit).await?;
        let url = self.url.to_string();
        if !answer.code.is_success() {
            return Err(OutboundError::Status { url, code: answer.code, body: answer.body });
        }
        let value = codec::json::parse(&answer.body);
        Ok((value.map_err(|e| OutboundError::Content { url, why: e.to_string() })?, answer.headers))
    }

    /// POSTs a JSON document; the answer must be a success and JSON.
    pub async fn post_json(&self, body: &Value, limit: Duration) -> Result<Value, OutboundError> {
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let answer = self.send(Method::POST, codec::json::encode(body).into(), &json, limit).await?;
        let url = self.url.to_string();
        if !answer.code.is_success() {
            return Err(OutboundError::Status { url, code: answer.code, body: answer.body });
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        codec::json::parse(&answer.body).map_err(|e| OutboundError::Content { url, why: e.to_string() })
    }

    fn broken(&self, why: String) -> OutboundError {
        OutboundError::Transport { url: self.url.to_string(), why }
    }

    async fn exchange(
        &self,
        method: Method,
        body: Bytes,
        headers: &[(http::HeaderName, HeaderValue)],
    ) -> Result<Answer, OutboundError> {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = self.url.scheme_str() == Some("https");
        let port = self.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = connect(&host, port, secure.then_some(&self.tls)).await.map_err(|e| self.broken(e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e.to_string()))?;
        let request = self.request(method, body, headers)?;
        let asking = async {
            let response = sender.send_request(request).await.map_err(|e| self.broken(e.to_string()))?;
            let (parts, body) = response.into_parts();
            let body =
                Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| self.broken(e.to_string()))?;
            Ok(Answer { code: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        tokio::pin!(connection, asking);
        tokio::select! {
            biased;
            answer = &mut asking => answer,
            // What has arrived before the end can still be read.
            _ = &mut connection => asking.await,
        }
    }

    fn request(
        &self,
        method: Method,
        body: Bytes,
        headers: &[(http::HeaderName, HeaderValue)],
    ) -> Result<Request<Full<Bytes>>, OutboundError> {
        let wrong = |e: String| OutboundError::Config(format!("{}: {e}", self.url));
        let path = self.url.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|e| wrong(format!("{e}")))?;
        let own = request.headers_mut();
        own.extend(self.headers.clone());
        let host = self.url.authority().map_or("", |a| a.as_str());
        own.insert(HOST, HeaderValue::from_str(host).map_err(|e| wrong(e.to_string()))?);
        own.insert(http::header::USER_AGENT, USER_AGENT.clone());
        own.entry(http::header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            own.insert(name, value.clone());
        }
        Ok(request)
    }
}
