//! Giving running containers other resources in place (KEP-1287).

use std::collections::HashMap;

use client::EventType;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use proto::cri::v1::UpdateContainerResourcesRequest;

use super::plan::KillCause;
use super::worker::PodWorker;
use super::{kill, resources, spec};
use crate::container::linux::{self, PodLimits};
use crate::cri::labels::resources_json;
use crate::cri::{ContainerRecord, ContainerState, Observed};
use crate::events::pod_reference;

/// Why a resize is not done (yet), as the pod's condition tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResizeTrouble {
    /// The node is too small for it.
    Infeasible(String),
    /// The runtime could not do it; it is tried again.
    Failed(String),
}

/// What running containers were given since they were made, by their id: the runtime keeps what they were made with.
#[derive(Debug, Default)]
pub struct Resized {
    given: HashMap<String, String>,
    /// What stands in the way of the pod's resize.
    pub trouble: Option<ResizeTrouble>,
}

impl Resized {
    /// Shows containers with what they have, and forgets those that are gone.
    pub fn show(&mut self, observed: &mut Observed) {
        self.given.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
        for record in &mut observed.containers {
            if let Some(given) = self.given.get(&record.id) {
                record.meta.resources = Some(given.clone());
            }
        }
    }
}

/// The running containers that are to have other resources than they have.
fn due<'a>(pod: &'a Pod, observed: &'a Observed) -> Vec<(Container, &'a ContainerRecord)> {
    let all = spec::init_containers(pod).chain(spec::app_containers(pod));
    let due = all.filter_map(|wanted| {
        let record = observed.container(&wanted.container.name)?;
        let has = record.meta.resources.as_ref().filter(|_| record.state == ContainerState::Running)?;
        (Some(has) != resources_json(&wanted.container).as_ref())
            .then(|| (wanted.container.into_owned(), record))
    });
    due.collect()
}

/// True if a resource has changed whose change the container is to be restarted for.
fn wants_restart(container: &Container, had: &ResourceRequirements) -> bool {
    let now = container.resources.clone().unwrap_or_default();
    container.resize_policy.iter().flatten().any(|policy| {
        let name = &policy.resource_name;
        let of = |list: &ResourceRequirements| {
            let get = |map: &Option<std::collections::BTreeMap<String, _>>| {
                map.as_ref().and_then(|map| map.get(name)).cloned()
            };
            (get(&list.requests), get(&list.limits))
        };
        policy.restart_policy == "RestartContainer" && of(had) != of(&now)
    })
}

/// The pod with the resources that its running containers have.
fn as_it_is(pod: &Pod, observed: &Observed) -> Pod {
    let mut pod = pod.clone();
    let Some(spec) = &mut pod.spec else { return pod };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let has = observed.container(&container.name).and_then(|record| record.meta.resources.as_deref());
        if let Some(has) = has.and_then(|json| serde_json::from_str(json).ok()) {
            container.resources = Some(has);
        }
    }
    pod
}

/// The wider of two limits, of which 0 is none at all.
fn wider(a: PodLimits, b: PodLimits) -> PodLimits {
    let of = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
    PodLimits {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota_us: of(a.cpu_quota_us, b.cpu_quota_us),
        memory_bytes: of(a.memory_bytes, b.memory_bytes),
        pids: of(a.pids, b.pids),
    }
}

impl PodWorker {
    /// Gives running containers what the pod now asks for. True if there was something to do.
    pub(super) async fn resize(&mut self, pod: &Pod) -> bool {
        let observed = self.observed.clone();
        let due = due(pod, &observed);
        if due.is_empty() {
            self.resized.trouble = None;
            return false;
        }
        let result = match self.too_large(pod) {
            Some(message) => Err(ResizeTrouble::Infeasible(message)),
            None => self.resize_all(pod, &observed, due).await.map_err(ResizeTrouble::Failed),
        };
        let trouble = result.err();
        if trouble != self.resized.trouble {
            if let Some(ResizeTrouble::Infeasible(text) | ResizeTrouble::Failed(text)) = &trouble {
                let reason = match &trouble {
                    Some(ResizeTrouble::Infeasible(_)) => "ResizeInfeasible",
                    _ => "ResizeError",
                };
                self.shared.events.event_at(pod_reference(pod), EventType::Warning, reason, text.clone());
            }
            self.resized.trouble = trouble;
        }
        self.resized.show(&mut self.observed);
        true
    }

