//! The level baseline: no known way to gain privileges.

use std::collections::BTreeSet;

use schema::Value;

use super::checks::{Subject, Violation, containers, name, plural, quoted, setters, violation};
use super::{SECCOMP_CONTAINER, SECCOMP_POD};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// What container runtimes give by default, without NET_RAW.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Safe sysctls in the order in which they became so: five at first, then one, four and two.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// Allowed types of SELinux contexts; the last one from 1.31 on.
const SE_LINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

fn is_safe_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(subject: &Subject<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut bad = |holder: &Value| {
        let kind = holder.at("securityContext.appArmorProfile").and_then(|p| p.str_at("type"));
        let bad = kind.filter(|kind| !is_safe_profile(kind));
        values.extend(bad.map(str::to_owned));
        bad.is_some()
    };
    let pod = bad(subject.spec);
    let names = subject.named(|container| bad(container));
    let mut set_by = setters(pod, &names);
    let annotations = subject.annotations.into_iter().flat_map(|map| map.iter());
    let mut forbidden: Vec<String> = annotations
        .filter(|(key, _)| key.starts_with(APP_ARMOR))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| format!("{key}={}", rules::quote(value)))
        .collect();
    forbidden.sort();
    let mut values: Vec<String> = values.into_iter().collect();
    if !forbidden.is_empty() {
        set_by.push(plural("annotation", "annotations", forbidden.len()).to_owned());
        values.extend(forbidden);
    }
    if set_by.is_empty() {
        return None;
    }
    violation(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len()),
        format!("{} must not set AppArmor profile type to {}", set_by.join(" and "), quoted(values)),
    )
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let names = subject.named(|container| {
        let before = added.len();
        let all = container.items_at("securityContext.capabilities.add").iter().filter_map(Value::as_str);
        let bad: Vec<&str> = all.filter(|one| !CAPABILITIES.contains(one)).collect();
        added.extend(bad.iter().map(|one| (*one).to_owned()));
        added.len() > before || !bad.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(&names),
        quoted(added)
    );
    violation("non-default capabilities", detail)
}

pub(super) fn host_namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"];
    let used = shared.into_iter().filter(|field| subject.spec.bool_at(field) == Some(true));
    let found: Vec<String> = used.map(|field| format!("{field}=true")).collect();
    if found.is_empty() { None } else { violation("host namespaces", found.join(", ")) }
}

pub(super) fn host_path_volumes(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.items_at("volumes").iter().filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<String> = volumes.map(name).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(names));
    violation("hostPath volumes", detail)
}

pub(super) fn host_ports(subject: &Subject<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = subject.named(|container| {
        let used = container.items_at("ports").iter().filter_map(|port| port.int_at("hostPort"));
        let used: Vec<String> = used.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let bad = !used.is_empty();
        ports.extend(used);
        bad
    });
    if names.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", names.len());
    let word = plural("hostPort", "hostPorts", ports.len());
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {uses} {word} {ports}", containers(&names)))
}

pub(super) fn host_probes(subject: &Subject<'_>) -> Option<Violation> {
    const PLACES: [&str; 5] =
        ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"];
    let mut hosts = BTreeSet::new();
    let names: BTreeSet<String> = subject
        .named(|container| {
            let handlers = PLACES.iter().filter_map(|place| container.at(place));
            let named = handlers.flat_map(|handler| {
                ["httpGet.host", "tcpSocket.host"].into_iter().filter_map(|host| handler.str_at(host))
            });
            let named: Vec<String> = named.filter(|host| !host.is_empty()).map(str::to_owned).collect();
            let bad = !named.is_empty();
            hosts.extend(named);
            bad
        })
        .into_iter()
        .collect();
    if names.is_empty() {
        return None;
    }
    let names: Vec<String> = names.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation("probe or lifecycle host", format!("{} {uses} {word} {}", containers(&names), quoted(hosts)))
}

pub(super) fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let names = subject.named(|container| container.bool_at("securityContext.privileged") == Some(true));
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&names)))
}

