//! Horizontal pod autoscalers: `v1` knows one CPU target; all else of `v2` lives in its annotations.

use schema::{Map, Resource, Schema, SmolStr, Value, value};

use super::normal;
use crate::registry::Conversion;
use crate::status::ApiResult;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// See the module.
pub struct Autoscaling {
    served: Schema,
    hub: Schema,
}

impl Autoscaling {
    /// Between these two.
    pub fn new(served: &Resource, hub: &Resource) -> Self {
        Self { served: served.schema.clone(), hub: hub.schema.clone() }
    }
}

impl Conversion for Autoscaling {
    fn convert_to_hub(&self, mut object: Value) -> ApiResult<Value> {
        let mut metrics = Vec::new();
        if let Some(percent) =
            object.remove_at("spec.targetCPUUtilizationPercentage").and_then(|p| p.as_int())
        {
            metrics.push(value!({"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}
            }}));
        }
        let mut current = Vec::new();
        if let Some(percent) =
            object.remove_at("status.currentCPUUtilizationPercentage").and_then(|p| p.as_int())
        {
            current.push(value!({"type": "Resource", "resource": {
                "name": "cpu", "current": {"averageUtilization": percent, "averageValue": "0"}
            }}));
        }
        let mut annotation = |name: &str| -> Value {
            let text = object.at_mut("metadata.annotations").and_then(|a| a.remove(name));
            let text = text.as_ref().and_then(Value::as_str).unwrap_or_default();
            codec::json::parse(text.as_bytes()).unwrap_or_default()
        };
        metrics.extend(annotation(METRICS).items().iter().map(|m| each_source(m, to_target)));
        current.extend(annotation(CURRENT).items().iter().map(|m| each_source(m, to_current)));
        let (conditions, behavior) = (annotation(CONDITIONS), annotation(BEHAVIOR));
        drop_empty_annotations(&mut object);
        if !metrics.is_empty() {
            object.set("spec.metrics", Value::List(metrics));
        }
        if !behavior.is_null() {
            object.set("spec.behavior", behavior);
        }
        if !current.is_empty() {
            object.set("status.currentMetrics", Value::List(current));
        }
        if !conditions.is_null() {
            object.set("status.conditions", conditions);
        }
        normal(&object, &self.hub)
    }

    fn convert_from_hub(&self, mut object: Value) -> ApiResult<Value> {
        let metrics = object.remove_at("spec.metrics").unwrap_or_default();
        let current = object.remove_at("status.currentMetrics").unwrap_or_default();
        let conditions = object.remove_at("status.conditions").unwrap_or_default();
        let behavior = object.remove_at("spec.behavior").unwrap_or_default();
        let mut others = Vec::new();
        for metric in metrics.items() {
            let target = &metric["resource"]["target"];
            let plain =
                metric.str_at("resource.name") == Some("cpu") && !target["averageUtilization"].is_null();
            if plain && object.at("spec.targetCPUUtilizationPercentage").is_none() {
                object.set("spec.targetCPUUtilizationPercentage", target["averageUtilization"].clone());
            } else {
                others.push(each_source(metric, from_target));
            }
        }
        let mut others_current = Vec::new();
        for metric in current.items() {
            let percent = &metric["resource"]["current"]["averageUtilization"];
            if metric.str_at("resource.name") == Some("cpu") && !percent.is_null() {
                object.set("status.currentCPUUtilizationPercentage", percent.clone());
            }
            others_current.push(each_source(metric, from_current));
        }
        let mut annotate = |name: &str, value: &Value| {
            if !value.is_zero() {
                let text = String::from_utf8_lossy(&codec::json::encode(value)).into_owned();
                object.make_map().entry_map("metadata").entry_map("annotations").insert(name, text);
            }
        };
        annotate(METRICS, &Value::List(others));
        annotate(CURRENT, &Value::List(others_current));
        annotate(CONDITIONS, &conditions);
        annotate(BEHAVIOR, &behavior);
        normal(&object, &self.served)
    }
}

fn drop_empty_annotations(object: &mut Value) {
    if object.at("metadata.annotations").is_some_and(Value::is_zero) {
        object.remove_at("metadata.annotations");
    }
}

/// Rewrites the one source that a metric has: its type's name with a small first letter.
fn each_source(metric: &Value, rewrite: fn(&str, &Value) -> Value) -> Value {
    let mut out = Map::new();
    for (key, value) in metric.entries() {
        out.insert(key.clone(), if key == "type" { value.clone() } else { rewrite(key, value) });
    }
    Value::Map(out)
}

