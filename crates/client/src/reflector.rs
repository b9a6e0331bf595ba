//! List and watch as a machine of states: what fills an informer's cache (client-go's Reflector).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};

use crate::ObjectKey;
use crate::informer::{Kind, Selector, Shared};

/// Objects per page of a list (client-go's pager).
const PAGE_SIZE: u32 = 500;
/// The first and the longest pause after an error (client-go: 800 ms and 30 s).
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// After this long the server ends a watch and we begin the next, in seconds.
const WATCH_TIMEOUT_S: u32 = 290;

/// Where the reflector stands.
enum State {
    /// Nothing is known, or the known revision is too old for the server.
    Empty,
    /// The cache holds the state of this resourceVersion.
    Listed(String),
}

/// Keeps one cache equal to the server's objects of a kind.
pub(crate) struct Reflector<K> {
    api: Api<K>,
    selector: Selector,
    shared: Arc<Shared<K>>,
}

impl<K: Kind> Reflector<K> {
    pub(crate) fn new(client: kube::Client, selector: Selector, shared: Arc<Shared<K>>) -> Self {
        // `Api::all` with a namespace in its path: the scope of K is a type of its own, so the field selector does it.
        Self { api: Api::all(client), selector, shared }
    }

    /// Lists and watches until it is dropped.
    pub(crate) async fn run(self) {
        let mut state = State::Empty;
        let mut pause = RETRY_MIN;
        loop {
            let step = match &state {
                State::Empty => self.list().await,
                State::Listed(version) => self.watch(version).await,
            };
            match step {
                Ok(next) => {
                    state = next;
                    pause = RETRY_MIN;
                }
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "list and watch failed, trying again");
                    tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn list(&self) -> Result<State, kube::Error> {
        let mut params = ListParams::default().limit(PAGE_SIZE);
        params.label_selector = some(&self.selector.labels);
        params.field_selector = self.field_selector();
        let mut gone: HashSet<ObjectKey> = self.shared.cache().keys().into_iter().collect();
        loop {
            let page = self.api.list(&params).await?;
            for object in page.items {
                gone.remove(&ObjectKey::of(&object));
                self.shared.store(object);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    for key in gone {
                        self.shared.delete(&key, None);
                    }
                    self.shared.mark_synced();
                    return Ok(State::Listed(page.metadata.resource_version.unwrap_or_default()));
                }
            }
        }
    }

    /// Follows the changes after `version`; returns where to go on when the server ends the watch.
    async fn watch(&self, version: &str) -> Result<State, kube::Error> {
        let params = WatchParams {
            label_selector: some(&self.selector.labels),
            field_selector: self.field_selector(),
            timeout: Some(WATCH_TIMEOUT_S),
            bookmarks: true,
            send_initial_events: false,
        };
        let mut version = version.to_owned();
        let stream = self.api.watch(&params, &version).await?;
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.meta().resource_version.clone().unwrap_or(version);
                    self.shared.store(object);
                }
                WatchEvent::Deleted(object) => {
                    version = object.meta().resource_version.clone().unwrap_or(version);
                    self.shared.delete(&ObjectKey::of(&object), Some(object));
                }
                WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(State::Empty),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(State::Listed(version))
    }

    fn field_selector(&self) -> Option<String> {
        let namespace = self.selector.namespace.as_ref().map(|n| format!("metadata.namespace={n}"));
        let parts: Vec<String> = namespace.into_iter().chain(some(&self.selector.fields)).collect();
        some(&parts.join(","))
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
