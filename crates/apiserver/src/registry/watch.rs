//! Watching: a gapless run of events, or 410.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use store::{Entry, KeyRange, Revision, WatchOptions, Watcher};

use super::options::ListOptions;
use super::{Filter, ListRequest, ObjectEvent, Registry, Served};
use crate::status::{ApiError, ApiResult};

/// How often a watcher that asked for bookmarks gets one when nothing happens (upstream: about a minute).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(55);

/// One thing that a watch says.
#[derive(Debug)]
pub enum WatchItem {
    /// A change.
    Event(ObjectEvent),
    /// Everything up to this revision has been said. `initial_end`: so has everything that was there at the start.
    Bookmark {
        /// Reached.
        revision: u64,
        /// The end of the initial events.
        initial_end: bool,
    },
}

/// A running watch of one client.
pub struct ObjectWatch {
    served: Arc<Served>,
    filter: Filter,
    watcher: Watcher,
    initial: VecDeque<Arc<Entry>>,
    ready: VecDeque<WatchItem>,
    initial_end: Option<u64>,
    bookmarks: bool,
}

impl Registry {
    /// Starts a watch.
    pub async fn watch(
        &self,
        served: &Arc<Served>,
        namespace: &str,
        filter: Filter,
        options: &ListOptions,
    ) -> ApiResult<ObjectWatch> {
        let revision = options.revision()?;
        let initial = options.send_initial_events.unwrap_or(revision == 0);
        let mut start = revision;
        let mut entries = VecDeque::new();
        if initial {
            let list = ListOptions {
                resource_version: options.resource_version.clone(),
                version_match: Some(super::options::VersionMatch::NotOlderThan),
                ..ListOptions::default()
            };
            let request = ListRequest { served, namespace, filter: &filter, options: &list };
            let page = self.list(&request).await?;
            start = page.revision;
            entries = page.entries.into();
        } else if revision == 0 {
            start = self.store.read_barrier().await?.0;
        }
        let prefix = served.key_prefix(Some(namespace));
        let range = match filter.single_name() {
            Some(name) if !served.hub.namespaced || !namespace.is_empty() => {
                KeyRange::single(format!("{prefix}{name}"))
            }
            _ => KeyRange::prefix(prefix),
        };
        let how = WatchOptions {
            start_revision: Revision(start).next(),
            prev_entry: true,
            progress: options.bookmarks.then_some(BOOKMARK_INTERVAL),
        };
        let watcher = self.store.watch(range, how).map_err(|e| watch_error(e, start))?;
        let initial_end = (options.send_initial_events == Some(true) && options.bookmarks).then_some(start);
        Ok(ObjectWatch {
            served: served.clone(),
            filter,
            watcher,
            initial: entries,
            ready: VecDeque::new(),
            initial_end,
            bookmarks: options.bookmarks,
        })
    }
}

/// A watch that cannot go on.
fn watch_error(error: store::Error, start: u64) -> ApiError {
    match error {
        store::Error::Compacted { compact_revision } => {
            ApiError::expired(format!("too old resource version: {start} ({compact_revision})"))
        }
        other => other.into(),
    }
}

impl ObjectWatch {
    /// The next item. The error is the last thing that the watch says.
    pub async fn next(&mut self) -> ApiResult<WatchItem> {
        loop {
            if let Some(item) = self.try_buffered() {
                return Ok(item);
            }
            let batch = self.watcher.next().await.map_err(|e| watch_error(e, 0))?;
            self.take(&batch)?;
        }
    }

    /// An item that is there without waiting.
    pub fn try_next(&mut self) -> ApiResult<Option<WatchItem>> {
        loop {
            if let Some(item) = self.try_buffered() {
                return Ok(Some(item));
            }
            match self.watcher.try_next().map_err(|e| watch_error(e, 0))? {
                Some(batch) => self.take(&batch)?,
                None => return Ok(None),
            }
        }
    }

    /// Whether what comes next was there before the watch began.
    pub fn is_initial(&self) -> bool {
        !self.initial.is_empty()
    }

    fn try_buffered(&mut self) -> Option<WatchItem> {
        if let Some(entry) = self.initial.pop_front() {
            return Some(WatchItem::Event(ObjectEvent::Added(entry)));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(WatchItem::Bookmark { revision, initial_end: true });
        }
        self.ready.pop_front()
    }

    fn take(&mut self, batch: &store::WatchBatch) -> ApiResult<()> {
        if batch.events.is_empty() {
            if self.bookmarks {
                self.ready.push_back(WatchItem::Bookmark { revision: batch.revision.0, initial_end: false });
            }
            return Ok(());
        }
        for event in batch.events.iter() {
            super::stored::readable(&event.entry)?;
            let event = ObjectEvent::of(event, &self.filter, &self.served);
            self.ready.extend(event.map(WatchItem::Event));
        }
        Ok(())
    }

    /// The last revision that everything has been said up to, for a bookmark before the watch ends by itself.
    pub fn final_bookmark(&self) -> Option<WatchItem> {
        let revision = self.watcher.progress_revision()?.0;
        (self.bookmarks && self.initial.is_empty() && self.ready.is_empty())
            .then_some(WatchItem::Bookmark { revision, initial_end: false })
    }

    /// The resource watched.
    pub fn served(&self) -> &Arc<Served> {
        &self.served
    }
}
