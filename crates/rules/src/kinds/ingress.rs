//! Ingresses and their classes.

use schema::Value;

use super::{KindRules, Write};
use crate::field::{Errors, FieldError};
use crate::names::{
    dns1123_label, dns1123_subdomain, domain_prefixed_path, path_segment, port_name, port_number,
    wildcard_subdomain,
};
use crate::net::ip;
use crate::{Cursor, Path};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Longest controller of a class (`maxLenIngressClassController`).
const MAX_CONTROLLER: usize = 250;

pub(super) const INGRESSES: KindRules = KindRules {
    validate: |ingress, _, out| {
        let spec = ingress.field("spec");
        validate_spec(&spec, false, out);
        let annotation =
            ingress.value["metadata"]["annotations"].get(CLASS_ANNOTATION).and_then(Value::as_str);
        if let Some(named) =
            annotation.filter(|a| spec.has("ingressClassName") && *a != spec.text_of("ingressClassName"))
        {
            let path = Path::new("annotations");
            let words = "must match `ingressClassName` when both are specified";
            out.push(FieldError::invalid(&path.child(CLASS_ANNOTATION), named, words));
        }
    },
    validate_update: |new, old, write: &Write<'_>, out| match write.subresource {
        "status" => validate_status(new, out),
        _ => {
            // Names of secrets were not always checked.
            let lenient = old["spec"]["tls"].items().iter().any(|tls| {
                tls["secretName"]
                    .as_str()
                    .is_some_and(|name| !name.is_empty() && !dns1123_subdomain(name).is_empty())
            });
            validate_spec(&new.field("spec"), lenient, out);
        }
    },
    ..KindRules::NONE
};

fn validate_spec(spec: &Cursor<'_>, any_secret: bool, out: &mut Errors) {
    let (backend, rules) = (spec.field("defaultBackend"), spec.field("rules"));
    if rules.is_empty() && !backend.is_set() {
        spec.invalid_as(out, rules.value, "either `defaultBackend` or `rules` must be specified");
    }
    if backend.is_set() {
        validate_backend(&backend, out);
    }
    for rule in rules.items() {
        let host = rule.field("host");
        if !host.text().is_empty() {
            if ip(host.text()).is_empty() {
                host.invalid(out, "must be a DNS name, not an IP address");
            }
            validate_host(&host, out);
        }
        if rule.has("http") {
            let http = rule.field("http");
            let paths = http.field("paths");
            if paths.is_empty() {
                paths.required(out, "");
            }
            paths.items().for_each(|path| validate_path(&path, out));
        }
    }
    for tls in spec.field("tls").items() {
        tls.field("hosts").items().for_each(|host| validate_host(&host, out));
        let secret = tls.field("secretName");
        if !any_secret && !secret.text().is_empty() {
            secret.check(out, dns1123_subdomain);
        }
    }
    if spec.has("ingressClassName") {
        spec.field("ingressClassName").check(out, dns1123_subdomain);
    }
}

fn validate_host(host: &Cursor<'_>, out: &mut Errors) {
    match host.text().contains('*') {
        true => host.check(out, wildcard_subdomain),
        false => host.check(out, dns1123_subdomain),
    }
}

fn validate_path(c: &Cursor<'_>, out: &mut Errors) {
    let (kind, path) = (c.field("pathType"), c.field("path"));
    if !kind.is_set() {
        return kind.required(out, "pathType must be specified");
    }
    let text = path.text();
    let absolute = text.starts_with('/');
    const ABSOLUTE: &str = "must be an absolute path";
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                path.invalid_as(out, text, ABSOLUTE);
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| text.contains(part)) {
                path.invalid(out, format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|end| text.ends_with(end)) {
                path.invalid(out, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !absolute {
                path.invalid(out, ABSOLUTE);
            }
        }
        _ => kind.among(out, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    validate_backend(&c.field("backend"), out);
}

fn validate_backend(c: &Cursor<'_>, out: &mut Errors) {
    let (resource, service) = (c.field("resource"), c.field("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => c.invalid_as(out, "", "cannot set both resource and service backends"),
        (true, false) => validate_reference(&resource, out),
        (false, false) => c.invalid_as(out, "", "resource or service backend is required"),
        (false, true) => {
            service.field("name").required_name(out, dns1123_label);
            let port = service.field("port");
            let (name, number) = (port.field("name"), port.field("number"));
            match (name.text().is_empty(), number.int()) {
                (false, 0) => name.check(out, port_name),
                (false, _) => c.invalid_as(out, "", "cannot set both port name & port number"),
                (true, 0) => c.required(out, "port name or number is required"),
                (true, value) => number.each(out, port_number(value)),
            }
        }
    }
}

fn validate_reference(c: &Cursor<'_>, out: &mut Errors) {
    if c.has("apiGroup") {
        c.field("apiGroup").check(out, dns1123_subdomain);
    }
    c.field("kind").required_name(out, path_segment);
    c.field("name").required_name(out, path_segment);
}

fn validate_status(ingress: &Cursor<'_>, out: &mut Errors) {
    let status = ingress.field("status");
    let balancer = status.field("loadBalancer");
    for entry in balancer.field("ingress").items() {
        let (address, host) = (entry.field("ip"), entry.field("hostname"));
        if !address.text().is_empty() {
            address.check(out, ip);
        }
        if !host.text().is_empty() {
            host.check(out, dns1123_subdomain);
            if ip(host.text()).is_empty() {
                host.invalid(out, "must be a DNS name, not an IP address");
            }
        }
    }
}

pub(super) const CLASSES: KindRules = KindRules {
    defaults: |class| {
        if class["spec"]["parameters"].as_map().is_some() && class["spec"]["parameters"]["scope"].is_null() {
            class.set("spec.parameters.scope", "Cluster");
        }
    },
    validate: |class, _, out| validate_class(class, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        let spec = new.field("spec");
        spec.field("controller").immutable(out, &old["spec"]["controller"]);
        validate_class(new, out);
    },
    ..KindRules::NONE
};

fn validate_class(class: &Cursor<'_>, out: &mut Errors) {
    let spec = class.field("spec");
    let controller = spec.field("controller");
    if controller.text().is_empty() {
        controller.required(out, "");
    } else {
        if controller.text().len() > MAX_CONTROLLER {
            out.push(FieldError::too_long(&controller.path, MAX_CONTROLLER));
        }
        controller.check(out, domain_prefixed_path);
    }
    let parameters = spec.field("parameters");
    if !parameters.is_set() {
        return;
    }
    validate_reference(&parameters, out);
    let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
    match (scope.is_set(), scope.text(), namespace.is_set()) {
        (false, ..) => scope.required(out, ""),
        (_, "Namespace", false) => namespace.required(out, "`parameters.scope` is set to 'Namespace'"),
        (_, "Namespace", true) => namespace.check(out, dns1123_label),
        (_, "Cluster", true) => namespace.forbidden(out, "`parameters.scope` is set to 'Cluster'"),
        (_, "Cluster", false) => {}
        _ => scope.among(out, &["Cluster", "Namespace"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn backends() {
        for (backend, errors) in [
            (value!({"service": {"name": "a", "port": {"number": 80}}}), "[]"),
            (value!({}), ": Invalid value: \"\": resource or service backend is required"),
            (
                value!({"service": {"name": "a", "port": {"name": "x", "number": 1}}}),
                ": Invalid value: \"\": cannot set both port name & port number",
            ),
        ] {
            let mut out = Errors::new();
            validate_backend(&Cursor::root(&backend), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
