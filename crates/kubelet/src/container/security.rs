//! Security contexts of pods and containers in CRI's terms.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use proto::cri::v1::security_profile::ProfileType;
use proto::cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
};

use crate::pod::spec;

const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the node decides.
#[derive(Debug, Clone, Copy)]
pub struct NodeSecurity<'a> {
    /// Where `Localhost` seccomp profiles lie.
    pub seccomp_root: &'a Path,
    /// True gives `RuntimeDefault` to those that name no profile.
    pub seccomp_default: bool,
}

/// The user of an image: a uid, or a name that the image resolves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// The uid, if it is a number.
    pub uid: Option<i64>,
    /// The name, if it is one.
    pub name: String,
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    spec::spec(pod).security_context.clone().unwrap_or_default()
}

fn own_context(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

/// Refuses a container that must not run as root and would (upstream `verifyRunAsNonRoot`). The error is the message of
/// `CreateContainerConfigError`.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let (of_pod, own) = (pod_context(pod), own_context(container));
    if !own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let (pod_text, name) = (spec::described(pod), &container.name);
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => Err(format!(
            "container's runAsUser breaks non-root policy (pod: {pod_text:?}, container: {name})"
        )),
        Some(_) => Ok(()),
        None if image.uid == Some(0) || image.uid.is_none() && image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image will run as root (pod: {pod_text:?}, container: {name})"
        )),
        None if !image.name.is_empty() && image.uid.is_none() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root (pod: \
             {pod_text:?}, container: {name})",
            image.name
        )),
        None => Ok(()),
    }
}

/// The namespaces of the pod. `target_id` is the container whose processes an ephemeral container sees.
pub fn namespaces(pod: &Pod, target_id: Option<&str>) -> NamespaceOption {
    let spec = spec::spec(pod);
    let mode = |host: Option<bool>| if host == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace, target_id) {
        (Some(true), ..) => NamespaceMode::Node,
        (_, Some(true), _) => NamespaceMode::Pod,
        (_, _, Some(_)) => NamespaceMode::Target,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: mode(spec.host_network) as i32,
        ipc: mode(spec.host_ipc) as i32,
        pid: pid as i32,
        target_id: target_id.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

/// The sandbox's security context.
pub fn of_sandbox(pod: &Pod, node: NodeSecurity<'_>) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    // The sandbox itself needs no more rights than its most privileged container.
    let privileged = spec::all_containers(pod)
        .any(|c| c.container.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    // Upstream: the sandbox has the runtime's default profile whatever its containers have.
    let kind = if privileged && !node.seccomp_default {
        ProfileType::Unconfined
    } else {
        ProfileType::RuntimeDefault
    };
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: context.run_as_user.map(|value| Int64Value { value }),
        run_as_group: context.run_as_group.map(|value| Int64Value { value }),
        supplemental_groups: supplemental_groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged,
        seccomp: Some(SecurityProfile { profile_type: kind as i32, localhost_ref: String::new() }),
        apparmor: apparmor(context.app_armor_profile.as_ref()),
        ..Default::default()
    }
}

/// A container's security context.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target_id: Option<&str>,
    node: NodeSecurity<'_>,
) -> Result<LinuxContainerSecurityContext, String> {
    let (of_pod, own) = (pod_context(pod), own_context(container));
    let user = own.run_as_user.or(of_pod.run_as_user).or(image.uid);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: own.privileged.unwrap_or(false),
        namespace_options: Some(namespaces(pod, target_id)),
        selinux_options: own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: user.map(|value| Int64Value { value }),
        run_as_username: if user.is_none() { image.name.clone() } else { String::new() },
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(&of_pod),
        supplemental_groups_policy: groups_policy(&of_pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READ_ONLY_PATHS),
        seccomp: Some(seccomp(profile, node)?),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref())),
        ..Default::default()
    })
}

fn supplemental_groups(context: &PodSecurityContext) -> Vec<i64> {
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, node: NodeSecurity<'_>) -> Result<SecurityProfile, String> {
    let plain =
        |kind: ProfileType| SecurityProfile { profile_type: kind as i32, localhost_ref: String::new() };
    let Some(profile) = profile else {
        return Ok(plain(if node.seccomp_default {
            ProfileType::RuntimeDefault
        } else {
            ProfileType::Unconfined
        }));
    };
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(plain(ProfileType::RuntimeDefault)),
        ("Localhost", Some(name)) if !name.is_empty() => Ok(SecurityProfile {
            profile_type: ProfileType::Localhost as i32,
            localhost_ref: node.seccomp_root.join(name).display().to_string(),
        }),
        ("Localhost", _) => {
            Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned())
        }
        _ => Ok(plain(ProfileType::Unconfined)),
    }
}

fn apparmor(profile: Option<&AppArmorProfile>) -> Option<SecurityProfile> {
    let profile = profile?;
    let kind = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    Some(SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: profile.localhost_profile.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_out() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": {"runAsNonRoot": true}, "containers": []},
        }))
        .unwrap();
        let user = |uid: Option<i64>, name: &str| ImageUser { uid, name: name.to_owned() };
        let run_as = |id: Option<i64>| Container {
            name: "c".to_owned(),
            security_context: Some(SecurityContext { run_as_user: id, ..SecurityContext::default() }),
            ..Container::default()
        };
        for (own, image, allowed) in [
            (None, user(None, ""), false),
            (None, user(Some(0), ""), false),
            (None, user(Some(1000), ""), true),
            (None, user(None, "nginx"), false),
            (Some(0), user(Some(1000), ""), false),
            (Some(5), user(Some(0), ""), true),
        ] {
            assert_eq!(verify_non_root(&pod, &run_as(own), &image).is_ok(), allowed, "{own:?} {image:?}");
        }
    }
}
