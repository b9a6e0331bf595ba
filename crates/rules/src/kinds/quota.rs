//! ResourceQuotas and LimitRanges.

use base::Quantity;
use base::quantity::Format;
use schema::Value;

use super::KindRules;
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::meta::IMMUTABLE;
use crate::names::qualified_name;
use crate::quantities::{
    is_quota_name, overcommit_allowed, quantity, validate_amount, validate_container_resource_name,
    validate_resource_name,
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

pub(super) const QUOTAS: KindRules = KindRules {
    validate: |quota, _, out| validate_quota(quota, out),
    validate_update: |new, old, write, out| {
        if write.subresource == "status" {
            return validate_lists(&new.field("status"), &["hard", "used"], out);
        }
        validate_quota(new, out);
        let sorted = |quota: &Value| {
            let mut scopes: Vec<String> = quota["spec"]["scopes"]
                .items()
                .iter()
                .filter_map(|s| s.as_str().map(str::to_owned))
                .collect();
            scopes.sort();
            scopes.dedup();
            scopes
        };
        if sorted(new.value) != sorted(old) {
            new.field("spec").field("scopes").invalid(out, IMMUTABLE);
        }
    },
    ..KindRules::NONE
};

fn validate_lists(c: &Cursor<'_>, lists: &[&str], out: &mut Errors) {
    for list in lists {
        let amounts = c.field(list);
        for (name, value) in amounts.value.entries() {
            let amount = Cursor::new(value, amounts.path.key(name));
            validate_resource_name(name, &amount, out);
            if !name.contains('/') && !is_quota_name(name) {
                amount.invalid_as(out, name.as_str(), "must be a standard resource for quota");
            }
            validate_amount(name, &amount, out);
        }
    }
}

/// Resources that a scope of pods can limit.
fn fits_scope(scope: &str, resource: &str) -> bool {
    const COMPUTE: [&str; 6] =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => {
            resource == "pods"
                || COMPUTE.contains(&resource)
                || matches!(
                    resource,
                    "ephemeral-storage" | "limits.ephemeral-storage" | "requests.ephemeral-storage"
                )
        }
        _ => true,
    }
}