    /// What the whole node has too little of.
    fn too_large(&self, pod: &Pod) -> Option<String> {
        let allocatable = &self.shared.machine.allocatable;
        resources::pod_requests(pod).into_iter().find_map(|(name, wanted)| {
            let number = |q: base::Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
            let capacity = allocatable.get(&name).copied().map_or(0, number);
            (number(wanted) > capacity).then(|| {
                format!(
                    "Node didn't have enough capacity: {name}, requested: {}, capacity: {capacity}",
                    number(wanted)
                )
            })
        })
    }

    async fn resize_all(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        due: Vec<(Container, &ContainerRecord)>,
    ) -> Result<(), String> {
        let pids = self.shared.config.pod_pids_limit;
        let (had, wanted) = (linux::pod_limits(&as_it_is(pod, observed), pids), linux::pod_limits(pod, pids));
        self.limit_pod(pod, wider(had, wanted))?;
        for (container, record) in due {
            let old = record.meta.resources.as_deref().and_then(|json| serde_json::from_str(json).ok());
            if wants_restart(&container, &old.unwrap_or_default()) {
                let (message, grace) = kill::kill_reason(pod, record, KillCause::Resized);
                let grace = grace.unwrap_or_else(|| spec::grace_period_s(pod));
                let killed = kill::kill_container(&self.shared, pod, record, grace, message).await;
                killed.map_err(|e| format!("restart container {}: {e}", container.name))?;
                continue;
            }
            let request = UpdateContainerResourcesRequest {
                container_id: record.id.clone(),
                linux: Some(linux::container_resources(pod, &container, self.shared.limits)),
                ..UpdateContainerResourcesRequest::default()
            };
            let updated = self.shared.cri.update_container_resources(request).await;
            updated.map_err(|e| format!("resize container {}: {e}", container.name))?;
            if let Some(json) = resources_json(&container) {
                self.resized.given.insert(record.id.clone(), json);
            }
        }
        self.limit_pod(pod, wanted)?;
        self.shared.groups_changed.notify_one();
        Ok(())
    }

    fn limit_pod(&self, pod: &Pod, limits: PodLimits) -> Result<(), String> {
        let made = self.shared.cgroups.make_pod(resources::qos_class(pod), &self.uid, limits);
        made.map_err(|e| format!("cgroup: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_only_for_what_asks_for_it() {
        let container = |policy: &str| -> Container {
            serde_json::from_value(serde_json::json!({
                "name": "c", "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": policy},
                    {"resourceName": "cpu", "restartPolicy": "NotRequired"}],
            }))
            .unwrap()
        };
        let had = |cpu: &str, memory: &str| -> ResourceRequirements {
            serde_json::from_value(serde_json::json!({"limits": {"cpu": cpu, "memory": memory}})).unwrap()
        };
        assert!(wants_restart(&container("RestartContainer"), &had("1", "1Gi")));
        assert!(!wants_restart(&container("RestartContainer"), &had("2", "2Gi")));
        assert!(!wants_restart(&container("NotRequired"), &had("1", "1Gi")));
    }

    #[test]
    fn meanwhile_the_wider_limit_holds() {
        let limits =
            |memory_bytes, cpu_shares| PodLimits { memory_bytes, cpu_shares, ..PodLimits::default() };
        assert_eq!(wider(limits(1, 5), limits(2, 3)), limits(2, 5));
        assert_eq!(wider(limits(0, 1), limits(2, 1)), limits(0, 1), "no limit is the widest");
    }
}
