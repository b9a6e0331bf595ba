//! Webhook configurations of admission.

use cel::{Env, Type};
use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::expressions::{Available, admission_env, compile};
use crate::field::{Errors, FieldError};
use crate::label_selector::validate_label_selector;
use crate::names::{dns1035_label, dns1123_subdomain, fully_qualified_name, port_number, qualified_name};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const QUIET: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
/// Longest wait for a webhook, in seconds.
const MAX_TIMEOUT_S: i64 = 30;
/// Most conditions of a webhook or policy.
const MAX_CONDITIONS: usize = 64;

pub(super) const CONFIGURATIONS: KindRules = KindRules {
    validate: |configuration, _, out| validate(configuration, &Value::Null, out),
    validate_update: |new, old, _: &Write<'_>, out| validate(new, old, out),
    ..KindRules::NONE
};

/// What was allowed once stays allowed on update: `old` is null on create.
fn validate(configuration: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let before = old["webhooks"].items();
    let quiet = before.iter().all(|hook| hook["sideEffects"].as_str().is_some_and(|s| QUIET.contains(&s)));
    let unique =
        before.iter().enumerate().all(|(i, hook)| before[..i].iter().all(|h| h["name"] != hook["name"]));
    let recognized = before.iter().all(|hook| {
        let versions = hook["admissionReviewVersions"].items();
        versions.is_empty() || versions.iter().any(is_review_version)
    });
    let hooks = configuration.field("webhooks");
    for (i, hook) in hooks.items().enumerate() {
        validate_hook(&hook, quiet, out);
        validate_versions(&hook.field("admissionReviewVersions"), recognized, out);
        let name = hook.field("name");
        if unique
            && !name.text().is_empty()
            && hooks.value.items()[..i].iter().any(|h| h["name"] == *name.value)
        {
            name.duplicate(out);
        }
    }
}

fn is_review_version(version: &Value) -> bool {
    version.as_str().is_some_and(|v| REVIEW_VERSIONS.contains(&v))
}

fn validate_versions(c: &Cursor<'_>, recognized: bool, out: &mut Errors) {
    if c.is_empty() {
        return c.required(out, format!("must specify one of {}", REVIEW_VERSIONS.join(", ")));
    }
    for (i, version) in c.items().enumerate() {
        match c.value.items()[..i].contains(version.value) {
            true => version.invalid(out, "duplicate version"),
            false => version.check(out, dns1035_label),
        }
    }
    if recognized && !c.value.items().iter().any(is_review_version) {
        c.invalid(out, format!("must include at least one of {}", REVIEW_VERSIONS.join(", ")));
    }
}

fn validate_hook(hook: &Cursor<'_>, quiet: bool, out: &mut Errors) {
    hook.field("name").required_name(out, fully_qualified_name);
    hook.field("rules").items().for_each(|rule| validate_rule(&rule, out));
    for (field, allowed) in [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])]
    {
        if hook.has(field) {
            hook.field(field).among(out, &allowed);
        }
    }
    let effects = hook.field("sideEffects");
    let allowed: &[&str] = if quiet { &QUIET } else { &SIDE_EFFECTS };
    match effects.is_set() {
        true => effects.among(out, allowed),
        false => effects.required(out, format!("must specify one of {}", allowed.join(", "))),
    }
    let timeout = hook.field("timeoutSeconds");
    if timeout.is_set() && !(1..=MAX_TIMEOUT_S).contains(&timeout.int()) {
        timeout.invalid(out, format!("the timeout value must be between 1 and {MAX_TIMEOUT_S} seconds"));
    }
    validate_label_selector(&hook.field("namespaceSelector"), out);
    validate_label_selector(&hook.field("objectSelector"), out);
    if hook.has("reinvocationPolicy") {
        hook.field("reinvocationPolicy").among(out, &["IfNeeded", "Never"]);
    }
    let client = hook.field("clientConfig");
    validate_client(&client, "exactly one of url or service is required", out);
    let available = Available { params: false, authorizer: true };
    validate_conditions(&hook.field("matchConditions"), available, out);
}

