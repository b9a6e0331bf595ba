//! Pods and pod templates (`pkg/apis/core/validation`, `pkg/registry/core/pod`).

mod annotations;
mod containers;
pub(super) mod defaults;
mod env;
pub(super) mod handlers;
pub(super) mod paths;
pub(super) mod resources;
pub(super) mod scheduling;
mod security;
mod status;
pub(super) mod template;
mod update;
pub(super) mod volume_sources;
mod volumes;
pub(super) mod warnings;

pub use status::qos_class;

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::Errors;
use crate::meta::validate_labels;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::net::ip;
use containers::Pod;

pub(super) const RULES: KindRules = KindRules {
    defaults: defaults::default_pod,
    prepare_create: status::prepare_create,
    prepare_update: update::prepare_update,
    validate: validate_create,
    validate_update: update::validate_update,
    warnings: warnings::of_pod,
};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

fn validate_create(pod: &Cursor<'_>, _: &Write<'_>, out: &mut Errors) {
    validate_pod(pod, out);
    let spec = pod.field("spec");
    if !spec.field("ephemeralContainers").is_empty() {
        spec.field("ephemeralContainers").forbidden(out, "cannot be set on create");
    }
    if !spec.text_of("nodeName").is_empty() && !spec.field("schedulingGates").is_empty() {
        spec.field("nodeName").forbidden(out, "cannot be set until all schedulingGates have been cleared");
    }
    annotations::validate_matching(&pod.value["metadata"]["annotations"], &spec, out);
}

