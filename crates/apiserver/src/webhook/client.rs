//! The client: a pool of connections for every webhook.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use schema::Value;

use super::connect::{ConnectError, Connector};
use super::error::CallError;
use super::resolver::ServiceResolver;
use super::target::{ServiceTarget, Target};
use crate::outbound::{HTTP2_OR_1, Trust, client_config};

/// Webhooks whose connections are kept; beyond this all are forgotten and made anew.
const MAX_POOLS: usize = 256;
/// How long an unused connection is kept (Go's default transport: 90 s).
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept per webhook (Go's transport in client-go: 25).
const MAX_IDLE: usize = 25;
/// Largest answer that is read, in bytes: a converted page of large objects fits.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

type Pool = Client<Connector, Full<Bytes>>;
type PoolKey = (Option<ServiceTarget>, Vec<u8>);

/// Calls webhooks. Connections are reused, by HTTP/2 where the other side speaks it.
pub struct WebhookClient {
    resolver: Arc<dyn ServiceResolver>,
    scope: TaskScope,
    pools: Mutex<HashMap<PoolKey, Pool>>,
}

/// Runs the connections' tasks in the client's scope.
#[derive(Clone)]
struct Owned(TaskScope);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

impl WebhookClient {
    /// A client that finds services by `resolver`; `scope` owns its connections.
    pub fn new(resolver: Arc<dyn ServiceResolver>, scope: &TaskScope) -> Arc<Self> {
        Arc::new(Self { resolver, scope: scope.child("webhooks"), pools: Mutex::default() })
    }

    /// POSTs a JSON body and gives the JSON of the answer, whatever it says. The webhook is told how long is waited.
    pub async fn post(&self, target: &Target, body: &Value, timeout: Duration) -> Result<Value, CallError> {
        let body = serde_json::to_vec(body).map_err(|e| CallError::Config(e.to_string()))?;
        let url = with_timeout(&target.url, timeout);
        let uri: Uri = url
            .parse()
            .map_err(|e| CallError::Config(format!("parse {}: {e}", rules::quote(&target.url))))?;
        let pool = self.pool(target).map_err(CallError::Config)?;
        match tokio::time::timeout(timeout, exchange(&pool, &uri, &url, body.into())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Transport { url, cause: "context deadline exceeded".to_owned() }),
        }
    }

    fn pool(&self, target: &Target) -> Result<Pool, String> {
        let key = (target.service.clone(), target.ca_bundle.clone());
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        let trust = Trust { authorities: target.ca_bundle.clone(), ..Trust::default() };
        let connector = Connector {
            service: target.service.clone(),
            resolver: self.resolver.clone(),
            tls: client_config(&trust, HTTP2_OR_1)?,
        };
        let pool = Client::builder(Owned(self.scope.clone()))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        pools.insert(key, pool.clone());
        Ok(pool)
    }
}

/// The URL with the time that the webhook has, in whole seconds, rounded up.
fn with_timeout(url: &str, timeout: Duration) -> String {
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    let slash = if has_path { "" } else { "/" };
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{slash}{sign}timeout={seconds}s")
}

async fn exchange(pool: &Pool, uri: &Uri, url: &str, body: Bytes) -> Result<Value, CallError> {
    let transport = |cause: String| CallError::Transport { url: url.to_owned(), cause };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    let response = pool.request(request).await.map_err(|e| transport(cause(&e)))?;
    let code = response.status();
    let body =
        Limited::new(response.into_body(), MAX_RESPONSE).collect().await.map_err(|e| match e
            .downcast_ref::<LengthLimitError>()
        {
            Some(_) => CallError::TooLarge(MAX_RESPONSE),
            None => transport(e.to_string()),
        })?;
    let bytes = body.to_bytes();
    if !code.is_success() {
        return Err(CallError::status(code.as_u16(), &bytes));
    }
    codec::json::parse(&bytes).map_err(|e| CallError::Decode(e.to_string()))
}

/// The innermost reason that we know words for.
fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut at: Option<&(dyn StdError + 'static)> = Some(error);
    let mut last = error;
    while let Some(inner) = at {
        if let Some(connect) = inner.downcast_ref::<ConnectError>() {
            return connect.to_string();
        }
        if inner.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return "EOF".to_owned();
        }
        last = inner;
        at = inner.source();
    }
    last.to_string()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_timeout_is_told() {
        let told = |url| with_timeout(url, Duration::from_millis(1500));
        assert_eq!(told("https://a.b.svc:443"), "https://a.b.svc:443/?timeout=2s");
        assert_eq!(told("https://a/b"), "https://a/b?timeout=2s");
    }
}
