//! The Watch service: many watches on one stream.

use std::collections::{HashSet, VecDeque};
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use futures::{Stream, StreamExt};
use prost::Message;
use proto::etcd::rpc::watch_create_request::FilterType;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{WatchCreateRequest, WatchRequest, WatchResponse};
use store::{Error, EventKind, KeyRange, RangeOptions, Revision, WatchBatch, WatchOptions, Watcher};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};

use super::Server;
use super::watch_answer::{EncodedEvents, WatchAnswer};
use crate::auth::{Access, Caller};
use crate::convert::{self, key_range};
use crate::status;

/// Watches on one stream.
const MAX_WATCHES: usize = 100_000;
/// Events that are put into one response when several revisions are there.
const MERGE_EVENTS: usize = 256;
/// The id of what is not about one watch, or about one that could not be made.
const NO_WATCH: i64 = -1;
/// Why an id is refused (etcd `ErrWatcherDuplicateID`).
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// `Watch.Watch`.
pub(crate) struct WatchCall(pub(crate) Arc<Server>);

impl StreamingService<WatchRequest> for WatchCall {
    type Response = WatchAnswer;
    type ResponseStream = Session;
    type Future = Ready<Result<Response<Session>, Status>>;

    fn call(&mut self, request: Request<Streaming<WatchRequest>>) -> Self::Future {
        ready(Session::begin(self.0.clone(), request).map(Response::new))
    }
}

/// What of the events a watch is told, and how.
#[derive(Debug, Clone, Copy)]
struct Shape {
    prev_kv: bool,
    fragment: bool,
    puts: bool,
    deletes: bool,
}

impl Shape {
    fn wants(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => self.puts,
            EventKind::Delete => self.deletes,
        }
    }
}

/// One watch of a stream. It ends when it is cancelled or with an error.
struct One {
    id: i64,
    watcher: Option<Watcher>,
    /// Events at the revision of the last compaction, which the history has no more.
    first: Option<WatchBatch>,
    shape: Shape,
    waker: Option<Waker>,
}

/// What a watch gives.
enum Step {
    Events(Shape, Vec<WatchBatch>),
    Ended(Error),
}

impl Stream for One {
    type Item = (i64, Step);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let id = self.id;
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some((id, Step::Events(self.shape, vec![first]))));
        }
        let Some(watcher) = &mut self.watcher else { return Poll::Ready(None) };
        let batch = match watcher.poll_next(cx) {
            Poll::Ready(Ok(batch)) => batch,
            Poll::Ready(Err(error)) => {
                self.watcher = None;
                return Poll::Ready(Some((id, Step::Ended(error))));
            }
            Poll::Pending => {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        let mut count = batch.events.len();
        let mut batches = vec![batch];
        // An error here comes again with the next poll.
        while count > 0
            && count < MERGE_EVENTS
            && let Ok(Some(next)) = watcher.try_next()
        {
            count += next.events.len();
            batches.push(next);
        }
        Poll::Ready(Some((id, Step::Events(self.shape, batches))))
    }
}

