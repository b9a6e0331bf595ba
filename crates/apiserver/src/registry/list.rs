//! Listing, in pages of one consistent snapshot.

use std::sync::Arc;

use store::{Entry, KeyRange, RangeOptions, Revision};

use super::options::{ListOptions, VersionMatch};
use super::{Filter, Registry, Served, continue_token};
use crate::metrics::families::{STORE_DURATION, STORE_REQUESTS};
use crate::status::{ApiError, ApiResult};

/// What to list.
pub struct ListRequest<'a> {
    /// Which resource.
    pub served: &'a Served,
    /// Empty: all namespaces.
    pub namespace: &'a str,
    /// Which objects.
    pub filter: &'a Filter,
    /// Paging and revision.
    pub options: &'a ListOptions,
}

/// One page.
#[derive(Debug, Default)]
pub struct ListPage {
    /// The revision of the snapshot.
    pub revision: u64,
    /// The objects.
    pub entries: Vec<Arc<Entry>>,
    /// Token of the next page; empty on the last.
    pub continue_token: String,
    /// How many objects come after this page; known only without selectors.
    pub remaining: Option<usize>,
}

/// A list or the rest of one at some revision.
struct Position {
    revision: Option<u64>,
    start: Option<Vec<u8>>,
}

impl Registry {
    /// One page of a list.
    pub async fn list(&self, request: &ListRequest<'_>) -> ApiResult<ListPage> {
        let ListRequest { served, namespace, filter, options } = request;
        let prefix = served.key_prefix(Some(namespace));
        let position = self.position(options, &prefix).await?;
        // As upstream, whose cache answers version 0 without regard to the limit.
        let limit = if options.resource_version == "0" && options.continue_token.is_empty() {
            0
        } else {
            options.limit
        };
        let mut range = KeyRange::prefix(prefix.clone());
        if let Some(name) = filter.single_name()
            && (!served.hub.namespaced || !namespace.is_empty())
        {
            range = KeyRange::single(format!("{prefix}{name}"));
        }
        if let Some(start) = &position.start {
            range = range.starting_at(start.clone());
        }
        let plain = filter.is_everything();
        let wanted = RangeOptions {
            limit: if plain { limit } else { 0 },
            revision: Revision(position.revision.unwrap_or(0)),
            ..RangeOptions::default()
        };
        let since = std::time::Instant::now();
        let read = self.store.range(&range, wanted);
        let labels = [served.hub.group.as_str(), "list", served.hub.plural.as_str()];
        STORE_REQUESTS.count(&labels);
        STORE_DURATION.took(&labels, since.elapsed());
        let read = read.map_err(|error| match error {
            store::Error::Compacted { .. } => self.expired(options, &prefix, position.start.as_deref()),
            other => other.into(),
        })?;
        read.entries.iter().try_for_each(|entry| super::stored::readable(entry))?;
        let revision = position.revision.unwrap_or(read.revision.0);
        let mut page = ListPage { revision, ..ListPage::default() };
        let mut more = read.more;
        if plain {
            page.remaining = more.then(|| read.count.saturating_sub(read.entries.len()));
            page.entries = read.entries;
        } else {
            let mut passing = read.entries.into_iter().filter(|e| filter.matches(&served.hub, e));
            if limit == 0 {
                page.entries = passing.collect();
            } else {
                page.entries = passing.by_ref().take(limit).collect();
                more = passing.next().is_some();
            }
        }
        if let (true, Some(last)) = (more, page.entries.last()) {
            page.continue_token = continue_token::encode(&prefix, last.key.as_bytes(), Some(revision));
        }
        Ok(page)
    }

    /// The revision to read at (`None`: the newest) and the key to begin with.
    async fn position(&self, options: &ListOptions, prefix: &str) -> ApiResult<Position> {
        if !options.continue_token.is_empty() {
            if !matches!(options.resource_version.as_str(), "" | "0") {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = continue_token::decode(&options.continue_token, prefix)?;
            return Ok(Position { revision: token.revision, start: Some(token.start) });
        }
        let revision = options.revision()?;
        let exact = match options.version_match {
            Some(VersionMatch::Exact) => true,
            Some(VersionMatch::NotOlderThan) => false,
            // As upstream: a limit with a revision means exactly that revision.
            None => options.limit > 0,
        };
        match revision {
            0 if options.resource_version.is_empty() => {
                self.store.read_barrier().await?;
            }
            0 => {}
            revision => self.wait_for(revision).await?,
        }
        Ok(Position { revision: (exact && revision > 0).then_some(revision), start: None })
    }

    /// 410, with a token that goes on at the newest revision if this was a continued list.
    fn expired(&self, options: &ListOptions, prefix: &str, start: Option<&[u8]>) -> ApiError {
        let Some(start) = start.filter(|_| !options.continue_token.is_empty()) else {
            return ApiError::expired("The resourceVersion for the provided list is too old.");
        };
        let last = start.strip_suffix(b"\0").unwrap_or(start);
        ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new \
             list without the continue parameter, or use the continue token in this response to retrieve the \
             remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
             that were created, modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        )
        .with_continue(continue_token::encode(prefix, last, None))
    }
}
