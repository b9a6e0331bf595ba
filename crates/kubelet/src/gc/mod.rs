//! Cleaning up: what belongs to no pod, containers that nobody asks about any more, large logs, unused images.

mod containers;
mod logs;
mod orphans;

use std::sync::Arc;
use std::time::Duration;

use crate::images::{ImageGc, UsedImages};
use crate::pod::{Registry, spec};
use crate::shared::Shared;

/// How often containers are collected (upstream `ContainerGCPeriod`).
const CONTAINER_PERIOD: Duration = Duration::from_secs(60);
/// How often images are collected (upstream `ImageGCPeriod`).
const IMAGE_PERIOD: Duration = Duration::from_secs(300);
/// How often log sizes are looked at (upstream `containerLogMonitorInterval`).
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Cleans up for ever.
pub async fn collect_garbage(shared: Arc<Shared>, registry: Arc<Registry>) {
    registry.sources_seen().await;
    orphans::remove(&shared, &registry).await;
    let mut containers = ticks(CONTAINER_PERIOD);
    let mut images = ticks(IMAGE_PERIOD);
    let mut logs = ticks(LOG_PERIOD);
    let mut image_gc = ImageGc::default();
    loop {
        tokio::select! {
            _ = containers.tick() => {
                orphans::remove(&shared, &registry).await;
                containers::remove_old(&shared, &registry).await;
                logs::remove_dead_links(&shared);
            }
            _ = images.tick() => collect_images(&shared, &registry, &mut image_gc).await,
            _ = logs.tick() => logs::rotate(&shared, &registry).await,
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// The images that containers of known pods were made from, and those that are volumes.
pub fn used_images(registry: &Registry) -> UsedImages {
    let views = registry.list();
    let records = views.iter().flat_map(|view| &view.observed.containers);
    let made_from = records.flat_map(|record| [record.image_ref.clone(), record.image.clone()]);
    let volumes = views.iter().flat_map(|view| spec::spec(&view.pod).volumes.iter().flatten());
    made_from.chain(volumes.filter_map(|volume| volume.image.as_ref()?.reference.clone())).collect()
}

async fn collect_images(shared: &Shared, registry: &Registry, gc: &mut ImageGc) {
    let used = used_images(registry);
    if let Err(error) = gc.collect(&shared.cri, &shared.config, &used, shared.clock.now()).await {
        tracing::warn!(error, "image garbage collection");
        let about = crate::events::node_reference(&shared.config.node_name);
        shared.events.event_at(about, client::EventType::Warning, "ImageGCFailed", error);
    }
}
