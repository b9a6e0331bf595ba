//! Tables for [`super::plan`].

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::backoff::Backoffs;
use super::plan::{Inputs, plan};
use crate::cri::labels::{ContainerMeta, definition_hash};
use crate::cri::{ContainerRecord, ContainerState, Observed, SandboxRecord};
use crate::probes::{ProbeResults, ResultMap, Verdict};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn pod(policy: &str, init: &[&str], app: &[&str]) -> Pod {
    let container = |name: &&str| -> Value {
        let plain = name.trim_end_matches(['+', '?']);
        let mut value = json!({"name": plain, "image": "i"});
        if name.contains('+') {
            value["restartPolicy"] = "Always".into();
        }
        if name.contains('?') {
            value["startupProbe"] = json!({});
        }
        value
    };
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": init.iter().map(container).collect::<Vec<_>>(),
            "containers": app.iter().map(container).collect::<Vec<_>>(),
        },
    }))
    .unwrap()
}

/// `a:running`, `a:exit0`, `a:exit1`, `a:created`, newest first; `s0:ready`, `s0:dead` are sandboxes.
fn observed(pod: &Pod, text: &str) -> Observed {
    let mut observed = Observed::default();
    for item in text.split_whitespace() {
        let (name, state) = item.split_once(':').unwrap();
        if let Some(attempt) = name.strip_prefix('s').and_then(|n| n.parse().ok()) {
            observed.sandboxes.push(SandboxRecord {
                id: name.to_owned(),
                attempt,
                ready: state == "ready",
                created_at: now(),
                ips: vec!["10.0.0.1".to_owned()],
            });
            continue;
        }
        let definition = super::spec::find_container(pod, name).unwrap();
        let restart_count = observed.all_of(name).count() as u32;
        observed.containers.push(ContainerRecord {
            id: format!("{name}-id"),
            name: name.to_owned(),
            sandbox_id: observed.sandboxes.first().map_or(String::new(), |s| s.id.clone()),
            state: match state {
                "running" => ContainerState::Running,
                "created" => ContainerState::Created,
                "unknown" => ContainerState::Unknown,
                _ => ContainerState::Exited,
            },
            created_at: now(),
            started_at: now(),
            finished_at: now() - Duration::from_secs(4),
            exit_code: state.strip_prefix("exit").map_or(0, |code| code.parse().unwrap()),
            image: "i".to_owned(),
            image_ref: "i".to_owned(),
            reason: String::new(),
            message: String::new(),
            meta: ContainerMeta {
                hash: definition_hash(&definition.container),
                restart_count,
                ..ContainerMeta::default()
            },
            log_path: String::new(),
            message_file: None,
            user: None,
        });
    }
    observed
}

fn run(pod: &Pod, observed: &Observed, probes: &ResultMap) -> String {
    let inputs = Inputs {
        pod,
        observed,
        probes,
        backoffs: &Backoffs::new(Duration::from_secs(300)),
        holds: &HashMap::new(),
        now: now(),
    };
    describe(&inputs)
}

