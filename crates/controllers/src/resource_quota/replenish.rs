//! Notices when objects of a kind that a quota counts go.

use std::time::Duration;

use client::WorkQueue;
use futures::StreamExt;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};

use crate::common::discovery::Found;

/// The first and the longest pause after an error.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// After this long the server ends a watch and the next begins, in seconds.
const WATCH_TIMEOUT_S: u32 = 290;

/// Adds the namespace of every object of `found` that goes, until it is dropped. Nothing is kept of the objects.
pub async fn watch_deletions(client: kube::Client, found: Found, namespaces: WorkQueue<String>) {
    let objects: Api<DynamicObject> = Api::all_with(client, &found.api_resource());
    let mut version: Option<String> = None;
    let mut pause = RETRY_MIN;
    loop {
        let step = match &version {
            None => newest_version(&objects).await.map(Some),
            Some(version) => follow(&objects, version, &namespaces).await,
        };
        match step {
            Ok(next) => {
                version = next;
                pause = RETRY_MIN;
            }
            Err(error) => {
                tracing::debug!(resource = found.resource, %error, "deletions not seen, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn newest_version(objects: &Api<DynamicObject>) -> Result<String, kube::Error> {
    let list = objects.list_metadata(&ListParams::default().limit(1)).await?;
    Ok(list.metadata.resource_version.unwrap_or_default())
}

async fn follow(
    objects: &Api<DynamicObject>,
    version: &str,
    namespaces: &WorkQueue<String>,
) -> Result<Option<String>, kube::Error> {
    let params = WatchParams { timeout: Some(WATCH_TIMEOUT_S), bookmarks: true, ..WatchParams::default() };
    let stream = objects.watch_metadata(&params, version).await?;
    let mut stream = std::pin::pin!(stream);
    let mut version = version.to_owned();
    while let Some(event) = stream.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                version = version_of(&object, version)
            }
            WatchEvent::Deleted(object) => {
                version = version_of(&object, version);
                namespaces.add(object.namespace().unwrap_or_default());
            }
            WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Ok(None),
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(Some(version))
}

fn version_of(object: &PartialObjectMeta<DynamicObject>, before: String) -> String {
    object.resource_version().unwrap_or(before)
}
