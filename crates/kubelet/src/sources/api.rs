//! Pods of the API that are bound to this node.

use std::sync::Arc;

use client::{Event, Informer};
use k8s_openapi::api::core::v1::Pod;

use crate::pod::{PodUid, Registry, spec};
use crate::status::StatusWriter;

/// Hands every pod and its changes to the registry.
pub fn follow_api(pods: &Informer<Pod>, registry: Arc<Registry>, status: StatusWriter) {
    pods.on_event(move |event| {
        let pod = event.object();
        if let Some(hash) = spec::annotation(pod, spec::MIRROR_ANNOTATION) {
            // The static pod it stands for runs by itself; its status is now to be written here.
            return status.recheck(&PodUid::from(hash));
        }
        match event {
            Event::Added(pod) => registry.apply(pod.clone()),
            Event::Updated { old, new } => {
                if old.metadata.uid != new.metadata.uid {
                    registry.remove(&spec::uid(old));
                }
                registry.apply(new.clone());
            }
            Event::Deleted(last) => registry.remove(&spec::uid(last)),
        }
    });
}
