//! Reading one object, and what a watch says of one.

use std::sync::Arc;
use std::time::Duration;

use store::{Entry, Event, EventKind, Revision};

use super::options::parse_revision;
use super::{Filter, Registry, Served};
use crate::status::{ApiError, ApiResult, too_large_revision};

/// How long a read waits for a revision that is not there yet (`blockTimeout` of upstream's cacher).
const REVISION_WAIT: Duration = Duration::from_secs(3);

impl Registry {
    /// The entry of one object, no older than `resource_version`.
    pub async fn get(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        resource_version: &str,
    ) -> ApiResult<Arc<Entry>> {
        match parse_revision(resource_version)? {
            0 if resource_version.is_empty() => {
                self.store.read_barrier().await?;
            }
            0 => {}
            revision => self.wait_for(revision).await?,
        }
        let entry = self.entry(served, namespace, name)?;
        let entry = entry.ok_or_else(|| ApiError::not_found(served.group_resource(), name))?;
        super::stored::readable(&entry)?;
        Ok(entry)
    }

    /// Waits a moment until `revision` can be read.
    pub async fn wait_for(&self, revision: u64) -> ApiResult<()> {
        let current = self.store.current_revision();
        if current.0 >= revision {
            return Ok(());
        }
        match tokio::time::timeout(REVISION_WAIT, self.store.wait_for(Revision(revision))).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(too_large_revision(revision, self.store.current_revision().0)),
        }
    }
}

/// What a watcher is told of one change.
#[derive(Debug, Clone)]
pub enum ObjectEvent {
    /// It is there now, or passes the filter now.
    Added(Arc<Entry>),
    /// It changed.
    Modified(Arc<Entry>),
    /// It is gone, or passes the filter no more: its last state that did, and the revision of this.
    Deleted(Arc<Entry>, Revision),
}

impl ObjectEvent {
    /// What a change means to a watcher with that filter; `None` if nothing.
    pub fn of(event: &Event, filter: &Filter, served: &Served) -> Option<Self> {
        let passes = |entry: &Arc<Entry>| filter.matches(&served.hub, entry);
        let before = event.prev.as_ref().filter(|prev| passes(prev));
        let now = (event.kind == EventKind::Put && passes(&event.entry)).then_some(&event.entry);
        match (before, now) {
            (None, None) => None,
            (None, Some(now)) => Some(Self::Added(now.clone())),
            (Some(_), Some(now)) => Some(Self::Modified(now.clone())),
            (Some(before), None) => Some(Self::Deleted(before.clone(), event.entry.mod_revision)),
        }
    }

    /// The entry to show, the type's name, and the revision to show it with.
    pub fn parts(&self) -> (&Arc<Entry>, &'static str, u64) {
        match self {
            Self::Added(entry) => (entry, "ADDED", entry.mod_revision.0),
            Self::Modified(entry) => (entry, "MODIFIED", entry.mod_revision.0),
            Self::Deleted(entry, revision) => (entry, "DELETED", revision.0),
        }
    }
}