impl One {
    fn cancel(&mut self) {
        self.watcher = None;
        self.first = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A stream with its watches. It is polled by the connection, so a client that does not read is not worked for.
pub(crate) struct Session {
    server: Arc<Server>,
    caller: Result<Caller, Status>,
    requests: Streaming<WatchRequest>,
    watches: SelectAll<One>,
    ids: HashSet<i64>,
    next_id: i64,
    progress_asked: bool,
    /// What is to be sent before anything else is looked at.
    answers: VecDeque<WatchAnswer>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    leader_lost: BoxFuture<'static, ()>,
    ended: bool,
}

impl Stream for Session {
    type Item = Result<WatchAnswer, Status>;

    /// Serves until the client ends the stream.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            // Requests first: a stream that is busy with events hears of a cancellation all the same.
            match this.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(WatchRequest { request_union }))) => {
                    request_union.into_iter().for_each(|request| this.request(request));
                    this.progress();
                    continue;
                }
                Poll::Ready(_) => {
                    this.end_all();
                    continue;
                }
                Poll::Pending => {}
            }
            match this.watches.poll_next_unpin(cx) {
                Poll::Ready(Some((id, step))) => {
                    this.step(id, step);
                    this.progress();
                }
                Poll::Ready(None) | Poll::Pending if this.stopped.as_mut().poll(cx).is_ready() => {
                    this.end_all()
                }
                Poll::Ready(None) | Poll::Pending if this.leader_lost.as_mut().poll(cx).is_ready() => {
                    this.end_all();
                    return Poll::Ready(Some(Err(status::NO_LEADER.into())));
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Session {
    fn begin(server: Arc<Server>, request: Request<Streaming<WatchRequest>>) -> Result<Self, Status> {
        if server.cluster.is_learner() {
            return Err(status::LEARNER.into());
        }
        server.require_leader(request.metadata())?;
        server.metrics.watch_streams.add();
        Ok(Self {
            // As upstream, a stream opens for anybody; a watch on it is refused if its caller is.
            caller: server.auth.caller(request.metadata(), request.extensions()),
            stopped: Box::pin(server.scope.token().clone().cancelled_owned()),
            leader_lost: Box::pin(server.leader_lost(request.metadata())),
            server,
            requests: request.into_inner(),
            watches: SelectAll::new(),
            ids: HashSet::new(),
            next_id: 0,
            progress_asked: false,
            answers: VecDeque::new(),
            ended: false,
        })
    }

    fn end_all(&mut self) {
        self.ended = true;
        self.watches.clear();
    }

    fn send(&mut self, response: WatchResponse) {
        self.answers.push_back(response.into());
    }

    fn request(&mut self, request: RequestUnion) {
        match request {
            RequestUnion::CreateRequest(create) => self.create(&create),
            RequestUnion::CancelRequest(cancel) => self.cancel(cancel.watch_id),
            RequestUnion::ProgressRequest(_) => self.progress_asked = true,
        }
    }

    /// Says up to which revision all watches have been served, once they all have caught up.
    fn progress(&mut self) {
        if !self.progress_asked {
            return;
        }
        let mut reached = None;
        for one in self.watches.iter() {
            let Some(watcher) = &one.watcher else { continue };
            match watcher.progress_revision().filter(|_| one.first.is_none()) {
                Some(revision) => {
                    reached = Some(reached.map_or(revision, |least: Revision| least.min(revision)))
                }
                None => return,
            }
        }
        self.progress_asked = false;
        let reached = reached.unwrap_or_else(|| self.server.store.current_revision());
        let header = Some(self.server.header(reached));
        self.send(WatchResponse { header, watch_id: NO_WATCH, ..WatchResponse::default() });
    }

    fn create(&mut self, request: &WatchCreateRequest) {
        let current = self.server.store.current_revision();
        let header = Some(self.server.header(current));
        let refused = |reason: String| WatchResponse {
            header,
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason,
            ..WatchResponse::default()
        };
        // Without a key a watch is of all keys from the first one on.
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
        let range = key_range(&key, &request.range_end);
        if let Err(denied) = self.permit(&range) {
            return self.send(refused(denied.message().to_owned()));
        }
        if self.ids.len() >= MAX_WATCHES {
            return self.send(refused(status::TOO_MANY_REQUESTS.1.to_owned()));
        }
        let Some(id) = self.take_id(request.watch_id) else {
            return self.send(refused(DUPLICATE_ID.to_owned()));
        };
        let created = WatchResponse { header, watch_id: id, created: true, ..WatchResponse::default() };
        self.send(created);
        match self.start(request, range) {
            Ok((watcher, first)) => {
                self.server.metrics.watchers.add();
                let filters: Vec<FilterType> = request.filters().collect();
                let shape = Shape {
                    prev_kv: request.prev_kv,
                    fragment: request.fragment,
                    puts: !filters.contains(&FilterType::Noput),
                    deletes: !filters.contains(&FilterType::Nodelete),
                };
                self.watches.push(One { id, watcher: Some(watcher), first, shape, waker: None });
            }
            Err(error) => self.end(id, error),
        }
    }

    fn permit(&self, range: &KeyRange) -> Result<(), Status> {
        let caller = self.caller.as_ref().map_err(Status::clone)?;
        if caller.is_free() { Ok(()) } else { self.server.auth.permit(caller, range, Access::Read) }
    }

    /// The id asked for, or the next that is free for zero. None: it is taken.
    fn take_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return self.ids.insert(asked).then_some(asked);
        }
        while !self.ids.insert(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    /// Starts a watch. etcd lets one start at the revision that was compacted last, of which it still has what is
    /// in the keyspace; the store's history begins after it.
    fn start(
        &self,
        request: &WatchCreateRequest,
        range: KeyRange,
    ) -> Result<(Watcher, Option<WatchBatch>), Error> {
        let store = &self.server.store;
        let asked = convert::revision(request.start_revision);
        let compacted = store.compact_revision();
        let at_compacted = !asked.is_zero() && asked == compacted;
        let options = WatchOptions {
            start_revision: if at_compacted { asked.next() } else { asked },
            prev_entry: request.prev_kv,
            progress: request.progress_notify.then_some(self.server.options.progress_interval),
        };
        let watcher = store.watch(range.clone(), options)?;
        if !at_compacted {
            return Ok((watcher, None));
        }
        let read = store.range(&range, RangeOptions { revision: compacted, ..RangeOptions::default() })?;
        let events: Vec<store::Event> = read
            .entries
            .into_iter()
            .filter(|entry| entry.mod_revision == compacted)
            .map(|entry| store::Event { kind: EventKind::Put, entry, prev: None })
            .collect();
        let first = WatchBatch::new(compacted, events.into());
        Ok((watcher, (!first.events.is_empty()).then_some(first)))
    }

    fn cancel(&mut self, id: i64) {
        if !self.ids.remove(&id) {
            return;
        }
        if let Some(one) = self.watches.iter_mut().find(|one| one.id == id && one.watcher.is_some()) {
            one.cancel();
        }
        let header = Some(self.server.header_now());
        self.send(WatchResponse { header, watch_id: id, canceled: true, ..WatchResponse::default() });
    }

    fn end(&mut self, id: i64, error: Error) {
        self.ids.remove(&id);
        let mut response = WatchResponse {
            header: Some(self.server.header_now()),
            watch_id: id,
            canceled: true,
            ..WatchResponse::default()
        };
        match error {
            Error::Compacted { compact_revision } => response.compact_revision = compact_revision.as_i64(),
            error => response.cancel_reason = status::of_store(&error).message().to_owned(),
        }
        self.send(response);
    }

    fn step(&mut self, id: i64, step: Step) {
        let (options, batches) = match step {
            Step::Events(options, batches) => (options, batches),
            Step::Ended(error) => return self.end(id, error),
        };
        if !self.ids.contains(&id) {
            return;
        }
        let reached = batches.last().map_or(Revision::ZERO, |batch| batch.revision);
        let is_progress = batches.iter().all(|batch| batch.events.is_empty());
        let all = batches.iter().flat_map(|batch| batch.events.iter());
        let wanted = all.filter(|event| options.wants(event.kind));
        let count = wanted.clone().count();
        if count == 0 && !is_progress {
            return;
        }
        self.server.metrics.watch_events.add_many(count as u64);
        let head = WatchResponse {
            header: Some(self.server.header(reached)),
            watch_id: id,
            ..WatchResponse::default()
        };
        let shared = || batches.iter().map(|batch| EncodedEvents::of(batch, options.prev_kv)).collect();
        let events = match options.puts && options.deletes {
            true => shared(),
            false => vec![EncodedEvents::picked(wanted.clone(), options.prev_kv)],
        };
        let whole = WatchAnswer { head, events };
        let limit = self.server.options.max_request_bytes;
        if !options.fragment || whole.encoded_len() < limit {
            return self.answers.push_back(whole);
        }
        let events = wanted.map(|event| convert::event(event, options.prev_kv)).collect();
        let pieces = fragments(WatchResponse { events, ..whole.head }, limit);
        self.answers.extend(pieces.into_iter().map(WatchAnswer::from));
    }
}

/// Pieces of a response of at most `limit` bytes each, or of one event; all but the last say that more comes.
fn fragments(response: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    if response.encoded_len() < limit || response.events.len() < 2 {
        return vec![response];
    }
    let (header, watch_id) = (response.header, response.watch_id);
    let mut pieces: Vec<WatchResponse> = Vec::new();
    let mut size = usize::MAX;
    for event in response.events {
        let more = event.encoded_len();
        if size.saturating_add(more) >= limit {
            let fragment = true;
            pieces.push(WatchResponse { header, watch_id, fragment, ..WatchResponse::default() });
            size = 0;
        }
        size += more;
        if let Some(piece) = pieces.last_mut() {
            piece.events.push(event);
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proto::etcd::kv;

    use super::*;

    #[test]
    fn a_large_response_comes_in_pieces() {
        let event = kv::Event {
            kv: Some(kv::KeyValue { value: Bytes::from(vec![0; 100]), ..Default::default() }),
            ..Default::default()
        };
        let whole = WatchResponse { watch_id: 3, events: vec![event; 10], ..Default::default() };
        assert_eq!(fragments(whole.clone(), 1 << 20), std::slice::from_ref(&whole));
        let pieces = fragments(whole.clone(), 350);
        let shape: Vec<(usize, bool)> = pieces.iter().map(|p| (p.events.len(), p.fragment)).collect();
        assert_eq!(shape, [(3, true), (3, true), (3, true), (1, false)]);
        assert_eq!(fragments(whole, 10).len(), 10);
    }
}
