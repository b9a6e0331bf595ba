//! LimitRanger: limit ranges of a namespace give containers defaults, and bound what pods and claims may ask for.

use std::sync::Arc;

use async_trait::async_trait;
use base::Quantity;
use schema::Value;

use super::pod_amounts::{self, Amounts};
use crate::admission::{Admission, Attributes, Operation};
use crate::registry::{Registry, meta};
use crate::status::ApiResult;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// See the module.
pub struct LimitRanger;

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        for range in ranges(attributes, registry)? {
            set_defaults(&mut attributes.object, &range);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let pod = attributes.is("", "pods") && attributes.operation == Operation::Create;
        let claim = attributes.is("", "persistentvolumeclaims") && !meta::is_deleting(&attributes.object);
        if !pod && !claim {
            return Ok(());
        }
        for range in ranges(attributes, registry)? {
            let problems = match pod {
                true => check_pod(&range, &attributes.object),
                false => check_claim(&range, &attributes.object),
            };
            match problems.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbidden(one)),
                many => return Err(attributes.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn ranges(attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<Vec<Arc<Value>>> {
    registry.find_all("", "limitranges", Some(attributes.namespace))
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    range.items_at("spec.limits").iter().filter(move |limit| limit.str_at("type") == Some(kind))
}

fn set_defaults(pod: &mut Value, range: &Value) {
    let (mut requests, mut maxima) = (schema::Map::default(), schema::Map::default());
    for limit in limits(range, "Container") {
        for (from, to) in [("defaultRequest", &mut requests), ("default", &mut maxima)] {
            for (name, amount) in limit[from].entries() {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
    if requests.is_empty() && maxima.is_empty() {
        return;
    }
    let mut said = Vec::new();
    for (list, word) in [("spec.containers", "container"), ("spec.initContainers", "init container")] {
        for container in pod.at_mut(list).and_then(Value::as_list_mut).into_iter().flatten() {
            let name = container.str_at("name").unwrap_or_default().to_owned();
            let set_requests = fill(container, "requests", &requests);
            let set_limits = fill(container, "limits", &maxima);
            for (set, kind) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    said.push(format!("{} {kind} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let annotations = pod.make_map().entry_map("metadata").entry_map("annotations");
        annotations.insert(ANNOTATION, format!("LimitRanger plugin set: {}", said.join("; ")));
    }
}

/// Adds what is missing; gives its names.
fn fill(container: &mut Value, field: &str, defaults: &schema::Map) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.iter() {
        if container["resources"][field].get(name).is_none() {
            let list = container.make_map().entry_map("resources").entry_map(field);
            list.insert(name.clone(), amount.clone());
            set.push(name.to_string());
        }
    }
    set.sort();
    set
}

fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for limit in range.items_at("spec.limits") {
        match limit.str_at("type") {
            Some("Container") => {
                for list in ["spec.containers", "spec.initContainers"] {
                    for container in pod.items_at(list) {
                        let resources = &container["resources"];
                        let requests = pod_amounts::read(resources.get("requests"));
                        let maxima = pod_amounts::read(resources.get("limits"));
                        check(limit, "Container", &requests, &maxima, &mut problems);
                    }
                }
            }
            Some("Pod") => {
                let requests = pod_amounts::of_pod(pod, "requests");
                let maxima = pod_amounts::of_pod(pod, "limits");
                check(limit, "Pod", &requests, &maxima, &mut problems);
            }
            _ => {}
        }
    }
    problems
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    for (name, bound) in pod_amounts::read(limit.get("min")) {
        problems.extend(too_little(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in pod_amounts::read(limit.get("max")) {
        problems.extend(too_much(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in pod_amounts::read(limit.get("maxLimitRequestRatio")) {
        problems.extend(wrong_ratio(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
}

fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = pod_amounts::read(claim.at("spec.resources.requests"));
    let mut problems = Vec::new();
    for limit in limits(range, KIND) {
        for (name, bound) in pod_amounts::read(limit.get("min")) {
            problems.extend(too_little(KIND, &name, bound, requests.get(&name), None));
        }
        for (name, bound) in pod_amounts::read(limit.get("max")) {
            let words = match requests.get(&name) {
                None => Some("  No request is specified".to_owned()),
                Some(request) if *request > bound => Some(format!(", but request is {request}")),
                Some(_) => None,
            };
            let words = words.map(|words| match words.strip_prefix("  ") {
                Some(none) => format!("maximum {name} usage per {KIND} is {bound}.  {none}"),
                None => format!("maximum {name} usage per {KIND} is {bound}{words}"),
            });
            problems.extend(words);
        }
    }
    problems
}

fn too_little(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let begin = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{begin}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{begin}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{begin}, but limit is {limit}")),
        _ => None,
    }
}

fn too_much(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let begin = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{begin}.  No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{begin}, but limit is {limit}")),
        (Some(request), _) if *request > bound => Some(format!("{begin}, but request is {request}")),
        _ => None,
    }
}

fn wrong_ratio(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let begin = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|q| !q.is_zero()) else {
        return Some(format!("{begin}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|q| !q.is_zero()) else {
        return Some(format!("{begin}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.nanos() as f64 / request.nanos() as f64;
    let allowed = bound.nanos() as f64 / 1e9;
    (ratio > allowed).then(|| format!("{begin}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    fn range(limit: Value) -> Value {
        value!({"spec": {"limits": [(limit)]}})
    }

    #[test]
    fn containers_get_defaults_once() {
        let mut pod = value!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}}}]}});
        let limit = value!({"type": "Container", "default": {"cpu": "500m", "memory": "2Gi"},
            "defaultRequest": {"cpu": "100m"}});
        set_defaults(&mut pod, &range(limit));
        let a = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(*a, value!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "2Gi"}}));
        let b = &pod["spec"]["containers"][1]["resources"];
        assert_eq!(*b, value!({"requests": {"cpu": "100m"}, "limits": {"cpu": "2", "memory": "1Gi"}}));
        assert_eq!(
            pod["metadata"]["annotations"].get(ANNOTATION).and_then(Value::as_str),
            Some(
                "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; \
                 cpu request for container b; cpu, memory limit for init container i"
            )
        );
    }

    #[test]
    fn bounds_are_said_in_upstreams_words() {
        let pod = |requests: &str, limits: &str| {
            let resources = value!({"requests": {"cpu": (requests)}, "limits": {"cpu": (limits)}});
            value!({"spec": {"containers": [{"name": "c", "resources": (resources)}]}})
        };
        let bare = value!({"spec": {"containers": [{"name": "c"}]}});
        let bound = |kind: &str, field: &str, amount: &str| {
            let mut limit = value!({"type": (kind)});
            limit.set(&format!("{field}.cpu"), amount);
            range(limit)
        };
        for (limit, pod, words) in [
            (
                bound("Container", "min", "200m"),
                pod("100m", "1"),
                "minimum cpu usage per Container is 200m, but request is 100m",
            ),
            (
                bound("Container", "min", "200m"),
                bare.clone(),
                "minimum cpu usage per Container is 200m.  No request is specified",
            ),
            (
                bound("Pod", "max", "500m"),
                pod("100m", "1"),
                "maximum cpu usage per Pod is 500m, but limit is 1",
            ),
            (bound("Pod", "max", "500m"), bare, "maximum cpu usage per Pod is 500m.  No limit is specified"),
            (
                bound("Container", "maxLimitRequestRatio", "3"),
                pod("100m", "400m"),
                "cpu max limit to request ratio per Container is 3, but provided ratio is 4.000000",
            ),
        ] {
            assert_eq!(check_pod(&limit, &pod), [words]);
        }
        assert!(check_pod(&bound("Container", "maxLimitRequestRatio", "4"), &pod("100m", "400m")).is_empty());
        let claim = value!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
        let limit =
            value!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
        assert_eq!(
            check_claim(&range(limit), &claim),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"]
        );
    }
}