fn copy(out: &mut Value, name: &str, value: &Value) {
    if !value.is_null() {
        out.insert(name, value);
    }
}

/// A `v1` metric source as a `v2` one.
fn to_target(kind: &str, source: &Value) -> Value {
    let mut target = Value::map();
    let utilization = &source["targetAverageUtilization"];
    let average = match kind {
        "object" => &source["averageValue"],
        _ => &source["targetAverageValue"],
    };
    copy(&mut target, "averageUtilization", utilization);
    copy(&mut target, "averageValue", average);
    if average.is_null() || kind == "external" {
        copy(&mut target, "value", &source["targetValue"]);
    }
    let how = match (utilization.is_null(), average.is_null()) {
        (false, _) => "Utilization",
        (_, false) => "AverageValue",
        _ => "Value",
    };
    target.insert("type", how);
    identified(kind, source, "target", target)
}

/// A `v1` metric status as a `v2` one.
fn to_current(kind: &str, source: &Value) -> Value {
    let mut current = Value::map();
    copy(&mut current, "averageUtilization", &source["currentAverageUtilization"]);
    let average = match kind {
        "object" => &source["averageValue"],
        _ => &source["currentAverageValue"],
    };
    copy(&mut current, "averageValue", average);
    copy(&mut current, "value", &source["currentValue"]);
    identified(kind, source, "current", current)
}

/// What a `v2` source measures, with the values under `field`.
fn identified(kind: &str, source: &Value, field: &str, values: Value) -> Value {
    let mut out = Value::map();
    match kind {
        "resource" | "containerResource" => {
            copy(&mut out, "name", &source["name"]);
            copy(&mut out, "container", &source["container"]);
        }
        _ => {
            let mut metric = Value::map();
            copy(&mut metric, "name", &source["metricName"]);
            let selector = if kind == "external" { &source["metricSelector"] } else { &source["selector"] };
            copy(&mut metric, "selector", selector);
            out.insert("metric", metric);
            if kind == "object" {
                copy(&mut out, "describedObject", &source["target"]);
            }
        }
    }
    out.insert(field, values);
    out
}

/// A `v2` metric source as a `v1` one.
fn from_target(kind: &str, source: &Value) -> Value {
    let target = &source["target"];
    let mut out = plain(kind, source);
    copy(&mut out, "targetAverageUtilization", &target["averageUtilization"]);
    match kind {
        "object" => {
            let value = if target["value"].is_null() { Value::str("0") } else { target["value"].clone() };
            out.insert("targetValue", value);
            copy(&mut out, "averageValue", &target["averageValue"]);
        }
        _ => {
            copy(&mut out, "targetAverageValue", &target["averageValue"]);
            copy(&mut out, "targetValue", &target["value"]);
        }
    }
    out
}

/// A `v2` metric status as a `v1` one.
fn from_current(kind: &str, source: &Value) -> Value {
    let current = &source["current"];
    let mut out = plain(kind, source);
    copy(&mut out, "currentAverageUtilization", &current["averageUtilization"]);
    let (average, value) = match kind {
        "object" => ("averageValue", "currentValue"),
        _ => ("currentAverageValue", "currentValue"),
    };
    copy(&mut out, average, &current["averageValue"]);
    if matches!(kind, "object" | "external") {
        copy(&mut out, value, &current["value"]);
    }
    out
}

/// What a `v1` source measures.
fn plain(kind: &str, source: &Value) -> Value {
    let mut out = Value::map();
    match kind {
        "resource" | "containerResource" => {
            copy(&mut out, "name", &source["name"]);
            copy(&mut out, "container", &source["container"]);
        }
        _ => {
            copy(&mut out, "metricName", &source["metric"]["name"]);
            let selector: SmolStr = if kind == "external" { "metricSelector" } else { "selector" }.into();
            copy(&mut out, &selector, &source["metric"]["selector"]);
            if kind == "object" {
                copy(&mut out, "target", &source["describedObject"]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_survive_the_way_through_v1() {
        for metric in [
            value!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
            value!({"type": "Object", "object": {
                "metric": {"name": "m"}, "describedObject": {"kind": "K", "name": "n"},
                "target": {"type": "Value", "value": "1"}
            }}),
            value!({"type": "External", "external": {
                "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "1"}
            }}),
            value!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 5}}}),
        ] {
            let v1 = each_source(&metric, from_target);
            assert_eq!(each_source(&v1, to_target), metric, "{v1:?}");
        }
    }
}
