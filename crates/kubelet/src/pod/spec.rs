//! Questions about a pod's specification that many parts ask.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use super::PodUid;

/// Says where a static pod comes from: `file` or `http`; API pods have `api`.
pub const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// The hash of a static pod, on the pod and its mirror.
pub const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
/// Marks a mirror pod; its value is the static pod's hash.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// When the kubelet first saw the pod.
pub const SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";
/// What a pod gets when it names no grace period.
pub const DEFAULT_GRACE_S: i64 = 30;
/// Priority from which on a pod is critical (`system-cluster-critical`).
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// The role of a container in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerKind {
    /// Runs to completion before the next one.
    Init,
    /// An init container with `restartPolicy: Always` (KEP-753).
    Sidecar,
    /// One of `spec.containers`.
    App,
    /// Added to a running pod.
    Ephemeral,
}

/// A container of a pod, whatever list it is in.
#[derive(Debug, Clone)]
pub struct ContainerSpec<'a> {
    /// Its role.
    pub kind: ContainerKind,
    /// Its definition; that of an ephemeral container is converted.
    pub container: Cow<'a, Container>,
    /// The container whose process namespace an ephemeral container joins.
    pub target: Option<&'a str>,
}

impl ContainerSpec<'_> {
    /// `spec.containers{name}`, the field path in events.
    pub fn field_path(&self) -> String {
        let list = match self.kind {
            ContainerKind::Init | ContainerKind::Sidecar => "initContainers",
            ContainerKind::App => "containers",
            ContainerKind::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.container.name)
    }
}

/// What happens to a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is started again.
    Always,
    /// It is started again unless it ended with 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// The pod's UID, empty if it has none.
pub fn uid(pod: &Pod) -> PodUid {
    PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default())
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `name_namespace(uid)`, the way upstream names pods in messages.
pub fn described(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The specification; an empty one for a pod without.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The value of an annotation.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// True for a pod that the kubelet got from elsewhere than the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE_ANNOTATION).is_some_and(|source| source != "api")
}

/// True for the API's image of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR_ANNOTATION).is_some()
}

/// True for pods that are the last to be evicted.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || is_mirror(pod) || spec(pod).priority.is_some_and(|p| p >= CRITICAL_PRIORITY)
}

/// The pod's restart policy.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    parse_policy(spec(pod).restart_policy.as_deref()).unwrap_or(RestartPolicy::Always)
}

fn parse_policy(text: Option<&str>) -> Option<RestartPolicy> {
    match text {
        Some("Always") => Some(RestartPolicy::Always),
        Some("OnFailure") => Some(RestartPolicy::OnFailure),
        Some("Never") => Some(RestartPolicy::Never),
        _ => None,
    }
}

/// True if `container`, ended with `exit_code`, is to be started again: its own rules and policy (KEP-5307) before the
/// pod's.
pub fn restarts_after(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_ref().is_some_and(|values| values.contains(&exit_code));
        if listed == (codes.operator == "In") && rule.action == "Restart" {
            return true;
        }
    }
    match parse_policy(container.restart_policy.as_deref()).unwrap_or_else(|| restart_policy(pod)) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// True if `container` may be started again at all after a failure.
pub fn restarts_on_failure(pod: &Pod, container: &Container) -> bool {
    parse_policy(container.restart_policy.as_deref()).unwrap_or_else(|| restart_policy(pod))
        != RestartPolicy::Never
}

/// True for an init container that keeps running beside the app containers.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers in order.
pub fn init_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    spec(pod).init_containers.iter().flatten().map(|container| ContainerSpec {
        kind: if is_sidecar(container) { ContainerKind::Sidecar } else { ContainerKind::Init },
        container: Cow::Borrowed(container),
        target: None,
    })
}

/// App containers in order.
pub fn app_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    spec(pod).containers.iter().map(|container| ContainerSpec {
        kind: ContainerKind::App,
        container: Cow::Borrowed(container),
        target: None,
    })
}

/// Ephemeral containers in order.
pub fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    spec(pod).ephemeral_containers.iter().flatten().map(|ephemeral| ContainerSpec {
        kind: ContainerKind::Ephemeral,
        container: Cow::Owned(as_container(ephemeral)),
        target: ephemeral.target_container_name.as_deref().filter(|name| !name.is_empty()),
    })
}

/// Every container: init, app, ephemeral.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    init_containers(pod).chain(app_containers(pod)).chain(ephemeral_containers(pod))
}

/// The container called `name`.
pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<ContainerSpec<'a>> {
    all_containers(pod).find(|c| c.container.name == name)
}

fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        name: e.name,
        image: e.image,
        command: e.command,
        args: e.args,
        working_dir: e.working_dir,
        env: e.env,
        env_from: e.env_from,
        volume_mounts: e.volume_mounts,
        image_pull_policy: e.image_pull_policy,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        ..Container::default()
    }
}

/// Seconds that the pod has to end: what its deletion asks, else its own.
pub fn grace_period_s(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE_S)
        .max(0)
}

/// True if the pod uses the node's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes};

    #[test]
    fn rules_come_before_the_policies() {
        let pod = |policy: &str| Pod {
            spec: Some(PodSpec { restart_policy: Some(policy.to_owned()), ..PodSpec::default() }),
            ..Pod::default()
        };
        let plain = Container::default();
        let rule = ContainerRestartRule {
            action: "Restart".to_owned(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes {
                operator: "In".to_owned(),
                values: Some(vec![42]),
            }),
        };
        let ruled = Container { restart_policy_rules: Some(vec![rule]), ..Container::default() };
        let own = Container { restart_policy: Some("OnFailure".to_owned()), ..Container::default() };
        for (policy, container, code, expected) in [
            ("Always", &plain, 0, true),
            ("OnFailure", &plain, 0, false),
            ("OnFailure", &plain, 1, true),
            ("Never", &plain, 1, false),
            ("Never", &ruled, 42, true),
            ("Never", &ruled, 1, false),
            ("Never", &own, 1, true),
            ("Always", &own, 0, false),
        ] {
            assert_eq!(restarts_after(&pod(policy), container, code), expected, "{policy} {code}");
        }
    }
}
