//! `/healthz`, `/livez`, `/readyz`: named checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Response;
use store::Store;

use crate::encryption::Encryption;
use crate::http::{Body, respond};
use crate::request::Query;

/// Names that upstream's checks have, all of which hold here once the server serves.
const ALWAYS: [&str; 2] = ["ping", "log"];

/// The checks.
pub struct Health {
    store: Arc<dyn Store>,
    started: AtomicBool,
    stopping: AtomicBool,
}

/// Which of the three endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Healthz,
    Livez,
    Readyz,
}

impl Health {
    /// Not ready yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, started: AtomicBool::new(false), stopping: AtomicBool::new(false) }
    }

    /// Bootstrap objects are there.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The server stops: not ready any more.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Answers below `/healthz`, `/livez` and `/readyz`; `None` for other paths.
    /// `encryption` tells of its plugins.
    pub async fn serve(
        &self,
        path: &str,
        query: &Query,
        encryption: Option<&Encryption>,
    ) -> Option<Response<Body>> {
        let path = path.trim_end_matches('/');
        let (name, endpoint) =
            [("/healthz", Endpoint::Healthz), ("/livez", Endpoint::Livez), ("/readyz", Endpoint::Readyz)]
                .into_iter()
                .find(|(name, _)| {
                    path == *name || path.strip_prefix(name).is_some_and(|r| r.starts_with('/'))
                })?;
        let mut checks = self.checks(endpoint);
        if let Some(encryption) = encryption {
            checks.extend(encryption.check().await.map(|outcome| ("kms-providers", outcome)));
        }
        let single = path[name.len()..].trim_start_matches('/');
        if !single.is_empty() {
            let found = checks.iter().find(|(check, _)| *check == single);
            return Some(match found {
                Some((_, Ok(()))) => respond::text(200, "ok"),
                Some((_, Err(why))) => respond::text(500, format!("internal server error: {why}\n")),
                None => respond::page_not_found(),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut lines = String::new();
        let mut failed = false;
        for (check, outcome) in &checks {
            let line = match outcome {
                _ if excluded.contains(check) => format!("[+]{check} excluded: ok\n"),
                Ok(()) => format!("[+]{check} ok\n"),
                Err(_) => {
                    failed = true;
                    format!("[-]{check} failed: reason withheld\n")
                }
            };
            lines.push_str(&line);
        }
        let what = &name[1..];
        Some(if failed {
            respond::text(500, format!("{lines}{what} check failed\n"))
        } else if query.get("verbose").is_some() {
            respond::text(200, format!("{lines}{what} check passed\n"))
        } else {
            respond::text(200, "ok")
        })
    }

    fn checks(&self, endpoint: Endpoint) -> Vec<(&'static str, Result<(), String>)> {
        let mut checks: Vec<(&'static str, Result<(), String>)> = ALWAYS.map(|name| (name, Ok(()))).to_vec();
        let store = self.store.health().map_err(|e| e.to_string());
        checks.push(("etcd", store.clone()));
        if endpoint == Endpoint::Readyz {
            checks.push(("etcd-readiness", store));
            checks.push(("informer-sync", Ok(())));
        }
        let started = match self.started.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("not finished".to_owned()),
        };
        for hook in HOOKS {
            checks.push((hook, started.clone()));
        }
        if endpoint == Endpoint::Readyz {
            let stopping = self.stopping.load(Ordering::Acquire);
            checks.push((
                "shutdown",
                if stopping { Err("process is shutting down".to_owned()) } else { Ok(()) },
            ));
        }
        checks
    }
}

/// Upstream's post-start hooks, by the names that monitoring knows.
const HOOKS: [&str; 29] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/aggregator-reload-proxy-client-cert",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];
