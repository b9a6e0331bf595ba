//! The cells of workloads.

use base::Quantity;
use schema::Value;

use super::Seconds;
use super::format::{
    age, containers, deleting, holds, human_duration, int, labels, list_with_more, seconds, selector,
    since_at, text,
};

/// `ready/desired`, as Deployments and StatefulSets show.
fn ready(object: &Value) -> Value {
    Value::from(format!("{}/{}", int(object, "status.readyReplicas"), int(object, "spec.replicas")))
}

fn template(object: &Value) -> [Value; 2] {
    containers(object.at("spec.template.spec"))
}

pub(super) fn pod_template(object: &Value, _now: Seconds) -> Vec<Value> {
    let [names, images] = containers(object.at("template.spec"));
    vec![names, images, labels(object.map_at("template.metadata.labels"))]
}

pub(super) fn replication_controller(object: &Value, now: Seconds) -> Vec<Value> {
    let [names, images] = template(object);
    vec![
        int(object, "spec.replicas").into(),
        int(object, "status.replicas").into(),
        int(object, "status.readyReplicas").into(),
        age(object, now),
        names,
        images,
        labels(object.map_at("spec.selector")),
    ]
}

pub(super) fn replica_set(object: &Value, now: Seconds) -> Vec<Value> {
    let mut cells = replication_controller(object, now);
    cells[6] = selector(object.at("spec.selector"));
    cells
}

pub(super) fn deployment(object: &Value, now: Seconds) -> Vec<Value> {
    let [names, images] = template(object);
    vec![
        ready(object),
        int(object, "status.updatedReplicas").into(),
        int(object, "status.availableReplicas").into(),
        age(object, now),
        names,
        images,
        selector(object.at("spec.selector")),
    ]
}

pub(super) fn daemon_set(object: &Value, now: Seconds) -> Vec<Value> {
    let [names, images] = template(object);
    vec![
        int(object, "status.desiredNumberScheduled").into(),
        int(object, "status.currentNumberScheduled").into(),
        int(object, "status.numberReady").into(),
        int(object, "status.updatedNumberScheduled").into(),
        int(object, "status.numberAvailable").into(),
        labels(object.map_at("spec.template.spec.nodeSelector")),
        age(object, now),
        names,
        images,
        selector(object.at("spec.selector")),
    ]
}

pub(super) fn stateful_set(object: &Value, now: Seconds) -> Vec<Value> {
    let [names, images] = template(object);
    vec![ready(object), age(object, now), names, images]
}

pub(super) fn controller_revision(object: &Value, now: Seconds) -> Vec<Value> {
    let owners = object.items_at("metadata.ownerReferences");
    let owner = owners.iter().find(|o| o.bool_at("controller") == Some(true)).map(|owner| {
        let kind = owner.str_at("kind").unwrap_or_default().to_lowercase();
        let group = owner.str_at("apiVersion").and_then(|v| v.split_once('/')).map(|(group, _)| group);
        let name = owner.str_at("name").unwrap_or_default();
        group.map_or_else(|| format!("{kind}/{name}"), |group| format!("{kind}.{group}/{name}"))
    });
    let owner = owner.unwrap_or_else(|| "<none>".to_owned());
    vec![owner.into(), int(object, "revision").into(), age(object, now)]
}

