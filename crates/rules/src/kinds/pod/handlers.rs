//! Probes and lifecycle hooks.

use schema::Value;

use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{http_header_name, inclusive_range, port_name, port_number};

/// A port by number or name.
pub(in crate::kinds) fn validate_port_or_name(c: &Cursor<'_>, out: &mut Errors) {
    match c.value {
        Value::Str(name) => c.each(out, port_name(name)),
        _ => {
            for message in port_number(c.int()) {
                c.invalid_as(out, c.int(), message);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

pub(super) fn validate_probe(c: &Cursor<'_>, kind: ProbeKind, grace: Option<i64>, out: &mut Errors) {
    if !c.is_set() {
        return;
    }
    validate_handler(c, &["exec", "httpGet", "tcpSocket", "grpc"], grace, out);
    for name in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        c.field(name).not_negative(out);
    }
    let own_grace = c.field("terminationGracePeriodSeconds");
    if own_grace.as_int().is_some_and(|seconds| seconds <= 0) {
        own_grace.invalid(out, "must be greater than 0");
    }
    if kind == ProbeKind::Readiness {
        if own_grace.is_set() {
            own_grace.invalid(out, "must not be set for readinessProbes");
        }
    } else if c.int_of("successThreshold") != 1 {
        c.field("successThreshold").invalid_as(out, c.int_of("successThreshold"), "must be 1");
    }
}

pub(super) fn validate_lifecycle(c: &Cursor<'_>, grace: Option<i64>, out: &mut Errors) {
    for name in ["postStart", "preStop"] {
        if c.has(name) {
            validate_handler(&c.field(name), &["exec", "httpGet", "tcpSocket", "sleep"], grace, out);
        }
    }
    let signal = c.field("stopSignal");
    if signal.is_set() && signal.text().is_empty() {
        out.push(FieldError::not_supported(&signal.path, "", &[]));
    }
}

fn validate_handler(c: &Cursor<'_>, kinds: &[&str], grace: Option<i64>, out: &mut Errors) {
    let mut found = false;
    for kind in kinds.iter().filter(|kind| c.has(kind)) {
        let action = c.field(kind);
        if found {
            action.forbidden(out, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if action.field("command").is_empty() {
                    action.field("command").required(out, "");
                }
            }
            "httpGet" => validate_http(&action, out),
            "tcpSocket" => validate_port_or_name(&action.field("port"), out),
            "grpc" => {
                let port = action.field("port");
                port_number(port.int()).into_iter().for_each(|m| port.invalid_as(out, port.int(), m));
            }
            _ => validate_sleep(&action, grace, out),
        }
    }
    if !found {
        c.required(out, "must specify a handler type");
    }
}

fn validate_http(c: &Cursor<'_>, out: &mut Errors) {
    if c.text_of("path").is_empty() {
        c.field("path").required(out, "");
    }
    validate_port_or_name(&c.field("port"), out);
    c.field("scheme").among(out, &["HTTP", "HTTPS"]);
    let headers = c.field("httpHeaders");
    for header in headers.value.items() {
        let name = header["name"].as_str().unwrap_or("");
        http_header_name(name).into_iter().for_each(|m| headers.invalid_as(out, name, m));
    }
}

fn validate_sleep(c: &Cursor<'_>, grace: Option<i64>, out: &mut Errors) {
    let seconds = c.int_of("seconds");
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        c.invalid_as(
            out,
            seconds,
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
        );
    }
}

/// A number of seconds a pod may be active.
pub(super) fn validate_deadline(c: &Cursor<'_>, out: &mut Errors) {
    const MAX: i64 = i32::MAX as i64;
    if c.as_int().is_some_and(|seconds| !(1..=MAX).contains(&seconds)) {
        c.invalid(out, inclusive_range(1, MAX));
    }
}
