//! Tables for phases, conditions and container statuses.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Ending, StartError, StatusInputs, compute};
use crate::cri::labels::ContainerMeta;
use crate::cri::{ContainerRecord, ContainerState, Observed, SandboxRecord};
use crate::probes::{ProbeResults, ResultMap, Verdict};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn pod(policy: &str, init: Value, app: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {"restartPolicy": policy, "initContainers": init, "containers": app},
    }))
    .unwrap()
}

fn record(name: &str, state: &str, attempt: u32) -> ContainerRecord {
    let exited = state.strip_prefix("exit").map(|code| code.parse().unwrap());
    ContainerRecord {
        id: format!("{name}{attempt}"),
        name: name.to_owned(),
        sandbox_id: "s".to_owned(),
        state: if exited.is_some() { ContainerState::Exited } else { ContainerState::Running },
        created_at: now(),
        started_at: now(),
        finished_at: now(),
        exit_code: exited.unwrap_or(0),
        image: "i".to_owned(),
        image_ref: "sha".to_owned(),
        reason: String::new(),
        message: String::new(),
        meta: ContainerMeta { restart_count: attempt, ..ContainerMeta::default() },
        log_path: String::new(),
        message_file: None,
        user: None,
    }
}

/// `a:running a:exit1` newest first.
fn observed(text: &str) -> Observed {
    let sandbox = SandboxRecord {
        id: "s".to_owned(),
        attempt: 0,
        ready: true,
        created_at: now(),
        ips: vec!["10.0.0.1".to_owned()],
    };
    let mut observed = Observed { sandboxes: vec![sandbox], containers: Vec::new() };
    let items: Vec<_> = text.split_whitespace().map(|item| item.split_once(':').unwrap()).collect();
    for (index, (name, state)) in items.iter().enumerate() {
        let older = items[index + 1..].iter().filter(|(n, _)| n == name).count() as u32;
        observed.containers.push(record(name, state, older));
    }
    observed
}

struct Case {
    pod: Pod,
    base: Option<PodStatus>,
    observed: Observed,
    probes: ResultMap,
    errors: HashMap<String, StartError>,
    ending: Option<Ending>,
    stopping: bool,
    stopped: bool,
}

impl Case {
    fn new(pod: Pod, text: &str) -> Self {
        Self {
            pod,
            base: None,
            observed: observed(text),
            probes: ResultMap::new(),
            errors: HashMap::new(),
            ending: None,
            stopping: false,
            stopped: false,
        }
    }

    fn status(&self) -> PodStatus {
        compute(&StatusInputs {
            pod: &self.pod,
            base: self.base.as_ref(),
            observed: &self.observed,
            probes: &self.probes,
            errors: &self.errors,
            resize: None,
            host_ips: &["192.168.0.1".to_owned()],
            runtime_name: "corten",
            ending: self.ending.as_ref(),
            stopping: self.stopping,
            stopped: self.stopped,
            now: Time(now().try_into().unwrap()),
        })
    }
}

fn condition(status: &PodStatus, kind: &str) -> String {
    let c = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
    [Some(c.status.as_str()), c.reason.as_deref(), c.message.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

fn one() -> Value {
    json!([{"name": "a", "image": "i"}])
}

#[test]
fn phases() {
    for (policy, seen, expected) in [
        ("Always", "", "Pending"),
        ("Always", "a:running", "Pending"),
        ("Always", "a:running b:running", "Running"),
        ("Always", "a:running b:exit1", "Running"),
        ("Always", "a:exit0 b:exit0", "Running"),
        ("OnFailure", "a:exit0 b:exit1", "Running"),
        ("OnFailure", "a:exit0 b:exit0", "Succeeded"),
        ("Never", "a:exit0 b:exit1", "Failed"),
        ("Never", "a:exit0 b:running", "Running"),
    ] {
        let pod = pod(policy, json!([]), json!([{"name": "a"}, {"name": "b"}]));
        assert_eq!(Case::new(pod, seen).status().phase.as_deref(), Some(expected), "{policy} {seen}");
    }
}

#[test]
fn phases_with_init_containers() {
    let init = json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]);
    for (policy, seen, expected) in [
        ("Always", "i:running", "Pending"),
        ("Always", "i:exit1", "Pending"),
        ("Never", "i:exit1", "Failed"),
        ("Always", "i:exit0 s:running", "Pending"),
        ("Always", "i:exit0 s:running a:running", "Running"),
        ("Never", "i:exit0 s:exit137 a:exit0", "Succeeded"),
        ("Always", "a:running", "Running"),
    ] {
        let pod = pod(policy, init.clone(), one());
        assert_eq!(Case::new(pod, seen).status().phase.as_deref(), Some(expected), "{policy} {seen}");
    }
}

