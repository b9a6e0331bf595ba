//! GET of a collection with `watch`: a stream of events.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use schema::{Schema, Value, value};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::frames::{Frames, Shape};
use super::{Call, render};
use crate::core::Core;
use crate::encoding;
use crate::http::negotiate::{Accept, Form, Media};
use crate::http::{Body, BoxError};
use crate::metrics::families::{WATCH_EVENT_SIZES, WATCH_EVENTS, WATCH_LIST_DURATION};
use crate::metrics::family::Distribution;
use crate::registry::options::ListOptions;
use crate::registry::stored::{header, memo};
use crate::registry::watch::{ObjectWatch, WatchItem};
use crate::registry::{Filter, ObjectEvent, Served};
use crate::status::{ApiError, ApiResult};

/// Events are sent together up to about this many bytes.
const PIECE: usize = 64 * 1024;
/// What an event has besides header and object, about.
const EVENT_EXTRA: usize = 128;

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
) -> ApiResult<Response<Body>> {
    let options = ListOptions::parse(call.query, true)?;
    let mut fields = options.fields.clone();
    if call.info.watch_path && !call.info.name.is_empty() {
        let name = format!("metadata.name={}", call.info.name);
        fields = Some(fields.map_or(name.clone(), |f| format!("{f},{name}")));
    }
    let filter = Filter::parse(served, options.labels.as_deref(), fields.as_deref())?;
    let started = call.core.registry.watch(served, call.namespace(served), filter, &options).await;
    let watch = match started {
        Ok(watch) => Ok(watch),
        // A watch that is too old is a stream whose one event says so.
        Err(error) if error.code == 410 => Err(error),
        Err(error) => return Err(error),
    };
    let least_s = call.core.options.min_request_timeout_s.max(1);
    let lasts_s = options.timeout_s.unwrap_or_else(|| least_s + random_below(least_s));
    let state = State {
        core: call.core.clone(),
        encoder: Encoder::new(call, served, accept),
        stopped: Box::pin(call.core.scope.token().clone().cancelled_owned()),
        deadline: Box::pin(sleep_until(Instant::now() + Duration::from_secs(lasts_s))),
        watch: watch.map_err(Some),
    };
    let frames =
        stream::unfold(state, |mut state| async move { state.piece().await.map(|piece| (piece, state)) });
    let body = StreamBody::new(frames.map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
    let mut response = Response::new(body.boxed_unsync());
    let media = match accept.media {
        Media::Json => "application/json",
        Media::Yaml => "application/yaml",
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}

fn random_below(bound: u64) -> u64 {
    let mut bytes = [0_u8; 8];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u64::from_le_bytes(bytes) % bound.max(1)
}

struct State {
    core: Arc<Core>,
    encoder: Encoder,
    /// The server ends.
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The watch has lasted as long as it may.
    deadline: Pin<Box<Sleep>>,
    /// `Err(Some)`: that error is still to be said; `Err(None)`: the end.
    watch: Result<ObjectWatch, Option<ApiError>>,
}

impl State {
    /// The next bytes to send; `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        let Self { core, encoder, stopped, deadline, watch: state } = self;
        let watch = match state {
            Ok(watch) => watch,
            Err(error) => {
                encoder.error(&mut out, &error.take()?);
                return Some(out.into());
            }
        };
        // What was there before the watch is said at a time of its own to each client.
        let frames = (!watch.is_initial()).then_some(&core.frames);
        let first = tokio::select! {
            biased;
            () = stopped => return None,
            item = watch.next() => item,
            () = deadline => {
                let last = watch.final_bookmark();
                *state = Err(None);
                encoder.item(&mut out, &last?, None).await;
                return Some(out.into());
            }
        };
        let mut next = match first {
            Ok(item) => {
                let next = watch.try_next();
                if let (WatchItem::Event(event), Ok(None), Some(frames)) = (&item, &next, frames) {
                    return Some(encoder.alone(event, frames).await);
                }
                encoder.item(&mut out, &item, frames).await;
                next
            }
            Err(error) => Err(error),
        };
        loop {
            match next {
                Ok(Some(item)) => encoder.item(&mut out, &item, frames).await,
                Ok(None) => return Some(out.into()),
                Err(error) => {
                    encoder.error(&mut out, &error);
                    *state = Err(None);
                    return Some(out.into());
                }
            }
            next = if out.len() < PIECE { watch.try_next() } else { Ok(None) };
        }
    }
}

/// Writes events in the form that the client asked for.
struct Encoder {
    served: Arc<Served>,
    accept: Accept,
    plain: bool,
    header: Vec<u8>,
    include: openapi::table::IncludeObject,
    /// The Table's columns have been said.
    columns_said: bool,
    /// Events sent, and how large they were, of all watches of this resource.
    sent: Arc<AtomicU64>,
    sizes: Arc<Distribution>,
    /// `cluster`, `namespace` or `resource`, and when the watch began, for its metrics.
    scope: &'static str,
    since: Instant,
}

impl Encoder {
    fn new(call: &Call<'_>, served: &Arc<Served>, accept: Accept) -> Self {
        let resource = &served.resource;
        let labels = [resource.group.as_str(), resource.plural.as_str(), resource.version.as_str()];
        Self {
            served: served.clone(),
            accept,
            plain: render::is_plain(served, accept),
            header: header(&served.resource.kind, &served.resource.api_version()),
            include: render::include(call.query).unwrap_or(openapi::table::IncludeObject::Metadata),
            columns_said: false,
            sent: WATCH_EVENTS.of(&labels),
            sizes: WATCH_EVENT_SIZES.of(&labels),
            scope: crate::metrics::scope(call.info),
            since: Instant::now(),
        }
    }

    fn initial_events_sent(&self) {
        let resource = &self.served.resource;
        let labels = [&*resource.group, &*resource.plural, self.scope, &*resource.version];
        WATCH_LIST_DURATION.took(&labels, self.since.elapsed());
    }

    /// Counts an event of so many bytes.
    fn count(&self, bytes: usize) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.sizes.observe(bytes as f64);
    }

    /// Writes one item. An event comes from `frames` if it is one for all and has to be made.
    async fn item(&mut self, out: &mut Vec<u8>, item: &WatchItem, frames: Option<&Frames>) {
        let before = out.len();
        let done = match item {
            WatchItem::Event(event) if self.plain => {
                self.plain_event(out, event);
                Ok(())
            }
            WatchItem::Event(event) => {
                let shape = self.shape(event);
                match frames {
                    Some(frames) => {
                        self.shared(event, shape, frames).await.map(|made| out.extend_from_slice(&made))
                    }
                    None => self.event(out, event, shape.columns).await,
                }
            }
            WatchItem::Bookmark { revision, initial_end } => {
                if *initial_end {
                    self.initial_events_sent();
                }
                let bookmark = self.bookmark(*revision, *initial_end);
                let columns = self.next_columns();
                self.value(out, "BOOKMARK", bookmark, columns)
            }
        };
        if let Err(error) = done {
            self.error(out, &error);
        }
        self.count(out.len() - before);
    }

    /// An event with nothing before or after it: the bytes that all others are sent, too.
    async fn alone(&mut self, event: &ObjectEvent, frames: &Frames) -> Bytes {
        let shape = self.shape(event);
        match self.shared(event, shape, frames).await {
            Ok(made) => {
                self.count(made.len());
                made
            }
            Err(error) => {
                let mut out = Vec::new();
                self.error(&mut out, &error);
                out.into()
            }
        }
    }

    async fn shared(&self, event: &ObjectEvent, shape: Shape, frames: &Frames) -> ApiResult<Bytes> {
        let (entry, ..) = event.parts();
        let make = || async {
            let mut out = Vec::new();
            if self.plain {
                self.plain_event(&mut out, event);
            } else {
                self.event(&mut out, event, shape.columns).await?;
            }
            Ok(out)
        };
        frames.get(&self.served, entry, shape, make).await
    }

    fn shape(&mut self, event: &ObjectEvent) -> Shape {
        let (_, kind, revision) = event.parts();
        let table = matches!(self.accept.form, Form::Table { .. });
        let columns = self.next_columns();
        let now_s = if table { render::now_s() } else { 0 };
        Shape { accept: self.accept, kind, revision, columns, include: self.include, now_s }
    }

    /// Whether the next frame is the first Table, which has the columns.
    fn next_columns(&mut self) -> bool {
        matches!(self.accept.form, Form::Table { .. }) && !std::mem::replace(&mut self.columns_said, true)
    }

    fn plain_event(&self, out: &mut Vec<u8>, event: &ObjectEvent) {
        let (entry, kind, revision) = event.parts();
        out.reserve(entry.value.len() + self.header.len() + EVENT_EXTRA);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        memo(entry).write_json(out, entry, &self.header, revision);
        out.extend_from_slice(b"}\n");
    }

    async fn event(&self, out: &mut Vec<u8>, event: &ObjectEvent, columns: bool) -> ApiResult<()> {
        let (entry, kind, revision) = event.parts();
        let mut object = self.served.convert_from_hub(memo(entry).decode(entry)?).await?;
        crate::registry::meta::set(&mut object, "resourceVersion", revision.to_string());
        self.value(out, kind, object, columns)
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = value!({"resourceVersion": (revision.to_string())});
        if initial_end {
            metadata.insert("annotations", value!({"k8s.io/initial-events-end": "true"}));
        }
        let resource = &self.served.resource;
        let mut bookmark = value!({
            "kind": (resource.kind.clone()), "apiVersion": (resource.api_version()), "metadata": (metadata)
        });
        if !resource.custom {
            crate::registry::meta::set(&mut bookmark, "creationTimestamp", Value::Null);
        }
        bookmark
    }

    /// One event with an object of the served version.
    fn value(&self, out: &mut Vec<u8>, kind: &str, object: Value, columns: bool) -> ApiResult<()> {
        let (object, schema) = match self.accept.form {
            Form::Whole => (object, Some(self.served.resource.schema.clone())),
            Form::Metadata { beta, .. } => {
                let gvk = schema::GroupVersionKind::new(
                    "meta.k8s.io",
                    render::version(beta),
                    "PartialObjectMetadata",
                );
                (render::partial(&object, Some(beta)), schema::Catalog::builtin().kind(&gvk).cloned())
            }
            Form::Table { beta } => {
                let meta = value!({"resourceVersion": (object["metadata"]["resourceVersion"].clone())});
                let rows = [object];
                (render::table(&self.served, &rows, meta, beta, columns, self.include), None)
            }
        };
        self.frame(out, kind, &object, schema.as_ref())
    }

    fn error(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        let status: Value = serde_json::from_slice(&error.to_json()).unwrap_or_default();
        let gvk = schema::GroupVersionKind::new("", "v1", "Status");
        let schema = schema::Catalog::builtin().kind(&gvk);
        if let Err(error) = self.frame(out, "ERROR", &status, schema) {
            tracing::error!(%error, "encode the end of a watch");
        }
    }

    fn frame(&self, out: &mut Vec<u8>, kind: &str, object: &Value, schema: Option<&Schema>) -> ApiResult<()> {
        encoding::watch_frame(out, self.accept.media, kind, object, schema)
    }
}
