//! Containers of a pod: regular, init and ephemeral ones.

use schema::Value;

use super::env::{validate_env, validate_env_from};
use super::handlers::{ProbeKind, validate_lifecycle, validate_probe};
use super::resources::validate_container_resources;
use super::security::validate_container_context;
use super::volumes::{validate_devices, validate_mounts};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{dns1123_label, port_name, port_number};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
/// Fields that an ephemeral container may not have.
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
];

/// What containers are checked against.
pub(super) struct Pod<'a> {
    pub volumes: Vec<(&'a str, &'a Value)>,
    pub claims: Vec<&'a str>,
    pub restart_policy: &'a str,
    pub grace: Option<i64>,
    pub host_users: bool,
}

pub(super) fn validate_containers(spec: &Cursor<'_>, pod: &Pod<'_>, out: &mut Errors) {
    let containers = spec.field("containers");
    if containers.is_empty() {
        return containers.required(out, "");
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, value) in containers.value.items().iter().enumerate() {
        let container = containers.index(i);
        validate_common(&container, pod, out);
        let name = value["name"].as_str().unwrap_or("");
        if names.contains(&name) {
            out.push(FieldError::duplicate(&container.field("name").path, name));
        }
        names.push(name);
        validate_hooks(&container, pod, out);
        validate_restart_policy(&container, &["Always", "OnFailure", "Never"], out);
    }
    validate_host_ports(&containers, containers.value.items(), 0, out);
}

fn validate_hooks(container: &Cursor<'_>, pod: &Pod<'_>, out: &mut Errors) {
    if container.has("lifecycle") {
        validate_lifecycle(&container.field("lifecycle"), pod.grace, out);
    }
    for (name, kind) in [
        ("livenessProbe", ProbeKind::Liveness),
        ("readinessProbe", ProbeKind::Readiness),
        ("startupProbe", ProbeKind::Startup),
    ] {
        validate_probe(&container.field(name), kind, pod.grace, out);
    }
}

/// A container's own restart policy and its rules by exit code (KEP-5307).
fn validate_restart_policy(container: &Cursor<'_>, allowed: &[&str], out: &mut Errors) {
    let policy = container.field("restartPolicy");
    if policy.is_set() {
        policy.among(out, allowed);
    }
    let rules = container.field("restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if !policy.is_set() {
        policy.required(out, "must specify restartPolicy when restart rules are used");
    }
    for rule in rules.items() {
        rule.field("action").one_of(out, &["Restart", "RestartAllContainers"]);
        let codes = rule.field("exitCodes");
        match codes.is_set() {
            true => {
                codes.field("operator").one_of(out, &["In", "NotIn"]);
                if codes.field("values").is_empty() {
                    codes.field("values").required(out, "");
                }
            }
            false => codes.required(out, "must be specified"),
        }
    }
}

