//! Events about objects: recorded without waiting, counted instead of repeated (client-go's EventRecorder and
//! EventCorrelator).

use std::collections::HashMap;
use std::time::SystemTime;

use base::TaskScope;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use tokio::sync::mpsc;

/// Events that wait to be sent; when the API server does not keep up, further ones are dropped, as upstream does.
const QUEUE_LIMIT: usize = 1000;
/// How many distinct events are remembered for counting (client-go: 4096).
const MEMORY_LIMIT: usize = 4096;
/// Similar events, alike but for the message, of which more than this many are combined (client-go: 10).
const SIMILAR_LIMIT: u32 = 10;
/// Longest message the API server takes.
const MESSAGE_LIMIT: usize = 1024;

/// Whether an event tells of the ordinary or of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Things go their way.
    Normal,
    /// Somebody may have to act.
    Warning,
}

/// What an event is about.
pub trait Reference {
    /// Its coordinates.
    fn reference(&self) -> ObjectReference;
}

impl<K: Resource<DynamicType = ()>> Reference for K {
    fn reference(&self) -> ObjectReference {
        self.object_ref(&())
    }
}

/// Records events of one component. Clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Record>,
}

struct Record {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
}

impl EventRecorder {
    /// A recorder for `component` on `host` (empty if it runs on no node); events are sent by a task in `scope`.
    pub fn new(client: kube::Client, component: &str, host: &str, scope: &TaskScope) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        let sink = Sink {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            seen: HashMap::new(),
            similar: HashMap::new(),
        };
        scope.spawn(sink.run(receiver));
        Self { sender }
    }

    /// Records an event about `object`. Never waits and never fails: an event is a courtesy.
    pub fn event(&self, object: &impl Reference, kind: EventType, reason: &str, message: impl Into<String>) {
        self.event_at(object.reference(), kind, reason, message);
    }

    /// Records an event about the object, or part of an object, at `about`.
    pub fn event_at(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut message = message.into();
        if message.len() > MESSAGE_LIMIT {
            let cut = (0..=MESSAGE_LIMIT).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
        }
        let record = Record { about, kind, reason: reason.to_owned(), message };
        if self.sender.try_send(record).is_err() {
            tracing::debug!(reason, "event dropped, the queue is full");
        }
    }
}

/// Sends events; remembers what was sent to count repetitions.
struct Sink {
    client: kube::Client,
    component: String,
    host: String,
    seen: HashMap<String, Sent>,
    similar: HashMap<String, u32>,
}

struct Sent {
    name: String,
    count: i32,
}

impl Sink {
    async fn run(mut self, mut receiver: mpsc::Receiver<Record>) {
        while let Some(record) = receiver.recv().await {
            if let Err(error) = self.send(record).await {
                tracing::debug!(%error, "event not recorded");
            }
        }
    }

    async fn send(&mut self, mut record: Record) -> Result<(), kube::Error> {
        if self.seen.len() > MEMORY_LIMIT || self.similar.len() > MEMORY_LIMIT {
            self.seen.clear();
            self.similar.clear();
        }
        let group = group_key(&record);
        let key = format!("{group}\u{0}{}", record.message);
        let known = self.seen.contains_key(&key);
        let similar = self.similar.entry(group.clone()).or_default();
        *similar += u32::from(!known);
        let key = if *similar > SIMILAR_LIMIT {
            record.message = format!("(combined from similar events): {}", record.message);
            group
        } else {
            key
        };
        let namespace = record.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Some(sent) = self.seen.get_mut(&key) {
            sent.count += 1;
            let now = Time(now());
            let patch =
                serde_json::json!({"count": sent.count, "lastTimestamp": now, "message": record.message});
            match api.patch(&sent.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // The event has expired meanwhile: begin anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(record, namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.seen.insert(key, Sent { name, count: 1 });
        Ok(())
    }

    fn event(&self, record: Record, namespace: String) -> Event {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let name = format!("{}.{nanos:x}", record.about.name.as_deref().unwrap_or("unknown"));
        let time = Some(Time(now()));
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: record.about,
            type_: Some(format!("{:?}", record.kind)),
            reason: Some(record.reason),
            message: Some(record.message),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            first_timestamp: time.clone(),
            last_timestamp: time,
            count: Some(1),
            ..Event::default()
        }
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// What makes events similar: all but the message.
fn group_key(record: &Record) -> String {
    let about = &record.about;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        part(&about.kind),
        part(&about.namespace),
        part(&about.name),
        part(&about.uid),
        part(&about.field_path),
        format!("{:?}", record.kind),
        record.reason.clone(),
    ]
    .join("\u{0}")
}
