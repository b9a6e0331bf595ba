//! A whole API server in this process, for tests of admission.

use std::sync::Arc;
use std::time::Duration;

use base::{TaskScope, UserInfo};
use http::Request;
use http_body_util::BodyExt;
use schema::{Value, value};
use tower::Service;

use crate::{ApiService, Options, Server};

/// How long a change of configuration may take to be noticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server.
pub struct Api {
    service: ApiService,
    _scope: TaskScope,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The object or Status.
    pub body: Value,
    /// `Warning` headers.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The Status' words.
    pub fn message(&self) -> &str {
        self.body.str_at("message").unwrap_or_default()
    }
}

impl Api {
    /// Starts one over a store in memory.
    pub async fn start() -> Self {
        let clock = base::system_clock();
        let store = Arc::new(store::Embedded::in_memory(clock.clone()).unwrap());
        let scope = TaskScope::new("test");
        let server = Server::new(Options::default(), store, clock, &scope).await.unwrap();
        Self { service: server.service(), _scope: scope }
    }

    /// Asks as an administrator. Media type by verb: merge patch for PATCH.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|b| serde_json::to_vec(b).unwrap()).unwrap_or_default();
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut request = Request::new(crate::http::body::full(bytes));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("content-type", media.parse().unwrap());
        request.extensions_mut().insert(UserInfo::authenticated("admin", &["system:masters"]));
        let response = self.service.clone().call(request).await.unwrap();
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|w| w.to_str().unwrap().to_owned()).collect();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_default(), warnings }
    }

    /// Creates an object, which must succeed.
    pub async fn create(&self, path: &str, object: &Value) -> Value {
        let answer = self.ask("POST", path, Some(object)).await;
        assert_eq!(answer.code, 201, "{path}: {}", answer.message());
        answer.body
    }

    /// Asks until `done`: configuration takes effect when its watch has seen it.
    pub async fn until(
        &self,
        (method, path, body): (&str, &str, Option<&Value>),
        done: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let limit = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(method, path, body).await;
            if done(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < limit, "still {answer:?}");
            tokio::task::yield_now().await;
        }
    }
}

/// A ConfigMap.
pub fn config_map(name: &str, data: Value) -> Value {
    value!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": (data)})
}

/// Where ConfigMaps of the namespace `default` are.
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