pub(super) fn validate_init_containers(spec: &Cursor<'_>, pod: &Pod<'_>, out: &mut Errors) {
    let containers = spec.field("initContainers");
    let name_of = |v: &'_ Value| v["name"].as_str().unwrap_or("").to_owned();
    let mut names: Vec<String> = spec.value["containers"].items().iter().map(name_of).collect();
    for (i, value) in containers.value.items().iter().enumerate() {
        let container = containers.index(i);
        validate_common(&container, pod, out);
        validate_restart_policy(&container, &["Always", "Never", "OnFailure"], out);
        let name = name_of(value);
        if names.contains(&name) {
            out.push(FieldError::duplicate(&container.field("name").path, name.as_str()));
        } else if !name.is_empty() {
            names.push(name);
        }
        validate_host_ports(&containers, std::slice::from_ref(value), 0, out);
        if value["restartPolicy"].as_str() == Some("Always") {
            validate_hooks(&container, pod, out);
            continue;
        }
        for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(name) {
                container
                    .field(name)
                    .forbidden(out, "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

pub(super) fn validate_ephemeral_containers(spec: &Cursor<'_>, pod: &Pod<'_>, out: &mut Errors) {
    let name_of = |v: &'_ Value| v["name"].as_str().unwrap_or("").to_owned();
    let others: Vec<String> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| spec.value[*kind].items().iter().map(name_of))
        .collect();
    let mut names = others.clone();
    for container in spec.field("ephemeralContainers").items() {
        validate_common(&container, pod, out);
        validate_image_spaces(&container, out);
        let name = container.text_of("name").to_owned();
        if names.contains(&name) {
            out.push(FieldError::duplicate(&container.field("name").path, name.as_str()));
        } else {
            names.push(name);
        }
        let target = container.text_of("targetContainerName");
        if !target.is_empty() && !others.iter().any(|o| o == target) {
            container.field("targetContainerName").not_found(out);
        }
        const REFUSED: &str = "cannot be set for an Ephemeral Container";
        NOT_EPHEMERAL
            .iter()
            .filter(|field| !container.field(field).is_empty())
            .for_each(|field| container.field(field).forbidden(out, REFUSED));
        for mount in container.field("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text_of(field).is_empty() {
                    mount.field(field).forbidden(out, REFUSED);
                }
            }
        }
    }
}

/// Only in pods, not in templates: an image has no spaces around it.
pub(super) fn validate_image_spaces(container: &Cursor<'_>, out: &mut Errors) {
    let image = container.field("image");
    if image.text().trim() != image.text() {
        image.invalid(out, "must not have leading or trailing whitespace");
    }
}

fn validate_common(c: &Cursor<'_>, pod: &Pod<'_>, out: &mut Errors) {
    c.field("name").required_name(out, dns1123_label);
    if c.text_of("image").is_empty() {
        c.field("image").required(out, "");
    }
    c.field("terminationMessagePolicy").one_of(out, &["File", "FallbackToLogsOnError"]);
    validate_ports(&c.field("ports"), out);
    validate_env(&c.field("env"), out);
    validate_env_from(&c.field("envFrom"), out);
    validate_mounts(c, &pod.volumes, out);
    validate_devices(c, &pod.volumes, out);
    c.field("imagePullPolicy").one_of(out, &PULL_POLICIES);
    validate_container_resources(&c.field("resources"), &pod.claims, out);
    validate_resize_policy(&c.field("resizePolicy"), pod, out);
    validate_container_context(&c.field("securityContext"), pod.host_users, out);
}

fn validate_ports(c: &Cursor<'_>, out: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for (i, value) in c.value.items().iter().enumerate() {
        let port = c.index(i);
        let name = value["name"].as_str().unwrap_or("");
        if !name.is_empty() {
            let messages = port_name(name);
            if !messages.is_empty() {
                port.field("name").each(out, messages);
            } else if names.contains(&name) {
                port.field("name").duplicate(out);
            } else {
                names.push(name);
            }
        }
        let number = port.field("containerPort");
        match number.int() {
            0 => number.required(out, ""),
            given => number.each(out, port_number(given)),
        }
        let host = port.field("hostPort");
        if host.int() != 0 {
            host.each(out, port_number(host.int()));
        }
        port.field("protocol").one_of(out, &PROTOCOLS);
    }
}

/// No two containers take the same port of the host. `first` is the index of the first one.
fn validate_host_ports(c: &Cursor<'_>, containers: &[Value], first: usize, out: &mut Errors) {
    let mut taken: Vec<String> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container["ports"].items().iter().enumerate() {
            let number = port["hostPort"].as_int().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let text = |name: &str| port[name].as_str().unwrap_or("");
            let key = format!("{}/{}/{number}", text("protocol"), text("hostIP"));
            if taken.contains(&key) {
                let container = c.path.index(first + i);
                let ports = container.child("ports");
                let port = ports.index(j);
                out.push(FieldError::duplicate(&port.child("hostPort"), key.as_str()));
            }
            taken.push(key);
        }
    }
}

fn validate_resize_policy(c: &Cursor<'_>, pod: &Pod<'_>, out: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, value) in c.value.items().iter().enumerate() {
        let resource = value["resourceName"].as_str().unwrap_or("");
        let policy = value["restartPolicy"].as_str().unwrap_or("");
        if seen.contains(&resource) {
            out.push(FieldError::duplicate(&c.index(i).path, resource));
        }
        seen.push(resource);
        for (text, allowed) in [(resource, ["cpu", "memory"]), (policy, ["NotRequired", "RestartContainer"])]
        {
            match text {
                "" => c.required(out, ""),
                text if allowed.contains(&text) => {}
                text => out.push(FieldError::not_supported(&c.path, text, &allowed)),
            }
        }
        if pod.restart_policy == "Never" && policy != "NotRequired" {
            c.invalid_as(out, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// On the host's network a container's port is the host's. Templates may leave the host port out.
pub(super) fn validate_host_network_ports(spec: &Cursor<'_>, is_pod: bool, out: &mut Errors) {
    if !spec.bool_of("hostNetwork") {
        return;
    }
    for container in spec.field("containers").items() {
        for port in container.field("ports").items() {
            let (host, own) = (port.int_of("hostPort"), port.int_of("containerPort"));
            if (is_pod || host != 0) && host != own {
                port.field("hostPort").invalid_as(
                    out,
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}
