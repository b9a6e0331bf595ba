//! The cells of a pod: its phase as its containers make it look.

use schema::{Resource, Value, value};

use super::Seconds;
use super::format::{age, condition, deleting, holds, human_duration, int, seconds, text};

/// Counts over containers, and the status text so far.
struct Summary {
    restarts: i64,
    last_restart: Option<Seconds>,
    ready: usize,
    reason: String,
}

pub(super) fn pod(object: &Value, now: Seconds) -> Vec<Value> {
    let inits = object.items_at("spec.initContainers");
    let sidecars = inits.iter().filter(|c| restartable(c)).count();
    let total = object.items_at("spec.containers").len() + sidecars;
    let summary = summarize(object, inits);
    let restarts = match (summary.restarts, summary.last_restart) {
        (0, _) | (_, None) => summary.restarts.to_string(),
        (restarts, Some(last)) => format!("{restarts} ({} ago)", human_duration(now - last)),
    };
    let ip = object.items_at("status.podIPs").first().and_then(|ip| ip.str_at("ip"));
    vec![
        Value::from(format!("{}/{total}", summary.ready)),
        Value::from(summary.reason),
        Value::from(restarts),
        age(object, now),
        Value::str(ip.filter(|ip| !ip.is_empty()).unwrap_or("<none>")),
        text(object, "spec.nodeName", "<none>"),
        text(object, "status.nominatedNodeName", "<none>"),
        readiness_gates(object),
    ]
}

fn summarize(object: &Value, inits: &[Value]) -> Summary {
    let phase = object.str_at("status.phase").unwrap_or_default();
    let stated = object.str_at("status.reason").filter(|r| !r.is_empty());
    let gated = condition(object, "PodScheduled").and_then(|c| c.str_at("reason")) == Some("SchedulingGated");
    let reason = if gated { "SchedulingGated" } else { stated.unwrap_or(phase) };
    let mut summary = Summary { restarts: 0, last_restart: None, ready: 0, reason: reason.to_owned() };
    let initializing = init_containers(object, inits, &mut summary);
    if !initializing || holds(object, "Initialized") {
        containers(object, inits, &mut summary);
    }
    if deleting(object) {
        if stated == Some("NodeLost") {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Walks the init containers up to the one that is at work; true when there is one.
fn init_containers(object: &Value, inits: &[Value], summary: &mut Summary) -> bool {
    for (i, status) in object.items_at("status.initContainerStatuses").iter().enumerate() {
        count_restarts(status, summary);
        let terminated = status.at("state.terminated");
        if terminated.is_some_and(|t| int(t, "exitCode") == 0) {
            continue;
        }
        if is_sidecar(status, inits) && status.bool_at("started") == Some(true) {
            summary.ready += usize::from(status.bool_at("ready") == Some(true));
            continue;
        }
        let waiting = status.str_at("state.waiting.reason").unwrap_or_default();
        summary.reason = match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", inits.len()),
        };
        return true;
    }
    false
}

fn containers(object: &Value, inits: &[Value], summary: &mut Summary) {
    // Restarts of init containers that are done are of no interest any more.
    (summary.restarts, summary.last_restart) = (0, None);
    for status in object.items_at("status.initContainerStatuses").iter().filter(|s| is_sidecar(s, inits)) {
        count_restarts(status, summary);
    }
    let mut running = false;
    for status in object.items_at("status.containerStatuses").iter().rev() {
        count_restarts(status, summary);
        let waiting = status.str_at("state.waiting.reason").filter(|r| !r.is_empty());
        if let Some(waiting) = waiting {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = status.at("state.terminated") {
            summary.reason = ended(terminated);
        } else if status.bool_at("ready") == Some(true) && status.at("state.running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if holds(object, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    match terminated.str_at("reason").filter(|r| !r.is_empty()) {
        Some(reason) => reason.to_owned(),
        None if int(terminated, "signal") != 0 => format!("Signal:{}", int(terminated, "signal")),
        None => format!("ExitCode:{}", int(terminated, "exitCode")),
    }
}

fn count_restarts(status: &Value, summary: &mut Summary) {
    summary.restarts += int(status, "restartCount");
    let finished = status.str_at("lastState.terminated.finishedAt").and_then(seconds);
    summary.last_restart = summary.last_restart.max(finished);
}

fn restartable(container: &Value) -> bool {
    container.str_at("restartPolicy") == Some("Always")
}

fn is_sidecar(status: &Value, inits: &[Value]) -> bool {
    inits.iter().any(|c| c.str_at("name") == status.str_at("name") && restartable(c))
}

fn readiness_gates(object: &Value) -> Value {
    let gates = object.items_at("spec.readinessGates");
    if gates.is_empty() {
        return Value::str("<none>");
    }
    let met =
        gates.iter().filter_map(|g| g.str_at("conditionType")).filter(|kind| holds(object, kind)).count();
    Value::from(format!("{met}/{}", gates.len()))
}

/// Rows of pods that are done say so.
pub(super) fn row_conditions(resource: &Resource, object: &Value) -> Value {
    if resource.kind != "Pod" || !resource.group.is_empty() {
        return Value::Null;
    }
    let message = match object.str_at("status.phase") {
        Some("Succeeded") => "The pod has completed successfully.",
        Some("Failed") => "The pod failed.",
        _ => return Value::Null,
    };
    let reason = object.str_at("status.phase").unwrap_or_default();
    value!([{"type": "Completed", "status": "True", "reason": reason, "message": message}])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: Value, expected: [&str; 3]) {
        let cells = pod(&object, 1_000);
        let texts: Vec<&str> = cells[..3].iter().map(|c| c.as_str().unwrap()).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn status_of_a_pod() {
        let spec = value!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        check(value!({"spec": (&spec), "status": {"phase": "Pending"}}), ["0/2", "Pending", "0"]);
        check(
            value!({"spec": (&spec), "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"running": {}}}]}}),
            ["0/2", "Init:0/2", "1"],
        );
        check(
            value!({"spec": (&spec), "status": {"phase": "Running", "initContainerStatuses": [
                {"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}}],
                "containerStatuses": [{"name": "a", "restartCount": 2, "ready": true, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "1970-01-01T00:16:00Z"}}}]}}),
            ["2/2", "Running", "3 (40s ago)"],
        );
        check(
            value!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running", "containerStatuses": [
                {"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
            ["0/1", "CrashLoopBackOff", "0"],
        );
        check(
            value!({"metadata": {"deletionTimestamp": "x"}, "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running"}}),
            ["0/1", "Terminating", "0"],
        );
        check(
            value!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Failed", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 3}}}]}}),
            ["0/1", "ExitCode:3", "0"],
        );
    }
}
