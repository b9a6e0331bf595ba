//! Security contexts of pods and containers.

use schema::Value;

use super::paths::{validate_descending_path, visit_containers};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{dns1123_subdomain, inclusive_range};

const MAX_ID: i64 = i32::MAX as i64;
const MAX_SYSCTL_BYTES: usize = 253;
const MAX_APPARMOR_PROFILE_BYTES: usize = 4095;
const MAX_GMSA_SPEC_BYTES: usize = 64 * 1024;
const MAX_USER_DOMAIN_BYTES: usize = 256;
const MAX_USER_BYTES: usize = 104;

fn validate_id(c: &Cursor<'_>, out: &mut Errors) {
    if c.as_int().is_some_and(|id| !(0..=MAX_ID).contains(&id)) {
        c.invalid(out, inclusive_range(0, MAX_ID));
    }
}

pub(super) fn validate_pod_context(spec: &Cursor<'_>, out: &mut Errors) {
    let c = spec.field("securityContext");
    if !c.is_set() {
        return;
    }
    ["fsGroup", "runAsUser", "runAsGroup"].iter().for_each(|name| validate_id(&c.field(name), out));
    c.field("supplementalGroups").items().for_each(|group| validate_id(&group, out));
    if spec.bool_of("shareProcessNamespace") && spec.bool_of("hostPID") {
        c.field("shareProcessNamespace").invalid_as(
            out,
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    validate_sysctls(spec, &c.field("sysctls"), out);
    for (name, allowed) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["Recursive", "MountOption"]),
    ] {
        if c.has(name) {
            c.field(name).among(out, &allowed);
        }
    }
    validate_seccomp(&c.field("seccompProfile"), out);
    validate_windows_options(&c.field("windowsOptions"), out);
    validate_apparmor(&c.field("appArmorProfile"), out);
}

