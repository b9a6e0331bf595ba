//! GET of a collection with `watch`: a stream of events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use schema::{Schema, Value, value};
use tokio::time::Instant;

use super::{Call, render};
use crate::core::Core;
use crate::encoding;
use crate::http::negotiate::{Accept, Form, Media};
use crate::http::{Body, BoxError};
use crate::registry::options::ListOptions;
use crate::registry::stored::{header, memo};
use crate::registry::watch::{ObjectWatch, WatchItem};
use crate::registry::{Filter, ObjectEvent, Served};
use crate::status::{ApiError, ApiResult};

/// Events are sent together up to about this many bytes.
const PIECE: usize = 64 * 1024;

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
        deadline: Instant::now() + Duration::from_secs(lasts_s),
        watch: watch.map_err(Some),
    };
    let frames =
        stream::unfold(state, |mut state| async move { state.piece().await.map(|piece| (piece, state)) });
    let body = StreamBody::new(frames.map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece)))));
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
    deadline: Instant,
    /// `Err(Some)`: that error is still to be said; `Err(None)`: the end.
    watch: Result<ObjectWatch, Option<ApiError>>,
}

impl State {
    /// The next bytes to send; `None` at the end.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let watch = match &mut self.watch {
            Ok(watch) => watch,
            Err(error) => {
                self.encoder.error(&mut out, &error.take()?);
                return Some(out);
            }
        };
        let first = tokio::select! {
            biased;
            () = self.core.scope.token().cancelled() => return None,
            item = watch.next() => item,
            () = tokio::time::sleep_until(self.deadline) => {
                let last = watch.final_bookmark();
                self.watch = Err(None);
                self.encoder.item(&mut out, &last?).await;
                return Some(out);
            }
        };
        let mut next = first.map(Some);
        loop {
            match next {
                Ok(Some(item)) => self.encoder.item(&mut out, &item).await,
                Ok(None) => return Some(out),
                Err(error) => {
                    self.encoder.error(&mut out, &error);
                    self.watch = Err(None);
                    return Some(out);
                }
            }
            if out.len() >= PIECE {
                return Some(out);
            }
            next = match &mut self.watch {
                Ok(watch) => watch.try_next(),
                Err(_) => Ok(None),
            };
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
}

impl Encoder {
    fn new(call: &Call<'_>, served: &Arc<Served>, accept: Accept) -> Self {
        Self {
            served: served.clone(),
            accept,
            plain: render::is_plain(served, accept),
            header: header(&served.resource.kind, &served.resource.api_version()),
            include: render::include(call.query).unwrap_or(openapi::table::IncludeObject::Metadata),
            columns_said: false,
        }
    }

    async fn item(&mut self, out: &mut Vec<u8>, item: &WatchItem) {
        let done = match item {
            WatchItem::Event(event) => self.event(out, event).await,
            WatchItem::Bookmark { revision, initial_end } => {
                let bookmark = self.bookmark(*revision, *initial_end);
                self.value(out, "BOOKMARK", bookmark)
            }
        };
        if let Err(error) = done {
            self.error(out, &error);
        }
    }

    async fn event(&mut self, out: &mut Vec<u8>, event: &ObjectEvent) -> ApiResult<()> {
        let (entry, kind, revision) = event.parts();
        let memo = memo(entry);
        if self.plain {
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            memo.write_json(out, entry, &self.header, revision);
            out.extend_from_slice(b"}\n");
            return Ok(());
        }
        let mut object = self.served.convert_from_hub(memo.decode(entry)?).await?;
        crate::registry::meta::set(&mut object, "resourceVersion", revision.to_string());
        self.value(out, kind, object)
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
    fn value(&mut self, out: &mut Vec<u8>, kind: &str, object: Value) -> ApiResult<()> {
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
                let columns = !std::mem::replace(&mut self.columns_said, true);
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
