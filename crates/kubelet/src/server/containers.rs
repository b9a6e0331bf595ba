//! Finding the container that a path means.

use http::StatusCode;

use super::Server;
use crate::cri::{ContainerRecord, ContainerState};
use crate::pod::{PodView, spec};

/// Why a container is not found: the HTTP status and the text.
pub type Missing = (StatusCode, String);

/// The pod `namespace/name`.
pub fn pod(server: &Server, namespace: &str, name: &str) -> Result<PodView, Missing> {
    let found = server.registry.find(namespace, name).map(|view| view.borrow().clone());
    found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod {name:?} not found in namespace {namespace:?}")))
}

/// The running container of a pod.
pub fn running(
    server: &Server,
    namespace: &str,
    name: &str,
    container: &str,
) -> Result<ContainerRecord, Missing> {
    let view = pod(server, namespace, name)?;
    if spec::find_container(&view.pod, container).is_none() {
        return Err((StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {name:?}")));
    }
    let record = view.observed.container(container).filter(|c| c.state == ContainerState::Running);
    record
        .cloned()
        .ok_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, format!("container not found ({container:?})")))
}

/// The container whose log is asked for: the newest that has one, or the one before it.
pub fn for_log(view: &PodView, container: &str, previous: bool) -> Result<ContainerRecord, Missing> {
    let name = spec::name(&view.pod);
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    if spec::find_container(&view.pod, container).is_none() {
        return Err(bad(format!("container {container} is not valid for pod {name}")));
    }
    let started = |c: &&ContainerRecord| c.state != ContainerState::Created;
    let mut records = view.observed.all_of(container).filter(started);
    let newest = records.next();
    let waiting = waiting_reason(view, container);
    if previous {
        // While the container waits for its restart, the newest is already the previous one.
        let record = if waiting.is_some() { newest } else { records.next() };
        let text = format!("previous terminated container {container:?} in pod {name:?} not found");
        return record.cloned().ok_or_else(|| bad(text));
    }
    match (newest, waiting) {
        (Some(record), _) => Ok(record.clone()),
        (None, Some(reason)) if reason == "ImagePullBackOff" || reason == "ErrImagePull" => {
            Err(bad(format!(
                "container {container:?} in pod {name:?} is waiting to start: trying and failing to pull image"
            )))
        }
        (None, reason) => Err(bad(format!(
            "container {container:?} in pod {name:?} is waiting to start: {}",
            reason.unwrap_or_else(|| "ContainerCreating".to_owned())
        ))),
    }
}

fn waiting_reason(view: &PodView, container: &str) -> Option<String> {
    let status = &view.status;
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|s| s.name == container)?;
    found.state.as_ref()?.waiting.as_ref()?.reason.clone()
}