pub(super) fn job(object: &Value, now: Seconds) -> Vec<Value> {
    let status = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("", "Terminating"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    let holding = status.iter().find(|(kind, _)| match *kind {
        "" => deleting(object),
        kind => holds(object, kind),
    });
    let succeeded = int(object, "status.succeeded");
    let completions = match (object.int_at("spec.completions"), int(object, "spec.parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    };
    let ended = object.str_at("status.completionTime").and_then(seconds).unwrap_or(now);
    let started = object.str_at("status.startTime").and_then(seconds);
    let duration = started.map(|started| human_duration(ended - started)).unwrap_or_default();
    let [names, images] = template(object);
    vec![
        Value::str(holding.map_or("Running", |(_, text)| text)),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        selector(object.at("spec.selector")),
    ]
}

pub(super) fn cron_job(object: &Value, now: Seconds) -> Vec<Value> {
    let suspended = match object.bool_at("spec.suspend") {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = match object.str_at("status.lastScheduleTime") {
        Some(_) => since_at(object, "status.lastScheduleTime", now),
        None => Value::str("<none>"),
    };
    let [names, images] = containers(object.at("spec.jobTemplate.spec.template.spec"));
    vec![
        text(object, "spec.schedule", ""),
        text(object, "spec.timeZone", "<none>"),
        suspended.into(),
        (object.items_at("status.active").len() as i64).into(),
        last,
        age(object, now),
        names,
        images,
        selector(object.at("spec.jobTemplate.spec.selector")),
    ]
}

pub(super) fn horizontal_pod_autoscaler(object: &Value, now: Seconds) -> Vec<Value> {
    let target = |name: &str| object.str_at(&format!("spec.scaleTargetRef.{name}")).unwrap_or_default();
    let minimum = object.int_at("spec.minReplicas").map_or("<unset>".to_owned(), |m| m.to_string());
    vec![
        format!("{}/{}", target("kind"), target("name")).into(),
        list_with_more(&metrics(object), METRICS_SHOWN, ", ", "<none>"),
        minimum.into(),
        int(object, "spec.maxReplicas").into(),
        int(object, "status.currentReplicas").into(),
        age(object, now),
    ]
}

const METRICS_SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// `current/target` of each metric.
fn metrics(object: &Value) -> Vec<String> {
    if let Some(target) = object.int_at("spec.targetCPUUtilizationPercentage") {
        let current = object.int_at("status.currentCPUUtilizationPercentage");
        let current = current.map_or(UNKNOWN.to_owned(), |c| format!("{c}%"));
        return vec![format!("cpu: {current}/{target}%")];
    }
    let statuses = object.items_at("status.currentMetrics");
    let specs = object.items_at("spec.metrics").iter().enumerate();
    specs.map(|(i, spec)| metric(spec, statuses.get(i).unwrap_or(&Value::Null))).collect()
}

fn metric(spec: &Value, status: &Value) -> String {
    let kind = spec.str_at("type").unwrap_or_default();
    let mut field = kind.to_owned();
    if let Some(first) = field.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let target = |name: &str| spec.at(&format!("{field}.target.{name}"));
    let current = |name: &str| status.at(&format!("{field}.current.{name}"));
    let shown = |value: Option<&Value>| value.map_or(UNKNOWN.to_owned(), quantity);
    match kind {
        "Pods" => format!("{}/{}", shown(current("averageValue")), shown(target("averageValue"))),
        "External" | "Object" if target("averageValue").is_some() => {
            format!("{}/{} (avg)", shown(current("averageValue")), shown(target("averageValue")))
        }
        "External" | "Object" => format!("{}/{}", shown(current("value")), shown(target("value"))),
        "Resource" | "ContainerResource" => {
            let name = spec.str_at(&format!("{field}.name")).unwrap_or_default();
            if target("averageValue").is_some() {
                return format!(
                    "{name}: {}/{}",
                    shown(current("averageValue")),
                    shown(target("averageValue"))
                );
            }
            let percent = |value: Option<&Value>, none: &str| {
                value.and_then(Value::as_int).map_or(none.to_owned(), |i| format!("{i}%"))
            };
            let current = percent(current("averageUtilization"), UNKNOWN);
            format!("{name}: {current}/{}", percent(target("averageUtilization"), "<auto>"))
        }
        _ => "<unknown type>".to_owned(),
    }
}

fn quantity(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    Quantity::parse(text).map_or_else(|_| text.to_owned(), |q| q.to_string())
}
