//! The webhook backend: events are POSTed in lists.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use schema::{Value, value};
use tokio::sync::mpsc;

use super::{Event, Sink};
use crate::Error;
use crate::options::{AuditMode, AuditOptions};
use crate::outbound::{Endpoint, from_kubeconfig};

/// Time for one list.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of one list, with a growing pause between them (`DefaultRetryBackoffWithInitialDelay`).
const TRIES: u32 = 5;

/// Starts the task that sends events, in `scope`.
pub fn start(file: &Path, options: &AuditOptions, scope: &TaskScope) -> Result<Box<dyn Sink>, Error> {
    if options.webhook_mode != AuditMode::Batch {
        let reason = "only the mode batch is implemented for webhooks".to_owned();
        return Err(Error::Flag { flag: "audit-webhook-mode", reason });
    }
    let endpoint = from_kubeconfig(file)?;
    let (sender, events) = mpsc::channel(options.webhook_buffer.max(1));
    let sending = Sending {
        endpoint,
        batch: options.webhook_batch.max(1),
        max_wait: options.webhook_max_wait,
        backoff: options.webhook_backoff,
    };
    scope.spawn(sending.run(events));
    Ok(Box::new(Webhook(sender)))
}

struct Webhook(mpsc::Sender<Arc<Event>>);

impl Sink for Webhook {
    fn emit(&self, event: &Arc<Event>) -> bool {
        let sent = self.0.try_send(event.clone()).is_ok();
        if !sent {
            tracing::warn!(id = %event.id, "the buffer of audit events is full: one is dropped");
        }
        sent
    }
}

struct Sending {
    endpoint: Endpoint,
    batch: usize,
    max_wait: Duration,
    backoff: Duration,
}

impl Sending {
    async fn run(self, mut events: mpsc::Receiver<Arc<Event>>) {
        while let Some(first) = events.recv().await {
            let mut batch = vec![first];
            let full = async {
                while batch.len() < self.batch {
                    match events.recv().await {
                        Some(event) => batch.push(event),
                        None => break,
                    }
                }
            };
            let _ = tokio::time::timeout(self.max_wait, full).await;
            self.send(&batch).await;
        }
    }

    async fn send(&self, batch: &[Arc<Event>]) {
        let items: Vec<Value> = batch.iter().map(|event| event.to_value()).collect();
        let list = value!({
            "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": (Value::List(items))
        });
        let mut pause = self.backoff;
        for attempt in 1..=TRIES {
            match self.endpoint.post_json(&list, TIMEOUT).await {
                Ok(_) => return,
                Err(error) if attempt == TRIES => {
                    tracing::error!(%error, lost = batch.len(), "audit events are lost");
                }
                Err(error) => {
                    tracing::warn!(%error, "send audit events");
                    tokio::time::sleep(pause).await;
                    pause = pause.mul_f64(1.5);
                }
            }
        }
    }
}