#[test]
fn conditions_say_what_is_missing() {
    let init = json!([{"name": "i"}]);
    let starting = Case::new(pod("Always", init.clone(), one()), "i:running").status();
    assert_eq!(
        condition(&starting, "Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [i]"
    );
    assert_eq!(condition(&starting, "Ready"), "False ContainersNotReady containers with unready status: [a]");
    assert_eq!(condition(&starting, "PodReadyToStartContainers"), "True");
    let running = Case::new(pod("Always", init.clone(), one()), "i:exit0 a:running").status();
    assert_eq!(
        (condition(&running, "Initialized"), condition(&running, "Ready")),
        ("True".into(), "True".into())
    );
    let done = Case::new(pod("Never", init, one()), "i:exit0 a:exit0").status();
    assert_eq!(condition(&done, "Ready"), "False PodCompleted");
    assert_eq!(condition(&done, "Initialized"), "True PodCompleted");
    assert!(done.conditions.iter().flatten().all(|c| c.observed_generation == Some(3)));
}

#[test]
fn readiness_follows_probes_and_gates() {
    let mut p = pod("Always", json!([]), json!([{"name": "a", "readinessProbe": {}}]));
    let mut case = Case::new(p.clone(), "a:running");
    assert_eq!(
        condition(&case.status(), "Ready"),
        "False ContainersNotReady containers with unready status: [a]"
    );
    let ready = ProbeResults { readiness: Some(Verdict::Success), ..Default::default() };
    case.probes.insert("a0".to_owned(), ready);
    assert_eq!(condition(&case.status(), "Ready"), "True");
    p.spec.as_mut().unwrap().readiness_gates =
        serde_json::from_value(json!([{"conditionType": "lb"}])).unwrap();
    case.pod = p;
    assert_eq!(
        condition(&case.status(), "Ready"),
        "False ReadinessGatesNotReady corresponding condition of pod readiness gate \"lb\" does not exist."
    );
    case.base = serde_json::from_value(json!({"conditions": [{"type": "lb", "status": "True"}]})).unwrap();
    let status = case.status();
    assert_eq!((condition(&status, "Ready"), condition(&status, "lb")), ("True".into(), "True".into()));
}

#[test]
fn transition_times_change_with_the_status_alone() {
    let mut case = Case::new(pod("Always", json!([]), one()), "a:running");
    let before = json!({"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}]});
    case.base = serde_json::from_value(before).unwrap();
    let status = serde_json::to_value(case.status()).unwrap();
    let since = |kind: &str| {
        let all = status["conditions"].as_array().unwrap();
        all.iter().find(|c| c["type"] == kind).unwrap()["lastTransitionTime"].as_str().unwrap().to_owned()
    };
    assert_eq!(since("Ready"), "2020-01-01T00:00:00Z");
    assert_eq!(since("ContainersReady"), "2023-11-14T22:13:20Z");
}

#[test]
fn container_states() {
    let mut case = Case::new(pod("Always", json!([]), one()), "a:exit1 a:exit2");
    let container =
        |case: &Case| serde_json::to_value(&case.status().container_statuses.unwrap()[0]).unwrap();
    let status = container(&case);
    assert_eq!(status["state"]["terminated"]["exitCode"], 1);
    assert_eq!(status["state"]["terminated"]["reason"], "Error");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!((&status["restartCount"], &status["containerID"]), (&json!(1), &json!("corten://a1")));
    let error = StartError { reason: "CrashLoopBackOff".to_owned(), message: "m".to_owned() };
    case.errors.insert("a".to_owned(), error);
    let status = container(&case);
    assert_eq!(status["state"], json!({"waiting": {"reason": "CrashLoopBackOff", "message": "m"}}));
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    case.observed.containers.clear();
    case.errors.clear();
    assert_eq!(container(&case)["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(container(&case)["lastState"], json!({}));
}

#[test]
fn containers_wait_for_the_init_containers_before_them() {
    let init = json!([{"name": "i1"}, {"name": "i2"}]);
    let status = Case::new(pod("Always", init, one()), "i1:exit1").status();
    let reason = |list: &Option<Vec<ContainerStatus>>, at: usize| {
        serde_json::to_value(&list.as_ref().unwrap()[at]).unwrap()["state"]["waiting"]["reason"].clone()
    };
    assert_eq!(reason(&status.init_container_statuses, 1), "PodInitializing");
    assert_eq!(reason(&status.container_statuses, 0), "PodInitializing");
}

#[test]
fn a_pod_that_is_over_has_no_running_containers() {
    let running = Case::new(pod("Always", json!([]), one()), "a:running").status();
    let mut case = Case::new(pod("Always", json!([]), one()), "");
    case.base = Some(running);
    case.stopping = true;
    case.stopped = true;
    let status = case.status();
    let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((state.exit_code, state.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn evicted_pods_say_why() {
    let mut case = Case::new(pod("Always", json!([]), one()), "a:running");
    case.ending =
        Some(Ending { reason: "Evicted".to_owned(), message: "low on memory".to_owned(), disruption: true });
    case.stopping = true;
    let status = case.status();
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    assert_eq!(condition(&status, "DisruptionTarget"), "True TerminationByKubelet low on memory");
}
