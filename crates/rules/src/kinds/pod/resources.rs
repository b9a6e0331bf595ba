//! Requests and limits of pods and containers.

use schema::Value;

use crate::Cursor;
use crate::field::{ErrorKind, Errors, FieldError};
use crate::names::dns1123_label;
use crate::quantities::{
    is_huge_page, overcommit_allowed, quantity, validate_amount, validate_container_resource_name,
    validate_resource_name,
};

/// `ValidateContainerResourceRequirements`; `claims` are the names of the pod's claims.
pub(in crate::kinds) fn validate_container_resources(c: &Cursor<'_>, claims: &[&str], out: &mut Errors) {
    validate_requirements(c, validate_container_resource_name, out);
    validate_claims(&c.field("claims"), claims, out);
}

fn validate_requirements(c: &Cursor<'_>, name_rule: fn(&str, &Cursor<'_>, &mut Errors), out: &mut Errors) {
    let (limits, requests) = (c.field("limits"), c.field("requests"));
    for list in [&limits, &requests] {
        for (name, value) in list.value.entries() {
            let amount = Cursor::new(value, list.path.key(name));
            name_rule(name, &amount, out);
            validate_amount(name, &amount, out);
            if is_huge_page(name) && !divides(name, value) {
                let shown = shown(value);
                amount.invalid_as(
                    out,
                    shown.as_str(),
                    format!("{shown} is not positive integer multiple of {name}"),
                );
            }
            if std::ptr::eq(list, &requests) {
                compare_with_limit(name, value, &limits, &requests, out);
            }
        }
    }
    let any = |test: fn(&str) -> bool| {
        [limits, requests].iter().any(|list| list.value.entries().iter().any(|(name, _)| test(name)))
    };
    if any(is_huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        c.forbidden(out, "HugePages require cpu or memory");
    }
}

fn shown(value: &Value) -> String {
    quantity(value).map(|q| q.to_string()).unwrap_or_default()
}

/// The amount is a positive multiple of the page size in the name.
fn divides(name: &str, value: &Value) -> bool {
    let size = name.strip_prefix("hugepages-").and_then(|size| base::Quantity::parse(size).ok());
    let (Some(size), Some(amount)) = (size, quantity(value)) else { return false };
    size.value() > 0 && amount.value() % size.value() == 0
}

fn compare_with_limit(
    name: &str,
    value: &Value,
    limits: &Cursor<'_>,
    requests: &Cursor<'_>,
    out: &mut Errors,
) {
    let overcommit = overcommit_allowed(name);
    let Some(limit) = limits.value.get(name).and_then(quantity) else {
        if !overcommit {
            limits.required(out, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    let Some(request) = quantity(value) else { return };
    if request != limit && request.partial_cmp(&limit) != Some(std::cmp::Ordering::Equal) && !overcommit {
        requests.invalid_as(
            out,
            request.to_string().as_str(),
            format!("must be equal to {name} limit of {limit}"),
        );
    } else if request > limit {
        requests.invalid_as(
            out,
            request.to_string().as_str(),
            format!("must be less than or equal to {name} limit of {limit}"),
        );
    }
}

fn validate_claims(c: &Cursor<'_>, pod_claims: &[&str], out: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for claim in c.items() {
        let (name, request) = (claim.text_of("name"), claim.text_of("request"));
        if name.is_empty() {
            claim.required(out, "");
            continue;
        }
        if seen.iter().any(|s| s == name) {
            out.push(FieldError::duplicate(&claim.path, name));
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                claim.field("request").check(out, dns1123_label);
                key = format!("{name}/{request}");
            }
            let overlaps = request.is_empty() && seen.iter().any(|s| s.split('/').next() == Some(name));
            if seen.contains(&key) || overlaps {
                out.push(FieldError::duplicate(&claim.path, key.as_str()));
            }
            seen.push(key);
        }
        if !pod_claims.contains(&name) {
            let mut sorted = pod_claims.to_vec();
            sorted.sort_unstable();
            let rest = match sorted.is_empty() {
                true => " which is empty".to_owned(),
                false => format!(": {}", sorted.join(", ")),
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            out.push(FieldError::new(ErrorKind::NotFound, &claim.path, name, detail));
        }
    }
}

/// Resources of the pod as a whole (KEP-2837).
pub(super) fn validate_pod_resources(spec: &Cursor<'_>, out: &mut Errors) {
    let c = spec.field("resources");
    if !c.is_set() {
        return;
    }
    if c.has("claims") {
        c.field("claims").forbidden(out, "claims cannot be set for Resources at pod-level");
    }
    validate_requirements(
        &c,
        |name, at, out| {
            let known = matches!(name, "cpu" | "memory") || is_huge_page(name);
            if validate_resource_name(name, at, out) && !known {
                out.push(FieldError::not_supported(&at.path, name, &["cpu", "hugepages-", "memory"]));
            }
        },
        out,
    );
    for (name, total) in aggregate_requests(spec) {
        let pod = c.value["requests"].get(&name).and_then(quantity).unwrap_or(base::Quantity::ZERO);
        if total > pod {
            let requests = c.path.child("requests");
            out.push(FieldError::invalid(
                &requests.key(&name),
                pod.to_string().as_str(),
                format!("must be greater than or equal to aggregate container requests of {total}"),
            ));
        }
    }
    for (i, container) in spec.value["containers"].items().iter().enumerate() {
        for (name, limit) in container["resources"]["limits"].entries() {
            let pod = c.value["limits"].get(name).and_then(quantity);
            let (Some(pod), Some(limit)) = (pod, quantity(limit)) else { continue };
            if limit > pod {
                let containers = c.path.child("containers");
                let container = containers.index(i);
                let path = container.key(name);
                out.push(FieldError::invalid(
                    &path.child("limits"),
                    limit.to_string().as_str(),
                    format!("must be less than or equal to pod limits of {pod}"),
                ));
            }
        }
    }
}

/// What all containers request together: regular ones and sidecars add up, init containers run one by one.
pub(in crate::kinds) fn aggregate_requests(spec: &Cursor<'_>) -> Vec<(String, base::Quantity)> {
    type Amounts = std::collections::BTreeMap<String, base::Quantity>;
    let of = |container: &Value| -> Amounts {
        container["resources"]["requests"]
            .entries()
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), quantity(value)?)))
            .collect()
    };
    let add = |into: &mut Amounts, amounts: &Amounts| {
        for (name, amount) in amounts {
            let sum = into.get(name).map_or(*amount, |present| *present + *amount);
            into.insert(name.clone(), sum);
        }
    };
    let raise = |into: &mut Amounts, amounts: &Amounts| {
        for (name, amount) in amounts {
            if into.get(name).is_none_or(|present| amount > present) {
                into.insert(name.clone(), *amount);
            }
        }
    };
    let mut total = Amounts::new();
    spec.value["containers"].items().iter().for_each(|container| add(&mut total, &of(container)));
    let (mut sidecars, mut highest) = (Amounts::new(), Amounts::new());
    for container in spec.value["initContainers"].items() {
        let mut amounts = of(container);
        if container["restartPolicy"].as_str() == Some("Always") {
            add(&mut total, &amounts);
            add(&mut sidecars, &amounts);
            amounts = sidecars.clone();
        } else {
            add(&mut amounts, &sidecars);
        }
        raise(&mut highest, &amounts);
    }
    raise(&mut total, &highest);
    total.into_iter().collect()
}