/// Where a webhook is reached.
pub(super) fn validate_client(c: &Cursor<'_>, needed: &str, out: &mut Errors) {
    let (url, service) = (c.field("url"), c.field("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => validate_url(&url, out),
        (false, true) => validate_service(&service, out),
        _ => c.required(out, needed),
    }
}

/// `ValidateWebhookURL`.
fn validate_url(c: &Cursor<'_>, out: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = c.text().split_once("://").unwrap_or(("", c.text()));
    if scheme != "https" {
        c.invalid_as(out, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or("") };
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    if host.is_empty() {
        c.invalid_as(out, host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        c.invalid_as(out, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        c.invalid_as(out, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        c.invalid_as(out, query, "query parameters are not permitted in the URL");
    }
}

/// `ValidateWebhookService`; its callers give it name and namespace the wrong way round.
fn validate_service(c: &Cursor<'_>, out: &mut Errors) {
    for (shown, field) in [("name", "namespace"), ("namespace", "name")] {
        if c.text_of(field).is_empty() {
            c.field(shown).required(out, "");
        }
    }
    let port = c.field("port");
    if port.is_set() {
        port_number(port.int())
            .into_iter()
            .for_each(|m| port.invalid(out, format!("port is not valid: {m}")));
    }
    let path = c.field("path");
    let text = path.text();
    match text {
        "" | "/" => return,
        "//" => return path.invalid(out, "segment[0] may not be empty"),
        _ => {}
    }
    if !text.starts_with('/') {
        path.invalid(out, "must start with a '/'");
    }
    // One byte is passed over even when it is no slash.
    let inner = text.get(1..).unwrap_or("");
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (i, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            path.invalid(out, format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in dns1123_subdomain(segment) {
            path.invalid(out, format!("segment[{i}]: {message}"));
        }
    }
}

/// `matchConditions` of webhooks and policies, whose expressions may use what is `available`.
pub(super) fn validate_conditions(c: &Cursor<'_>, available: Available, out: &mut Errors) {
    if c.len() > MAX_CONDITIONS {
        out.push(FieldError::too_many(&c.path, c.len(), MAX_CONDITIONS));
    }
    for (i, condition) in c.items().enumerate() {
        if condition.text_of("expression").trim().is_empty() {
            condition.field("expression").required(out, "");
        } else {
            validate_expression(
                &condition.field("expression"),
                &admission_env(available),
                &[Type::Bool],
                out,
            );
        }
        let name = condition.field("name");
        name.required_name(out, qualified_name);
        if !name.text().is_empty() && c.value.items()[..i].iter().any(|other| other["name"] == *name.value) {
            name.duplicate(out);
        }
    }
}

/// An expression must compile, and give one of `expected`.
pub(super) fn validate_expression(c: &Cursor<'_>, env: &Env, expected: &[Type], out: &mut Errors) {
    if let Err(why) = compile(env, c.text(), expected) {
        c.invalid(out, why);
    }
}

fn has_star(c: &Cursor<'_>) -> bool {
    c.value.items().iter().any(|item| item.as_str() == Some("*"))
}

/// Which requests: operations, groups, versions, resources, scope.
pub(super) fn validate_rule(rule: &Cursor<'_>, out: &mut Errors) {
    for (field, others) in
        [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
    {
        let list = rule.field(field);
        if list.is_empty() {
            list.required(out, "");
        }
        if list.len() > 1 && has_star(&list) {
            list.invalid(out, format!("if '*' is present, must not specify other {others}"));
        }
        for item in list.items() {
            match field {
                "operations" => item.among(out, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]),
                "apiVersions" if item.text().is_empty() => item.required(out, ""),
                _ => {}
            }
        }
    }
    validate_resources(&rule.field("resources"), out);
    if rule.has("scope") {
        rule.field("scope").among(out, &["*", "Cluster", "Namespaced"]);
    }
}

fn validate_resources(c: &Cursor<'_>, out: &mut Errors) {
    if c.is_empty() {
        c.required(out, "");
    }
    let (mut whole, mut subresources): (Vec<&str>, Vec<&str>) = Default::default();
    let mut last_plain = false;
    for item in c.value.items() {
        let index = c.value.items().iter().position(|i| std::ptr::eq(i, item)).unwrap_or(0);
        let at = c.index(index);
        let text = item.as_str().unwrap_or("");
        if text.is_empty() {
            at.required(out, "");
            continue;
        }
        let Some((resource, subresource)) = text.split_once('/') else {
            last_plain = text != "*";
            continue;
        };
        if whole.contains(&resource) {
            at.invalid(out, format!("if '{resource}/*' is present, must not specify {text}"));
        }
        if subresources.contains(&subresource) {
            at.invalid(out, format!("if '*/{subresource}' is present, must not specify {text}"));
        }
        if subresource == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            subresources.push(subresource);
        }
    }
    let has = |text: &str| c.value.items().iter().any(|item| item.as_str() == Some(text));
    if c.len() > 1 && has("*/*") {
        c.invalid(out, "if '*/*' is present, must not specify other resources");
    }
    if has("*") && last_plain {
        c.invalid(out, "if '*' is present, must not specify other resources without subresources");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn urls() {
        for (url, valid) in [
            ("https://a/b", true),
            ("http://a", false),
            ("https://", false),
            ("https://u@a", false),
            ("", false),
        ] {
            let mut out = Errors::new();
            validate_url(&Cursor::root(&Value::str(url)), &mut out);
            assert_eq!(out.is_empty(), valid, "{url}");
        }
    }

    #[test]
    fn resources() {
        for (resources, errors) in [
            (value!(["pods", "pods/status"]), "[]"),
            (
                value!(["a/*", "a/b"]),
                "[1]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b",
            ),
            (value!([]), ": Required value"),
        ] {
            let mut out = Errors::new();
            validate_resources(&Cursor::root(&resources), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
