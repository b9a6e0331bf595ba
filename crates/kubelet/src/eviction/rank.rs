//! Which pod goes first: those that use more than they asked for, then by priority, then by how much more.

use std::collections::HashMap;

use proto::cri::v1::ListPodSandboxStatsRequest;

use super::Signal;
use crate::pod::{PodUid, PodView, resources, spec};
use crate::shared::Shared;

/// Memory that pods use, in bytes.
pub type Usage = HashMap<PodUid, i64>;

/// Asks the runtime.
pub async fn usage(shared: &Shared) -> Usage {
    let stats = match shared.cri.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await {
        Ok(stats) => stats.stats,
        Err(error) => {
            tracing::warn!(%error, "no usage of pods: they are ranked by priority alone");
            return Usage::new();
        }
    };
    let pods = stats.into_iter().filter_map(|pod| {
        let uid = pod.attributes?.metadata?.uid;
        let bytes = pod.linux?.memory?.working_set_bytes?.value;
        Some((PodUid::from(uid.as_str()), bytes as i64))
    });
    pods.collect()
}

/// The first to go.
pub fn victim<'v>(active: &[&'v PodView], usage: &Usage, signal: Signal) -> Option<&'v PodView> {
    active.iter().copied().min_by_key(|view| {
        let over = match signal {
            Signal::MemoryAvailable => {
                let request = resources::pod_requests(&view.pod).get("memory").map_or(0, |q| q.value());
                usage.get(&spec::uid(&view.pod)).copied().unwrap_or(0) - request
            }
            _ => 0,
        };
        let priority = spec::spec(&view.pod).priority.unwrap_or(0);
        (over <= 0, priority, -over)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::Observed;
    use std::sync::Arc;

    #[test]
    fn those_over_their_request_go_first() {
        let view = |name: &str, request: &str, priority: i32| {
            let pod = serde_json::json!({
                "metadata": {"name": name, "uid": name},
                "spec": {"priority": priority, "containers": [
                    {"name": "c", "resources": {"requests": {"memory": request}}}]},
            });
            PodView {
                pod: Arc::new(serde_json::from_value(pod).unwrap()),
                status: Default::default(),
                observed: Observed::default(),
                stopped: false,
            }
        };
        let views =
            [view("within", "100", -5), view("over", "10", 0), view("far-over", "0", 0), view("vip", "0", 9)];
        let usage = ["within", "over", "far-over", "vip"].map(|n| (PodUid::from(n), 50)).into();
        let all: Vec<&PodView> = views.iter().collect();
        let first =
            |views: &[&PodView], signal| victim(views, &usage, signal).map(|v| spec::name(&v.pod).to_owned());
        assert_eq!(first(&all, Signal::MemoryAvailable).as_deref(), Some("far-over"));
        assert_eq!(first(&all[..2], Signal::MemoryAvailable).as_deref(), Some("over"));
        assert_eq!(first(&all, Signal::PidAvailable).as_deref(), Some("within"));
        assert_eq!(first(&[], Signal::PidAvailable), None);
    }
}
