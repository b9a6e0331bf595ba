//! Labels and annotations on sandboxes and containers: upstream's names, since other tools read them and a container of
//! an upstream kubelet is to be understood too.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::{PodUid, spec};

/// The pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// The resources that the container was made with, as JSON: a later change of the pod is not yet its.
const RESOURCES: &str = "corten.io/container.resources";
const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

type Map = HashMap<String, String>;

fn pod_labels(pod: &Pod) -> Map {
    Map::from([
        (POD_NAME.to_owned(), spec::name(pod).to_owned()),
        (POD_NAMESPACE.to_owned(), spec::namespace(pod).to_owned()),
        (POD_UID.to_owned(), spec::uid(pod).to_string()),
    ])
}

/// A sandbox's labels: the pod's, and who it is.
pub fn sandbox_labels(pod: &Pod) -> Map {
    let mut labels: Map = pod.metadata.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(pod_labels(pod));
    labels
}

/// A sandbox's annotations: the pod's.
pub fn sandbox_annotations(pod: &Pod) -> Map {
    pod.metadata.annotations.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A container's labels.
pub fn container_labels(pod: &Pod, container: &Container) -> Map {
    let mut labels = pod_labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

/// What a later kubelet must know of a container without its pod.
pub fn container_annotations(pod: &Pod, container: &Container, restart_count: u32) -> Map {
    let mut annotations = Map::from([
        (HASH.to_owned(), definition_hash(container)),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (MESSAGE_PATH.to_owned(), message_path(container).to_owned()),
        (MESSAGE_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(json) = resources_json(container) {
        annotations.insert(RESOURCES.to_owned(), json);
    }
    if let Some(grace) = spec::spec(pod).termination_grace_period_seconds {
        annotations.insert(GRACE_PERIOD.to_owned(), grace.to_string());
    }
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(json) = pre_stop.and_then(|hook| serde_json::to_string(hook).ok()) {
        annotations.insert(PRE_STOP.to_owned(), json);
    }
    annotations
}

/// The container's requests and limits as [`ContainerMeta::resources`] has them.
pub fn resources_json(container: &Container) -> Option<String> {
    serde_json::to_string(container.resources.as_ref()?).ok()
}

/// Where the container writes its last words, inside of it.
pub fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}

/// Changes exactly when a change of the definition needs a new container: by name and image (FNV-1a, 64 bits).
pub fn definition_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:x}")
}

/// What the annotations and labels of a container say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerMeta {
    /// See [`definition_hash`].
    pub hash: String,
    /// How often the container was started before.
    pub restart_count: u32,
    /// Where it writes its last words, inside of it.
    pub message_path: String,
    /// `File` or `FallbackToLogsOnError`.
    pub message_policy: String,
    /// The resources it was made with, as JSON; `None` if it has none, or another kubelet made it.
    pub resources: Option<String>,
    /// The pod's grace period in seconds.
    pub grace_period_s: Option<i64>,
}

/// Reads what [`container_annotations`] wrote.
pub fn container_meta(annotations: &Map, attempt: u32) -> ContainerMeta {
    let text = |key: &str| annotations.get(key).cloned().unwrap_or_default();
    ContainerMeta {
        hash: text(HASH),
        restart_count: text(RESTART_COUNT).parse().unwrap_or(attempt),
        message_path: text(MESSAGE_PATH),
        message_policy: text(MESSAGE_POLICY),
        resources: annotations.get(RESOURCES).cloned(),
        grace_period_s: text(GRACE_PERIOD).parse().ok(),
    }
}

/// The pod that labels belong to, if a kubelet wrote them.
pub fn pod_uid(labels: &Map) -> Option<PodUid> {
    labels.get(POD_UID).filter(|uid| !uid.is_empty()).map(|uid| PodUid::from(uid.as_str()))
}