fn conflicting(scopes: &[&str]) -> usize {
    [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")]
        .iter()
        .filter(|(a, b)| scopes.contains(a) && scopes.contains(b))
        .count()
}

fn validate_quota(quota: &Cursor<'_>, out: &mut Errors) {
    let spec = quota.field("spec");
    validate_lists(&spec, &["hard"], out);
    validate_lists(&quota.field("status"), &["hard", "used"], out);
    let hard: Vec<&str> = spec.value["hard"].entries().iter().map(|(name, _)| name.as_str()).collect();
    let misfits =
        |scope: &str| hard.iter().filter(|name| is_quota_name(name) && !fits_scope(scope, name)).count();
    let scopes = spec.field("scopes");
    let given: Vec<&str> = scopes.value.items().iter().filter_map(Value::as_str).collect();
    for scope in &given {
        if !SCOPES.contains(scope) {
            scopes.invalid(out, "unsupported scope");
        }
        (0..misfits(scope)).for_each(|_| scopes.invalid(out, "unsupported scope applied to resource"));
    }
    (0..conflicting(&given)).for_each(|_| scopes.invalid(out, "conflicting scopes"));
    let selector = spec.field("scopeSelector");
    if selector.is_set() {
        validate_scope_selector(&spec, &selector, misfits, out);
    }
}

fn validate_scope_selector(
    spec: &Cursor<'_>,
    selector: &Cursor<'_>,
    misfits: impl Fn(&str) -> usize,
    out: &mut Errors,
) {
    let list = selector.field("matchExpressions");
    let mut seen: Vec<&str> = Vec::new();
    for requirement in list.value.items() {
        let text = |name: &str| requirement.get(name).and_then(Value::as_str).unwrap_or("");
        let (scope, operator) = (text("scopeName"), text("operator"));
        if !SCOPES.contains(&scope) {
            list.field("scopeName").invalid_as(out, scope, "unsupported scope");
        }
        (0..misfits(scope)).for_each(|_| {
            list.invalid_as(out, selector.value, "unsupported scope applied to resource");
        });
        let exists_only =
            !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
        if exists_only && operator != "Exists" {
            list.field("operator").invalid_as(
                out,
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                 ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                 ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        let values = &requirement["values"];
        let at = list.field("values");
        match (operator, values.is_zero()) {
            ("In" | "NotIn", true) => at.required(
                out,
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            ("Exists" | "DoesNotExist", false) => at.invalid_as(
                out,
                values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            _ => list.field("operator").invalid_as(out, operator, "not a valid selector operator"),
        }
        seen.push(scope);
    }
    (0..conflicting(&seen)).for_each(|_| {
        list.invalid_as(out, &spec.value["scopes"], "conflicting scopes");
    });
}

pub(super) const LIMIT_RANGES: KindRules = KindRules {
    defaults: default_limits,
    validate: |range, _, out| validate_limit_range(range, out),
    validate_update: |range, _, _, out| validate_limit_range(range, out),
    ..KindRules::NONE
};

/// For containers the greatest amount is also the default limit, and that, or the least amount, the default request.
fn default_limits(range: &mut Value) {
    let Some(Value::List(limits)) = range.at_mut("spec.limits") else { return };
    for limit in limits.iter_mut().filter(|limit| limit["type"].as_str() == Some("Container")) {
        let fill = |limit: &mut Value, from: &str, to: &str| {
            for (name, amount) in limit[from].entries().to_vec() {
                limit.make_map().entry_map(to).entry(name, || amount);
            }
        };
        fill(limit, "max", "default");
        fill(limit, "default", "defaultRequest");
        fill(limit, "min", "defaultRequest");
    }
}

fn validate_limit_range(range: &Cursor<'_>, out: &mut Errors) {
    let spec = range.field("spec");
    let limits = spec.field("limits");
    for (i, limit) in limits.items().enumerate() {
        let kind = limit.field("type");
        let messages = qualified_name(kind.text());
        if messages.is_empty() {
            if !kind.text().contains('/')
                && !matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim")
            {
                kind.invalid(out, "must be a standard limit type or fully qualified");
            }
        } else {
            kind.each(out, messages);
        }
        if limits.value.items()[..i].iter().any(|other| other["type"] == *kind.value) {
            kind.duplicate(out);
        }
        validate_limit(&limit, kind.text(), out);
    }
}

fn validate_limit(limit: &Cursor<'_>, kind: &str, out: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let amounts = limit.field(list);
        if kind == "Pod" && matches!(list, "default" | "defaultRequest") {
            if !amounts.is_empty() {
                amounts.forbidden(out, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, value) in limit.value[list].entries() {
            let amount = Cursor::new(value, amounts.path.key(name));
            match kind {
                "Pod" | "Container" => validate_container_resource_name(name, &amount, out),
                _ => {
                    validate_resource_name(name, &amount, out);
                }
            }
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    let stored = |list: &str| limit.value[list].get("storage").is_some();
    if kind == "PersistentVolumeClaim" && !stored("min") && !stored("max") {
        limit
            .field("limits")
            .required(out, "either minimum or maximum storage value is required, but neither was provided");
    }
    names.into_iter().for_each(|name| compare_amounts(limit, kind, name, out));
}

fn compare_amounts(limit: &Cursor<'_>, kind: &str, name: &str, out: &mut Errors) {
    let of = |list: &str| {
        let skipped = kind == "Pod" && matches!(list, "default" | "defaultRequest");
        limit.value[list].get(name).and_then(quantity).filter(|_| !skipped)
    };
    let (min, max, default, request, ratio) =
        (of("min"), of("max"), of("default"), of("defaultRequest"), of("maxLimitRequestRatio"));
    let wrong = |list: &str, shown: Quantity, detail: String, out: &mut Errors| {
        let amounts = limit.path.child(list);
        out.push(FieldError::invalid(&amounts.key(name), shown.to_string().as_str(), detail));
    };
    let exceeds = |a: Option<Quantity>, b: Option<Quantity>| a.zip(b).filter(|(a, b)| a > b);
    if let Some((a, b)) = exceeds(min, max) {
        wrong("min", a, format!("min value {a} is greater than max value {b}"), out);
    }
    if let Some((a, b)) = exceeds(min, request) {
        wrong("defaultRequest", b, format!("min value {a} is greater than default request value {b}"), out);
    }
    if let Some((a, b)) = exceeds(request, max) {
        wrong("defaultRequest", a, format!("default request value {a} is greater than max value {b}"), out);
    }
    if let Some((a, b)) = exceeds(request, default) {
        let detail = format!("default request value {a} is greater than default limit value {b}");
        wrong("defaultRequest", a, detail, out);
    }
    if let Some((a, b)) = exceeds(min, default) {
        wrong("default", a, format!("min value {a} is greater than default value {b}"), out);
    }
    if let Some((a, b)) = exceeds(default, max) {
        wrong("default", b, format!("default value {a} is greater than max value {b}"), out);
    }
    if let Some(ratio) = ratio {
        if ratio < Quantity::from_units(1, Format::DecimalSi) {
            wrong("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"), out);
        }
        if let (Some(min), Some(max)) = (min, max)
            && min.sign() > 0
        {
            let limit = max.nanos() as f64 / min.nanos() as f64;
            if ratio.nanos() as f64 / 1e9 > limit {
                let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
                wrong("maxLimitRequestRatio", ratio, detail, out);
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !overcommit_allowed(name)
        && default.nanos() != request.nanos()
    {
        let detail =
            format!("default value {default} must equal to defaultRequest value {request} in {name}");
        wrong("defaultRequest", request, detail, out);
    }
}
