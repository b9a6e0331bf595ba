//! What happens in the runtime: its event stream, or listing everything each second when it has none (upstream's evented
//! and generic PLEG).

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use proto::cri::v1;

use super::{Cri, PodRecord, labels, list_pods};
use crate::pod::PodUid;

/// How often a runtime without events is listed (upstream `genericPlegRelistPeriod`).
const RELIST_PERIOD: Duration = Duration::from_secs(1);
/// How often a runtime with events is listed, in case one was lost (upstream `eventedPlegRelistPeriod`).
const SAFETY_PERIOD: Duration = Duration::from_secs(300);
/// Pause before asking for the stream again after it broke.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Calls `changed` for each pod whose sandboxes or containers changed, for ever.
pub async fn follow(cri: Cri, changed: impl Fn(&PodUid) + Send + Sync) {
    let mut known = HashMap::new();
    loop {
        match cri.container_events().await {
            Ok(stream) => {
                // What happened before the stream began.
                relist(&cri, &mut known, &changed).await;
                read(stream, &cri, &mut known, &changed).await;
                tracing::warn!("the container event stream ended, opening it again");
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            Err(error) if error.code == tonic::Code::Unimplemented => {
                tracing::info!("the container runtime has no event stream, listing containers every second");
                return relist_for_ever(&cri, known, changed).await;
            }
            Err(error) => {
                tracing::warn!(%error, "no container events");
                relist(&cri, &mut known, &changed).await;
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}

async fn read(
    mut stream: tonic::Streaming<v1::ContainerEventResponse>,
    cri: &Cri,
    known: &mut HashMap<PodUid, PodRecord>,
    changed: &impl Fn(&PodUid),
) {
    let mut safety = tokio::time::interval(SAFETY_PERIOD);
    safety.reset();
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(event)) => {
                    if let Some(uid) = pod_of(&event) {
                        changed(&uid);
                    }
                }
                _ => return,
            },
            _ = safety.tick() => relist(cri, known, changed).await,
        }
    }
}

fn pod_of(event: &v1::ContainerEventResponse) -> Option<PodUid> {
    let sandbox = event.pod_sandbox_status.as_ref()?;
    let named = sandbox.metadata.as_ref().map(|m| m.uid.as_str()).filter(|uid| !uid.is_empty());
    named.map(PodUid::from).or_else(|| labels::pod_uid(&sandbox.labels))
}

async fn relist_for_ever(cri: &Cri, mut known: HashMap<PodUid, PodRecord>, changed: impl Fn(&PodUid)) {
    let mut period = tokio::time::interval(RELIST_PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        relist(cri, &mut known, &changed).await;
    }
}

async fn relist(cri: &Cri, known: &mut HashMap<PodUid, PodRecord>, changed: &impl Fn(&PodUid)) {
    let now = match list_pods(cri).await {
        Ok(now) => now,
        Err(error) => return tracing::warn!(%error, "cannot list containers"),
    };
    for uid in now.keys().chain(known.keys().filter(|uid| !now.contains_key(*uid))) {
        if now.get(uid) != known.get(uid) {
            changed(uid);
        }
    }
    *known = now;
}