/// Metadata apart, what holds on create and on update (`validatePodMetadataAndSpec`).
fn validate_pod(pod: &Cursor<'_>, out: &mut Errors) {
    let metadata = pod.field("metadata");
    let spec = pod.field("spec");
    annotations::validate_annotations(&metadata.field("annotations"), &spec, out);
    let name = pod.value.str_at("metadata.name").unwrap_or("");
    validate_pod_spec(&spec, name, true, out);
    if spec.text_of("serviceAccountName").is_empty() {
        for volume in spec.field("volumes").items() {
            let projected = volume.field("projected");
            for source in projected.field("sources").items() {
                if source.has("serviceAccountToken") {
                    source
                        .field("serviceAccountToken")
                        .forbidden(out, "must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
    for kind in ["containers", "initContainers"] {
        spec.field(kind).items().for_each(|c| containers::validate_image_spaces(&c, out));
    }
}

/// `ValidatePodSpec`. `pod_name` is empty in templates.
pub(super) fn validate_pod_spec(spec: &Cursor<'_>, pod_name: &str, is_pod: bool, out: &mut Errors) {
    let grace = spec.field("terminationGracePeriodSeconds");
    if !grace.is_set() {
        grace.required(out, "");
    }
    let volumes = spec.field("volumes");
    let claims = spec.field("resourceClaims");
    let context = Pod {
        volumes: volumes::validate_volumes(&volumes, pod_name, out),
        claims: claims
            .value
            .items()
            .iter()
            .filter_map(|c| c["name"].as_str())
            .filter(|n| !n.is_empty())
            .collect(),
        restart_policy: spec.text_of("restartPolicy"),
        grace: grace.as_int(),
        host_users: spec.value["hostUsers"] != Value::Bool(false),
    };
    validate_claims(&claims, out);
    containers::validate_containers(spec, &context, out);
    containers::validate_init_containers(spec, &context, out);
    containers::validate_ephemeral_containers(spec, &context, out);
    resources::validate_pod_resources(spec, out);
    containers::validate_host_network_ports(spec, is_pod, out);
    spec.field("restartPolicy").one_of(out, &["Always", "OnFailure", "Never"]);
    spec.field("dnsPolicy").one_of(out, &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]);
    let selector = spec.field("nodeSelector");
    out.extend(validate_labels(Some(selector.value), &selector.path));
    security::validate_pod_context(spec, out);
    scheduling::validate_affinity(&spec.field("affinity"), out);
    validate_dns(spec, out);
    scheduling::validate_gates(spec, out);
    scheduling::validate_spread(&spec.field("topologySpreadConstraints"), out);
    security::validate_host_process(spec, out);
    security::validate_host_users(spec, out);
    validate_names(spec, out);
    handlers::validate_deadline(&spec.field("activeDeadlineSeconds"), out);
    scheduling::validate_tolerations(&spec.field("tolerations"), out);
    for alias in spec.field("hostAliases").items() {
        alias.field("ip").check(out, ip);
        alias.field("hostnames").items().for_each(|name| name.check(out, dns1123_subdomain));
    }
    if spec.has("overhead") {
        let overhead = spec.field("overhead");
        let limits = schema::value!({"limits": (overhead.value)});
        resources::validate_container_resources(&Cursor::new(&limits, overhead.path), &[], out);
    }
    security::validate_os(spec, out);
}

fn validate_names(spec: &Cursor<'_>, out: &mut Errors) {
    for name in ["serviceAccountName", "nodeName", "priorityClassName"] {
        if !spec.text_of(name).is_empty() {
            spec.field(name).check(out, dns1123_subdomain);
        }
    }
    for name in ["hostname", "subdomain"] {
        if !spec.text_of(name).is_empty() {
            spec.field(name).check(out, dns1123_label);
        }
    }
    if spec.has("hostnameOverride") {
        let name = spec.field("hostnameOverride");
        name.check(out, dns1123_subdomain);
        if name.text().len() > 64 {
            name.invalid(out, "must be no more than 64 characters");
        }
        if spec.bool_of("hostNetwork") {
            name.forbidden(out, "may not be set when `hostNetwork` is true");
        }
    }
    if spec.has("runtimeClassName") {
        spec.field("runtimeClassName").check(out, dns1123_subdomain);
    }
    if spec.has("preemptionPolicy") {
        spec.field("preemptionPolicy").one_of(out, &["Never", "PreemptLowerPriority"]);
    }
}

fn validate_claims(c: &Cursor<'_>, out: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for (i, value) in c.value.items().iter().enumerate() {
        let claim = c.index(i);
        let name = value["name"].as_str().unwrap_or("");
        if name.is_empty() {
            claim.field("name").required(out, "");
        } else if names.contains(&name) {
            claim.field("name").duplicate(out);
        } else {
            claim.field("name").check(out, dns1123_label);
            names.push(name);
        }
        match (claim.has("resourceClaimName"), claim.has("resourceClaimTemplateName")) {
            (true, true) => claim.invalid(
                out,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (false, false) => {
                claim.invalid(out, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
            }
            _ => {}
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if claim.has(field) {
                claim.field(field).check(out, dns1123_subdomain);
            }
        }
    }
}

fn validate_dns(spec: &Cursor<'_>, out: &mut Errors) {
    let config = spec.field("dnsConfig");
    let servers = config.field("nameservers");
    if spec.text_of("dnsPolicy") == "None" {
        if !config.is_set() {
            return config.required(out, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return servers
                .required(out, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > MAX_NAMESERVERS {
        servers.invalid(out, format!("must not have more than {MAX_NAMESERVERS} nameservers"));
    }
    servers.items().for_each(|server| server.check(out, ip));
    let searches = config.field("searches");
    if searches.len() > MAX_SEARCHES {
        searches.invalid(out, format!("must not have more than {MAX_SEARCHES} search paths"));
    }
    let chars: usize = searches.value.items().iter().filter_map(Value::as_str).map(|s| s.len() + 1).sum();
    if chars > MAX_SEARCH_CHARS + 1 {
        searches.invalid(
            out,
            format!(
                "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
            ),
        );
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        search.each(out, relaxed_search(name));
    }
    for option in config.field("options").items() {
        if option.text_of("name").is_empty() {
            option.required(out, "must not be empty");
        }
    }
}

/// A subdomain in which underscores count as letters.
fn relaxed_search(name: &str) -> Vec<String> {
    match dns1123_subdomain(&name.replace('_', "a")) {
        messages if messages.is_empty() => messages,
        _ => vec![crate::names::regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and \
             must start and end with an alphanumeric character",
            r"[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*",
            &["example.com"],
        )],
    }
}
