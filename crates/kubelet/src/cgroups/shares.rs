//! The CPU shares of the quality-of-service classes: what their pods request together (upstream `qosContainerManager`).

use std::sync::Arc;

use crate::container::linux::cpu_shares;
use crate::pod::resources::{QosClass, pod_requests, qos_class};
use crate::pod::{PodView, Registry};
use crate::shared::Shared;

/// Keeps them, for ever.
pub async fn keep_class_shares(shared: Arc<Shared>, registry: Arc<Registry>) {
    let mut known = 0;
    loop {
        shared.groups_changed.notified().await;
        let shares = burstable_shares(&registry.list());
        if shares == known {
            continue;
        }
        match shared.cgroups.set_class_shares(QosClass::Burstable, shares) {
            Ok(()) => known = shares,
            Err(error) => tracing::warn!(%error, shares, "CPU shares of burstable pods not set"),
        }
    }
}

fn burstable_shares(views: &[PodView]) -> i64 {
    let live = views.iter().filter(|view| !view.stopped && qos_class(&view.pod) == QosClass::Burstable);
    cpu_shares(live.filter_map(|view| pod_requests(&view.pod).get("cpu").map(|q| q.milli_value())).sum())
}