pub(super) fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let names = subject.named(|container| {
        let kind = container.str_at("securityContext.procMount").filter(|kind| *kind != "Default");
        kinds.extend(kind.map(str::to_owned));
        kind.is_some()
    });
    if names.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.procMount to {}", containers(&names), quoted(kinds));
    violation("procMount", detail)
}

pub(super) fn proc_mount_1_35(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_user_namespace() { None } else { proc_mount(subject) }
}

fn se_linux_by(subject: &Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |holder: &Value| {
        let Some(options) = holder.at("securityContext.seLinuxOptions") else { return false };
        let text = |field: &str| options.str_at(field).unwrap_or_default();
        let bad_type = !allowed.contains(&text("type"));
        if bad_type {
            types.insert(text("type").to_owned());
        }
        user |= !text("user").is_empty();
        role |= !text("role").is_empty();
        bad_type || !text("user").is_empty() || !text("role").is_empty()
    };
    let pod = bad(subject.spec);
    let names = subject.named(|container| bad(container));
    let set_by = setters(pod, &names);
    if set_by.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", set_by.join(" and "), what.join("; "));
    violation("seLinuxOptions", detail)
}

pub(super) fn se_linux(subject: &Subject<'_>) -> Option<Violation> {
    se_linux_by(subject, &SE_LINUX_TYPES[..4])
}

pub(super) fn se_linux_1_31(subject: &Subject<'_>) -> Option<Violation> {
    se_linux_by(subject, &SE_LINUX_TYPES)
}

/// Before 1.19 seccomp profiles were named by annotations.
pub(super) fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    let of_containers = subject.containers().map(|c| format!("{SECCOMP_CONTAINER}{}", name(c)));
    let keys: BTreeSet<String> = std::iter::once(SECCOMP_POD.to_owned()).chain(of_containers).collect();
    let forbidden: BTreeSet<String> = keys
        .into_iter()
        .filter_map(|key| {
            let value = subject.annotations?.get_str(&key)?;
            let safe =
                matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!safe).then(|| format!("{key}={}", rules::quote(value)))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", forbidden.len());
    let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {word} {list}"))
}

/// Who names which unsafe seccomp profiles.
pub(super) fn unsafe_seccomp(subject: &Subject<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut bad = |holder: &Value| {
        let profile = holder.at("securityContext.seccompProfile");
        let kind = profile.map(|profile| profile.str_at("type").unwrap_or_default());
        let bad = kind.filter(|kind| !is_safe_profile(kind));
        values.extend(bad.map(str::to_owned));
        bad.is_some()
    };
    let pod = bad(subject.spec);
    let names = subject.named(|container| bad(container));
    let set_by = setters(pod, &names);
    if set_by.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        set_by.join(" and "),
        quoted(values)
    );
    violation("seccompProfile", detail)
}

pub(super) fn seccomp(subject: &Subject<'_>) -> Option<Violation> {
    unsafe_seccomp(subject)
}

fn sysctls_by(subject: &Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let all = subject.spec.items_at("securityContext.sysctls").iter().filter_map(|s| s.str_at("name"));
    let forbidden: Vec<&str> = all.filter(|name| !allowed.contains(name)).collect();
    if forbidden.is_empty() { None } else { violation("forbidden sysctls", forbidden.join(", ")) }
}

pub(super) fn sysctls(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_by(subject, &SYSCTLS[..5])
}

pub(super) fn sysctls_1_27(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_by(subject, &SYSCTLS[..6])
}

pub(super) fn sysctls_1_29(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_by(subject, &SYSCTLS[..10])
}

pub(super) fn sysctls_1_32(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_by(subject, &SYSCTLS)
}

pub(super) fn windows_host_process(subject: &Subject<'_>) -> Option<Violation> {
    let bad = |holder: &Value| holder.bool_at("securityContext.windowsOptions.hostProcess") == Some(true);
    let names = subject.named(|container| bad(container));
    let set_by = setters(bad(subject.spec), &names);
    if set_by.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.windowsOptions.hostProcess=true", set_by.join(" and "));
    violation("hostProcess", detail)
}
