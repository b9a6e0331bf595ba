//! Watching the metadata of every resource that can be collected.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;

use super::Shared;
use super::graph::{FOREGROUND, ORPHAN, Owner, Place, Seen, Uid};
use crate::common::discovery::Found;

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;
/// The first and the longest pause after an error.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// After this long the server ends a watch and the next begins, in seconds.
const WATCH_TIMEOUT_S: u32 = 290;

/// The part of an object that ownership is about; all else is skipped while it is read.
#[derive(Debug, Clone, Deserialize)]
struct Object {
    metadata: Meta,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: Option<String>,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    finalizers: Vec<String>,
    owner_references: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Object>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(rename = "continue", default)]
    continue_: String,
}

/// Follows one resource.
pub struct Monitor {
    shared: Arc<Shared>,
    request: Request,
    api_version: Arc<str>,
    kind: Arc<str>,
    /// Changes of these objects may change which resources there are.
    changes_resources: bool,
}

impl Monitor {
    /// A monitor of `found`.
    pub fn new(shared: Arc<Shared>, found: &Found) -> Self {
        let base = if found.group.is_empty() { "/api" } else { "/apis" };
        let url = format!("{base}/{}/{}", found.api_version(), found.resource);
        Self {
            shared,
            request: Request::new(url),
            api_version: found.api_version().into(),
            kind: found.kind.as_str().into(),
            changes_resources: matches!(found.kind.as_str(), "CustomResourceDefinition" | "APIService"),
        }
    }

    /// Lists and watches until it is dropped; `synced` is called after each list.
    pub async fn run(self, synced: impl Fn() + Send) {
        let mut version: Option<String> = None;
        let mut pause = RETRY_MIN;
        loop {
            let step = match &version {
                None => self.list().await.inspect(|_| synced()).map(Some),
                Some(version) => self.watch(version).await,
            };
            match step {
                Ok(next) => {
                    version = next;
                    pause = RETRY_MIN;
                }
                Err(error) => {
                    tracing::debug!(kind = &*self.kind, %error, "metadata watch failed, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn list(&self) -> Result<String, kube::Error> {
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let mut gone: HashSet<Uid> = self.shared.uids_of_kind(&self.api_version, &self.kind);
        loop {
            let request = self.request.list_metadata(&params).map_err(kube::Error::BuildRequest)?;
            let page: List = self.shared.client.request(request).await?;
            for object in page.items {
                gone.remove(object.metadata.uid.as_str());
                self.present(object);
            }
            if page.metadata.continue_.is_empty() {
                for uid in gone {
                    self.shared.gone(&uid);
                }
                return Ok(page.metadata.resource_version);
            }
            params.continue_token = Some(page.metadata.continue_);
        }
    }

    /// Follows the changes after `version`; None if that is too old.
    async fn watch(&self, version: &str) -> Result<Option<String>, kube::Error> {
        let params =
            WatchParams { timeout: Some(WATCH_TIMEOUT_S), bookmarks: true, ..WatchParams::default() };
        let request = self.request.watch_metadata(&params, version).map_err(kube::Error::BuildRequest)?;
        let stream = self.shared.client.request_events::<Object>(request).await?;
        let mut stream = std::pin::pin!(stream);
        let mut version = version.to_owned();
        while let Some(event) = stream.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version.clone_from(&object.metadata.resource_version);
                    self.present(object);
                }
                WatchEvent::Deleted(object) => {
                    version.clone_from(&object.metadata.resource_version);
                    self.shared.gone(&object.metadata.uid);
                    self.resources_changed();
                }
                WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(None),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(Some(version))
    }

    fn present(&self, object: Object) {
        let meta = object.metadata;
        let has = |finalizer: &str| meta.finalizers.iter().any(|f| f == finalizer);
        let seen = Seen {
            being_deleted: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
            place: Place {
                api_version: self.api_version.clone(),
                kind: self.kind.clone(),
                namespace: meta.namespace,
                name: meta.name,
            },
            uid: meta.uid.into(),
            owners: meta.owner_references,
        };
        self.shared.present(seen);
        self.resources_changed();
    }

    fn resources_changed(&self) {
        if self.changes_resources {
            self.shared.rediscover.notify_one();
        }
    }
}