pub(super) fn validate_container_context(c: &Cursor<'_>, host_users: bool, out: &mut Errors) {
    if !c.is_set() {
        return;
    }
    ["runAsUser", "runAsGroup"].iter().for_each(|name| validate_id(&c.field(name), out));
    let proc_mount = c.field("procMount");
    if proc_mount.is_set() {
        proc_mount.among(out, &["Default", "Unmasked"]);
        if host_users && proc_mount.text() == "Unmasked" {
            proc_mount.invalid(out, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    validate_seccomp(&c.field("seccompProfile"), out);
    if c.value["allowPrivilegeEscalation"] == Value::Bool(false) {
        if c.bool_of("privileged") {
            c.invalid(out, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if c.value["capabilities"]["add"].items().iter().any(|cap| cap.as_str() == Some("CAP_SYS_ADMIN")) {
            c.invalid(
                out,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    validate_windows_options(&c.field("windowsOptions"), out);
    validate_apparmor(&c.field("appArmorProfile"), out);
}

fn validate_seccomp(c: &Cursor<'_>, out: &mut Errors) {
    if !c.is_set() {
        return;
    }
    let (kind, profile) = (c.field("type"), c.field("localhostProfile"));
    match kind.text() {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => kind.required(out, "type is required when seccompProfile is set"),
        _ => kind.not_supported(out, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    match (kind.text() == "Localhost", profile.is_set()) {
        (true, false) => profile.required(out, "must be set when seccomp type is Localhost"),
        (true, true) => validate_descending_path(&profile, out),
        (false, true) => profile.invalid_as(out, c.value, "can only be set when seccomp type is Localhost"),
        (false, false) => {}
    }
}

fn validate_apparmor(c: &Cursor<'_>, out: &mut Errors) {
    if !c.is_set() {
        return;
    }
    let (kind, profile) = (c.field("type"), c.field("localhostProfile"));
    match kind.text() {
        "Localhost" => {
            let text = profile.text();
            if text.trim() != text {
                profile.invalid(out, "must not be padded with whitespace");
            } else if text.is_empty() {
                profile.required(out, "must be set when AppArmor type is Localhost");
            }
            if text.len() > MAX_APPARMOR_PROFILE_BYTES {
                out.push(FieldError::too_long(&profile.path, MAX_APPARMOR_PROFILE_BYTES));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if profile.is_set() {
                profile.invalid(out, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => kind.required(out, "type is required when appArmorProfile is set"),
        _ => kind.not_supported(out, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn is_sysctl_name(name: &str) -> bool {
    let segment = |s: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match (s.bytes().next(), s.bytes().last()) {
            (Some(a), Some(z)) => {
                plain(a) && plain(z) && s.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_'))
            }
            _ => false,
        }
    };
    name.len() <= MAX_SYSCTL_BYTES && name.split(['.', '/']).all(segment)
}

/// The namespace that a sysctl belongs to, if it has one.
fn sysctl_namespace(name: &str) -> &'static str {
    let dotted = name.replace('/', ".");
    match dotted.as_str() {
        "kernel.sem" => "ipc",
        name if name.starts_with("kernel.shm")
            || name.starts_with("kernel.msg")
            || name.starts_with("fs.mqueue.") =>
        {
            "ipc"
        }
        name if name.starts_with("net.") => "net",
        _ => "",
    }
}

fn validate_sysctls(spec: &Cursor<'_>, c: &Cursor<'_>, out: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, item) in c.value.items().iter().enumerate() {
        let sysctl = c.index(i);
        let name = sysctl.field("name");
        let text = item["name"].as_str().unwrap_or("");
        if text.is_empty() {
            name.required(out, "");
        } else if !is_sysctl_name(text) {
            name.invalid(
                out,
                format!(
                    "must have at most {MAX_SYSCTL_BYTES} characters and match regex \
                     ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
                ),
            );
        } else if seen.contains(&text) {
            name.duplicate(out);
        }
        match sysctl_namespace(text) {
            "net" if spec.bool_of("hostNetwork") => {
                name.invalid(out, "may not be specified when 'hostNetwork' is true");
            }
            "ipc" if spec.bool_of("hostIPC") => {
                name.invalid(out, "may not be specified when 'hostIPC' is true");
            }
            _ => {}
        }
        seen.push(text);
    }
}

fn validate_windows_options(c: &Cursor<'_>, out: &mut Errors) {
    if !c.is_set() {
        return;
    }
    let name = c.field("gmsaCredentialSpecName");
    if name.is_set() {
        name.check(out, dns1123_subdomain);
    }
    let spec = c.field("gmsaCredentialSpec");
    match spec.text().len() {
        0 if spec.is_set() => spec.invalid(out, "gmsaCredentialSpec cannot be an empty string"),
        len if len > MAX_GMSA_SPEC_BYTES => {
            spec.invalid(out, "gmsaCredentialSpec size must be under 64 KiB");
        }
        _ => {}
    }
    let user = c.field("runAsUserName");
    if user.is_set() {
        validate_windows_user(&user, out);
    }
}

fn validate_windows_user(c: &Cursor<'_>, out: &mut Errors) {
    let text = c.text();
    let parts: Vec<&str> = text.split('\\').collect();
    if text.is_empty() {
        return c.invalid(out, "runAsUserName cannot be an empty string");
    }
    if text.chars().any(char::is_control) {
        return c.invalid(out, "runAsUserName cannot contain control characters");
    }
    if parts.len() > 2 {
        return c.invalid(out, "runAsUserName cannot contain more than one backslash");
    }
    let (domain, user) = match parts.as_slice() {
        [domain, user] => (Some(*domain), *user),
        _ => (None, text),
    };
    if domain.is_some_and(|d| d.len() >= MAX_USER_DOMAIN_BYTES) {
        c.invalid(
            out,
            format!("runAsUserName's Domain length must be under {MAX_USER_DOMAIN_BYTES} characters"),
        );
    }
    let net_bios = |d: &str| {
        (1..=15).contains(&d.len())
            && !d.starts_with('.')
            && !d.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
    };
    if domain.is_some_and(|d| !net_bios(d) && !dns1123_subdomain(&d.to_lowercase()).is_empty()) {
        c.invalid(out, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    match user.len() {
        0 => c.invalid(out, "runAsUserName's User cannot be empty"),
        len if len > MAX_USER_BYTES => c.invalid(
            out,
            format!("runAsUserName's User length must not be longer than {MAX_USER_BYTES} characters"),
        ),
        _ => {}
    }
    if !user.is_empty() && user.chars().all(|ch| matches!(ch, '.' | ' ')) {
        c.invalid(out, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        c.invalid(out, "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
}

/// HostProcess containers of Windows: all or none, and on the host's network.
pub(super) fn validate_host_process(spec: &Cursor<'_>, out: &mut Errors) {
    let of = |context: &Value| context["windowsOptions"]["hostProcess"].as_bool();
    let pod = of(&spec.value["securityContext"]);
    let (mut all, mut processes) = (0, 0);
    visit_containers(spec, |container| {
        all += 1;
        let own = of(&container.value["securityContext"]);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let path = container.path.child("securityContext.windowsOptions.hostProcess");
            out.push(FieldError::invalid(
                &path,
                own,
                format!("pod hostProcess value must be identical if both are specified, was {pod}"),
            ));
        }
        processes += usize::from(own.or(pod) == Some(true));
    });
    if processes == 0 {
        return;
    }
    if processes != all {
        spec.invalid_as(
            out,
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    if !spec.bool_of("hostNetwork") {
        spec.field("hostNetwork").invalid_as(
            out,
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        );
    }
}

/// With a user namespace of its own a pod may use no other namespace of the host.
pub(super) fn validate_host_users(spec: &Cursor<'_>, out: &mut Errors) {
    if spec.value["hostUsers"] != Value::Bool(false) {
        return;
    }
    for (name, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.bool_of(name) {
            spec.field(shown).forbidden(out, "when `pod.Spec.HostUsers` is false");
        }
    }
}

const WINDOWS_REFUSES: &str = "cannot be set for a windows pod";

/// What one operating system cannot do.
pub(super) fn validate_os(spec: &Cursor<'_>, out: &mut Errors) {
    let os = spec.field("os");
    if !os.is_set() {
        return;
    }
    match os.text_of("name") {
        "" => os.field("name").required(out, "cannot be empty"),
        "linux" => {
            let context = spec.field("securityContext");
            if context.has("windowsOptions") {
                context
                    .field("windowsOptions")
                    .forbidden(out, "windows options cannot be set for a linux pod");
            }
            visit_containers(spec, |container| {
                let context = container.field("securityContext");
                if context.has("windowsOptions") {
                    context
                        .field("windowsOptions")
                        .forbidden(out, "windows options cannot be set for a linux pod");
                }
            });
        }
        "windows" => validate_windows_pod(spec, out),
        other => out.push(FieldError::not_supported(&os.path, other, &["linux", "windows"])),
    }
}

fn validate_windows_pod(spec: &Cursor<'_>, out: &mut Errors) {
    const POD: [&str; 11] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let context = spec.field("securityContext");
    POD.iter()
        .filter(|name| context.has(name))
        .for_each(|name| context.field(name).forbidden(out, WINDOWS_REFUSES));
    for name in ["hostUsers", "shareProcessNamespace"] {
        if spec.has(name) {
            spec.field(name).forbidden(out, WINDOWS_REFUSES);
        }
    }
    for name in ["hostPID", "hostIPC"] {
        if spec.bool_of(name) {
            spec.field(name).forbidden(out, WINDOWS_REFUSES);
        }
    }
    visit_containers(spec, |container| {
        let context = container.field("securityContext");
        CONTAINER
            .iter()
            .filter(|name| context.has(name))
            .for_each(|name| context.field(name).forbidden(out, WINDOWS_REFUSES));
    });
}
