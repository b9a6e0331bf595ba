//! Keeps memory up to date: a read of everything at one revision, then a watch from the next one on; again at
//! another member when the stream breaks, and from the beginning when the history between is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proto::etcd::kv;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use store::{Entry, Fed, Key, Revision};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{Inner, MAX_ANSWER, REQUEST};
use crate::convert;
use crate::status;

/// Entries of one page of the first read.
const PAGE: i64 = 10_000;
/// How long to wait before the next member is tried: this, doubled with every member that fails, up to the most.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(3);

/// Why following ended.
enum Broken {
    /// The history between memory and etcd is gone.
    Compacted,
    /// The member does not answer any more, or not well.
    Status(Status),
    /// Somebody waits for what this member does not tell.
    Lagging,
    /// etcd is behind memory: it was restored to an older state, or is another one.
    WentBack(Revision),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Follows until the task is ended.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut member = 0;
    let mut delay = FIRST_DELAY;
    let mut next = None;
    loop {
        let channel = inner.members[member].channel.clone();
        let from = match next {
            Some(next) => Ok(next),
            None => read_all(&inner, channel.clone()).await,
        };
        let broken = match from {
            Ok(from) => {
                *next.insert(from) = from;
                let broken = follow(&inner, channel, &mut next, &mut delay).await;
                broken.err().unwrap_or_else(|| Broken::Status(Status::unavailable("the watch ended")))
            }
            Err(broken) => broken,
        };
        let reason = match broken {
            Broken::Compacted => {
                tracing::warn!("etcd compacted what had not been seen yet; read everything anew");
                next = None;
                continue;
            }
            Broken::Status(status) => status.message().to_owned(),
            Broken::Lagging => "it tells less than others".to_owned(),
            Broken::WentBack(revision) => format!("it is at revision {revision}, behind what was seen"),
        };
        tracing::warn!(member = inner.members[member].url, reason, "lost an etcd server; try the next one");
        *inner.trouble.write() = Some(format!("{}: {reason}", inner.members[member].url));
        member = (member + 1) % inner.members.len();
        inner.current.store(member, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(MAX_DELAY);
    }
}

/// Reads everything at one revision into memory; gives the revision to watch from.
async fn read_all(inner: &Inner, channel: Channel) -> Result<Revision, Broken> {
    let mut client = KvClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let (mut entries, mut at, mut from) = (Vec::new(), Revision::ZERO, inner.key(b""));
    if from.is_empty() {
        from.push(0);
    }
    let end = range_end(&inner.prefix);
    loop {
        let request = RangeRequest {
            key: Bytes::from(from.clone()),
            range_end: end.clone(),
            limit: PAGE,
            revision: at.as_i64(),
            ..RangeRequest::default()
        };
        let late = |_| Status::deadline_exceeded("etcd did not answer in time");
        let page = tokio::time::timeout(REQUEST, client.range(request)).await.map_err(late)?;
        let page = page.map_err(compacted)?.into_inner();
        if at.is_zero() {
            at = convert::revision(page.header.unwrap_or_default().revision);
        }
        if let Some(last) = page.kvs.last() {
            from = last.key.to_vec();
            from.push(0);
        }
        entries.extend(page.kvs.into_iter().filter_map(|kv| inner.entry(kv)));
        if !page.more {
            break;
        }
    }
    let seen = inner.mirror.current_revision();
    if at < seen {
        return Err(Broken::WentBack(at));
    }
    inner.show(&entries.iter().collect::<Vec<_>>()).await;
    inner.mirror.reset(entries.into_iter(), at);
    inner.ready.send_replace(true);
    Ok(at.next())
}

fn compacted(status: Status) -> Broken {
    if status.message() == status::COMPACTED.1 { Broken::Compacted } else { Broken::Status(status) }
}

/// The first key after all that begin with `prefix`, in the API's form.
fn range_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

impl Inner {
    async fn show(&self, entries: &[&Entry]) {
        if let Some(reader) = self.reader.get().filter(|_| !entries.is_empty()) {
            reader.read(entries).await;
        }
    }

    /// An entry as the store's users see it; none if it is another user's of etcd.
    fn entry(&self, mut kv: kv::KeyValue) -> Option<Entry> {
        if !kv.key.starts_with(&self.prefix) {
            return None;
        }
        kv.key = kv.key.slice(self.prefix.len()..);
        Some(convert::entry(kv))
    }

    fn fed(&self, event: kv::Event) -> Option<Fed> {
        let is_delete = event.r#type() == kv::event::EventType::Delete;
        let kv = event.kv?;
        if is_delete {
            return Some(Fed::Delete(Key::from(kv.key.strip_prefix(&self.prefix[..])?)));
        }
        self.entry(kv).map(Fed::Put)
    }
}

/// Watches from `next` on, which goes up with what arrives.
async fn follow(
    inner: &Inner,
    channel: Channel,
    next: &mut Option<Revision>,
    delay: &mut Duration,
) -> Result<(), Broken> {
    let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: next.unwrap_or_default().as_i64(),
        ..WatchCreateRequest::default()
    };
    // The sender stays, so that the stream stays open.
    let (requests, receiver) = mpsc::channel(1);
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.send(create).await.map_err(|_| Status::internal("the stream ended"))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    // A member without a leader shall end the stream rather than be silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let late = |_| Status::deadline_exceeded("etcd did not open a watch in time");
    let opened = tokio::time::timeout(REQUEST, client.watch(request)).await.map_err(late)??;
    let mut answers = opened.into_inner();
    loop {
        let answer = tokio::select! {
            answer = answers.message() => answer?,
            () = inner.lagging.notified() => return Err(Broken::Lagging),
        };
        let Some(answer) = answer else { return Ok(()) };
        take(inner, answer, next).await?;
        *inner.trouble.write() = None;
        *delay = FIRST_DELAY;
    }
}

async fn take(inner: &Inner, answer: WatchResponse, next: &mut Option<Revision>) -> Result<(), Broken> {
    if answer.compact_revision != 0 {
        return Err(Broken::Compacted);
    }
    if answer.canceled {
        return Err(Broken::Status(Status::unavailable(answer.cancel_reason)));
    }
    let header = convert::revision(answer.header.unwrap_or_default().revision);
    if answer.created && header.next() < next.unwrap_or_default() {
        // A member that is behind the others catches up; one that stays behind is another cluster's.
        return Err(Broken::WentBack(header));
    }
    let mut by_revision: BTreeMap<Revision, Vec<Fed>> = BTreeMap::new();
    for event in answer.events {
        let revision = event.kv.as_ref().map_or(Revision::ZERO, |kv| convert::revision(kv.mod_revision));
        by_revision.entry(revision).or_default().extend(inner.fed(event));
    }
    for (revision, changes) in by_revision {
        let mut written = Vec::with_capacity(changes.len());
        for change in &changes {
            if let Fed::Put(entry) = change {
                written.push(entry);
            }
        }
        inner.show(&written).await;
        inner.mirror.feed(revision, changes);
        *next = Some(revision.next());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(range_end(b"/a/")[..], b"/a0"[..]);
        assert_eq!(range_end(b"a\xff")[..], b"b"[..]);
        assert_eq!(range_end(b"")[..], b"\0"[..]);
    }
}