fn describe(inputs: &Inputs<'_>) -> String {
    use super::plan::Action;
    let plan = plan(inputs);
    let words = plan.actions.iter().map(|action| match action {
        Action::KillPod => "kill-pod".to_owned(),
        Action::CreateSandbox { attempt } => format!("sandbox{attempt}"),
        Action::Kill { name, cause, .. } => format!("kill {name} {cause:?}"),
        Action::Start { name, restart_count, .. } => format!("start {name}#{restart_count}"),
        Action::BackOff { name, pause } => format!("backoff {name} {}s", pause.as_secs()),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn app_containers() {
    for (policy, seen, expected) in [
        ("Always", "", "sandbox0, start a#0, start b#0"),
        ("Always", "s0:ready", "start a#0, start b#0"),
        ("Always", "s0:ready a:running", "start b#0"),
        ("Always", "s0:ready a:running b:running", ""),
        ("Always", "s0:ready a:exit0 b:running", "start a#1"),
        ("OnFailure", "s0:ready a:exit0 b:running", ""),
        ("OnFailure", "s0:ready a:exit3 b:running", "start a#1"),
        ("Never", "s0:ready a:exit3 b:running", ""),
        ("Never", "s0:ready a:exit0 b:exit0", "kill-pod"),
        ("Never", "s0:dead a:exit0 b:exit0", ""),
        ("OnFailure", "s0:ready a:exit0 b:exit0", "kill-pod"),
        ("Always", "s0:dead a:exit137 b:exit137", "sandbox1, start a#1, start b#1"),
        ("OnFailure", "s0:dead a:exit0 b:exit137", "sandbox1, start b#1"),
        ("Never", "s0:dead a:exit137 b:exit137", ""),
        ("Always", "s0:dead a:running", "kill-pod, sandbox1, start a#1, start b#0"),
        ("Always", "s0:ready a:created b:running", "start a#1"),
        ("Always", "s0:ready a:unknown b:running", "kill a Unknown"),
        ("Always", "s1:ready s0:ready", "kill-pod, sandbox2, start a#0, start b#0"),
    ] {
        let pod = pod(policy, &[], &["a", "b"]);
        assert_eq!(run(&pod, &observed(&pod, seen), &ResultMap::new()), expected, "{policy} {seen}");
    }
}

#[test]
fn init_containers_run_one_after_the_other() {
    for (policy, seen, expected) in [
        ("Always", "", "sandbox0, start i#0"),
        ("Always", "s0:ready", "start i#0"),
        ("Always", "s0:ready i:running", ""),
        ("Always", "s0:ready i:exit0", "start j#0"),
        ("Always", "s0:ready i:exit0 j:running", ""),
        ("Always", "s0:ready i:exit0 j:exit0", "start a#0"),
        ("Always", "s0:ready j:exit0", "start a#0"),
        ("Always", "s0:ready i:exit1", "start i#1"),
        ("Never", "s0:ready i:exit1", "kill-pod"),
        ("Always", "s0:ready i:exit0 j:exit0 a:running", ""),
        ("Always", "s0:ready a:exit1", "start a#1"),
        ("Always", "s0:dead i:exit0 j:exit0 a:exit1", "sandbox1, start i#1"),
        ("Never", "s0:dead i:exit0 j:exit0 a:exit1", ""),
        ("Never", "s0:dead i:exit1", ""),
    ] {
        let pod = pod(policy, &["i", "j"], &["a"]);
        assert_eq!(run(&pod, &observed(&pod, seen), &ResultMap::new()), expected, "{policy} {seen}");
    }
}

#[test]
fn sidecars_start_in_order_and_stay_up() {
    for (seen, expected) in [
        ("s0:ready", "start s#0"),
        ("s0:ready s:running", "start i#0"),
        ("s0:ready s:running i:running", ""),
        ("s0:ready s:exit1 i:running", "start s#1"),
        ("s0:ready s:running i:exit0", "start t#0"),
        ("s0:ready s:running i:exit0 t:running", "start a#0"),
        ("s0:ready s:running i:exit0 t:running a:running", ""),
        ("s0:ready s:exit0 i:exit0 t:running a:running", "start s#1"),
        ("s0:ready s:running t:running a:exit0", "kill-pod"),
    ] {
        let pod = pod("OnFailure", &["s+", "i", "t+"], &["a"]);
        assert_eq!(run(&pod, &observed(&pod, seen), &ResultMap::new()), expected, "{seen}");
    }
}

#[test]
fn probes_decide() {
    let pod = pod("Always", &["s+?"], &["a"]);
    let probes = |name: &str, results: ProbeResults| ResultMap::from([(format!("{name}-id"), results)]);
    let started = ProbeResults { startup: Some(Verdict::Success), ..Default::default() };
    let dead = ProbeResults { liveness: Some(Verdict::Failure), ..started };
    let stuck = ProbeResults { startup: Some(Verdict::Failure), ..Default::default() };
    for (seen, results, expected) in [
        ("s0:ready s:running", ResultMap::new(), ""),
        ("s0:ready s:running", probes("s", started), "start a#0"),
        ("s0:ready s:running", probes("s", stuck), "kill s Startup"),
        ("s0:ready s:running a:running", probes("s", dead), "kill s Liveness"),
        ("s0:ready s:running a:running", probes("a", dead), "kill a Liveness"),
        ("s0:ready s:running a:running", probes("a", stuck), "kill a Startup"),
    ] {
        assert_eq!(run(&pod, &observed(&pod, seen), &results), expected, "{seen} {results:?}");
    }
}

#[test]
fn a_changed_image_replaces_the_container() {
    let pod = pod("Always", &[], &["a"]);
    let mut observed = observed(&pod, "s0:ready a:running");
    observed.containers[0].meta.hash = "other".to_owned();
    assert_eq!(run(&pod, &observed, &ResultMap::new()), "kill a Changed");
}

#[test]
fn crashing_containers_wait() {
    let pod = pod("Always", &[], &["a"]);
    let observed = observed(&pod, "s0:ready a:exit1");
    let mut backoffs = Backoffs::new(Duration::from_secs(300));
    let key = super::plan::backoff_key(&super::spec::spec(&pod).containers[0]);
    backoffs.next(&key, now() - Duration::from_secs(4));
    let (probes, holds) = (ResultMap::new(), HashMap::new());
    let mut inputs = Inputs {
        pod: &pod,
        observed: &observed,
        probes: &probes,
        backoffs: &backoffs,
        holds: &holds,
        now: now(),
    };
    assert_eq!(describe(&inputs), "backoff a 10s");
    assert_eq!(plan(&inputs).wake_after, Some(Duration::from_secs(6)));
    inputs.now += Duration::from_secs(6);
    assert_eq!(describe(&inputs), "start a#1");
}

#[test]
fn what_could_not_be_started_waits_too() {
    let pod = pod("Always", &[], &["a", "b"]);
    let observed = observed(&pod, "s0:ready");
    let holds = HashMap::from([("a".to_owned(), now() + Duration::from_secs(7))]);
    let (probes, backoffs) = (ResultMap::new(), Backoffs::new(Duration::from_secs(300)));
    let inputs = Inputs {
        pod: &pod,
        observed: &observed,
        probes: &probes,
        backoffs: &backoffs,
        holds: &holds,
        now: now(),
    };
    assert_eq!(describe(&inputs), "start b#0");
    assert_eq!(plan(&inputs).wake_after, Some(Duration::from_secs(7)));
}
