//! The record of one request, from which its events are made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::UserInfo;
use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use schema::Value;

use super::policy::Decision;
use super::{Auditor, Event, Level, Stage};
use crate::authz;
use crate::http::body::full;
use crate::http::{Body, BoxError};
use crate::registry::meta;

/// Largest answer that is kept in an event, in bytes; of larger ones only the head is kept.
const MAX_KEPT: usize = 16 * 1024 * 1024;

/// What of the bodies is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// The request's.
    pub request: bool,
    /// The answer's.
    pub response: bool,
}

/// One request's record.
pub struct Record {
    auditor: Arc<Auditor>,
    decision: Decision,
    event: Mutex<Event>,
}

impl Record {
    pub(super) fn new(auditor: Arc<Auditor>, event: Event, decision: Decision) -> Self {
        Self { auditor, decision, event: Mutex::new(event) }
    }

    /// What of the bodies the policy wants.
    pub fn capture(&self) -> Capture {
        let level = self.decision.level;
        Capture { request: level >= Level::Request, response: level >= Level::RequestResponse }
    }

    /// Somebody else than the one who asks is acted as.
    pub fn impersonated(&self, user: &UserInfo) {
        self.event.lock().impersonated = Some(user.clone());
    }

    /// What authorization said.
    pub fn authorized(&self, decision: &authz::Decision) {
        let word = if decision.is_allowed() { "allow" } else { "forbid" };
        self.annotate("authorization.k8s.io/decision", word);
        self.annotate("authorization.k8s.io/reason", decision.reason());
    }

    /// Adds an annotation; the first of a name stays.
    pub fn annotate(&self, key: &str, text: &str) {
        let mut event = self.event.lock();
        event.annotations.entry(key.to_owned()).or_insert_with(|| text.to_owned());
    }

    /// The request's body, decoded.
    pub fn request_object(&self, mut object: Value) {
        self.strip(&mut object);
        self.event.lock().request_object = Some(object);
    }

    fn strip(&self, object: &mut Value) {
        if !self.decision.omit_managed_fields {
            return;
        }
        meta::remove(object, "managedFields");
        if let Some(Value::List(items)) = object.get_mut("items") {
            items.iter_mut().for_each(|item| meta::remove(item, "managedFields"));
        }
    }

    /// Makes the event of a stage. False if the request must be refused because the event is lost.
    pub fn stage(&self, stage: Stage) -> bool {
        if self.decision.omit_stages.contains(&stage) {
            return true;
        }
        let mut event = {
            let mut event = self.event.lock();
            event.stage = stage;
            event.at = Timestamp::now();
            event.clone()
        };
        if stage == Stage::RequestReceived {
            event.request_object = None;
        }
        self.auditor.emit(event)
    }

    /// Notes the answer and makes its events: at once, or when the body of a long answer ends.
    pub async fn respond(self: Arc<Self>, response: Response<Body>, long_running: bool) -> Response<Body> {
        self.event.lock().code = Some(response.status().as_u16());
        if long_running {
            self.stage(Stage::ResponseStarted);
            return response.map(|inner| Watched { inner, record: Some(self) }.boxed_unsync());
        }
        let failed = response.status().as_u16() >= 400;
        let response = match self.capture().response || failed {
            true => self.keep_body(response).await,
            false => response,
        };
        self.stage(Stage::ResponseComplete);
        response
    }

    async fn keep_body(&self, response: Response<Body>) -> Response<Body> {
        let media = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let json = media.is_some_and(|m| m.starts_with("application/json"));
        let small = http_body::Body::size_hint(response.body()).upper().is_none_or(|n| n <= MAX_KEPT as u64);
        if !json || !small {
            return response;
        }
        let (parts, mut body) = response.into_parts();
        match read(&mut body).await {
            Ok(bytes) => {
                self.note_body(&bytes);
                Response::from_parts(parts, full(bytes))
            }
            Err(error) => {
                tracing::warn!(%error, "the answer cannot be audited");
                let words = "the answer is too large for the audit policy of this server";
                crate::http::respond::error(
                    &crate::status::ApiError::internal(words),
                    crate::http::negotiate::Accept::JSON,
                )
            }
        }
    }

    fn note_body(&self, bytes: &[u8]) {
        let Ok(mut object) = codec::json::parse(bytes) else { return };
        let failed = object.str_at("kind") == Some("Status") && object.str_at("apiVersion") == Some("v1");
        self.strip(&mut object);
        let response = self.capture().response;
        let mut event = self.event.lock();
        if failed {
            event.response_status = Some(object.clone());
        }
        if response {
            event.response_object = Some(object);
        }
    }
}

/// Reads a body, up to the limit.
async fn read(body: &mut Body) -> Result<Bytes, BoxError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if all.len() + data.len() > MAX_KEPT {
            return Err(format!("more than {MAX_KEPT} bytes").into());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// A body at whose end the last event is made.
struct Watched {
    inner: Body,
    record: Option<Arc<Record>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.stage(Stage::ResponseComplete);
        }
    }
}
