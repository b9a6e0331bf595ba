//! Pods on a node whose API server and runtime are in memory.

#[allow(dead_code, clippy::unwrap_used)]
mod common;

use common::{Node, is_ready};
use serde_json::json;

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}], "terminationGracePeriodSeconds": 5}));
    let pod = node.api.until(&path, |pod| pod.is_some_and(is_ready)).await.unwrap();
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["qosClass"]), (&json!("Running"), &json!("BestEffort")));
    assert_eq!((&status["hostIP"], &status["podIPs"]), (&json!("127.0.0.1"), &json!([{"ip": "10.1.0.1"}])));
    let container = &status["containerStatuses"][0];
    assert_eq!((&container["ready"], &container["restartCount"]), (&json!(true), &json!(0)));
    assert!(container["containerID"].as_str().unwrap().starts_with("fake://c"));
    let config = node.runtime.config("c");
    let env = |name: &str| config.envs.iter().find(|e| e.key == name).map(|e| e.value.clone());
    assert_eq!(env("KUBERNETES_SERVICE_HOST").as_deref(), Some("10.96.0.1"));
    assert!(config.mounts.iter().any(|m| m.container_path == "/etc/hosts"));
    node.api.delete(&path, 5);
    node.api.until(&path, |pod| pod.is_none()).await;
    assert_eq!(node.runtime.running(), 0);
    let reasons = node.api.event_reasons();
    for reason in ["Pulled", "Created", "Started"] {
        assert!(reasons.contains(&reason.to_owned()), "{reason} in {reasons:?}");
    }
}

#[tokio::test]
async fn statuses_are_not_written_twice() {
    let node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}]}));
    node.api.until(&path, |pod| pod.is_some_and(is_ready)).await;
    let patches = node.api.requests().iter().filter(|r| **r == format!("PATCH {path}/status")).count();
    // Pending, sandbox ready, Running; some of them may be one.
    assert!((1..=3).contains(&patches), "{patches}");
}

/// Controllers and upstream's conformance tests fail pods by writing so.
#[tokio::test]
async fn a_pod_that_others_say_has_failed_is_ended() {
    let node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}]}));
    let mut pod = node.until_phase(&path, "Running").await;
    pod["status"]["phase"] = json!("Failed");
    node.api.put(&path, pod);
    let is_ended = |pod: Option<&serde_json::Value>| {
        pod.is_some_and(|p| p["status"]["containerStatuses"][0]["state"].get("terminated").is_some())
    };
    let pod = node.api.until(&path, is_ended).await.unwrap();
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(node.runtime.running(), 0);
}

#[tokio::test]
async fn a_container_that_ends_is_started_again_and_then_backs_off() {
    let node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}]}));
    node.until_phase(&path, "Running").await;
    node.runtime.exit("c", 3);
    let restarted = |pod: Option<&serde_json::Value>| {
        pod.is_some_and(|p| p["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(p))
    };
    let pod = node.api.until(&path, restarted).await.unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    node.runtime.exit("c", 3);
    let pod = node.until_waiting(&path, "CrashLoopBackOff").await;
    assert_eq!(pod["status"]["phase"], "Running");
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=web_default("), "{message}");
}

#[tokio::test]
async fn a_pod_that_does_not_restart_succeeds_or_fails() {
    let node = Node::start().await;
    let spec = json!({"containers": [{"name": "c"}], "restartPolicy": "Never"});
    for (name, code, phase) in [("good", 0, "Succeeded"), ("bad", 7, "Failed")] {
        let path = node.pod(name, spec.clone());
        node.until_phase(&path, "Running").await;
        node.runtime.exit("c", code);
        let pod = node.until_phase(&path, phase).await;
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], code);
        node.api.delete(&path, 1);
        node.api.until(&path, |pod| pod.is_none()).await;
    }
}

#[tokio::test]
async fn init_containers_come_first() {
    let node = Node::start().await;
    let spec =
        json!({"initContainers": [{"name": "i", "image": "busybox:1"}], "containers": [{"name": "c"}]});
    let path = node.pod("web", spec);
    let waits = node.until_waiting(&path, "PodInitializing").await;
    assert_eq!(waits["status"]["phase"], "Pending");
    node.api
        .until(&path, |p| {
            p.is_some_and(|p| p["status"]["initContainerStatuses"][0]["state"]["running"].is_object())
        })
        .await;
    node.runtime.exit("i", 0);
    let pod = node.api.until(&path, |pod| pod.is_some_and(is_ready)).await.unwrap();
    assert_eq!(pod["status"]["initContainerStatuses"][0]["ready"], true);
}

#[tokio::test]
async fn a_new_kubelet_finds_the_containers_of_the_old_one() {
    let mut node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}]}));
    let before = node.api.until(&path, |pod| pod.is_some_and(is_ready)).await.unwrap();
    node.stop().await;
    let calls = node.runtime.calls();
    node.run(|_| {});
    node.pod("other", json!({"containers": [{"name": "o"}]}));
    node.until_phase("/api/v1/namespaces/default/pods/other", "Running").await;
    let after = node.api.get(&path).unwrap();
    assert_eq!(before["status"], after["status"]);
    let new: Vec<_> = node.runtime.calls().split_off(calls.len());
    assert_eq!(new.iter().filter(|c| *c == "StartContainer").count(), 1, "{new:?}");
}

#[tokio::test]
async fn pods_deleted_while_no_kubelet_ran_are_removed() {
    let mut node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}]}));
    node.until_phase(&path, "Running").await;
    node.stop().await;
    node.api.delete(&path, 0);
    node.run(|_| {});
    node.pod("other", json!({"containers": [{"name": "o"}]}));
    node.until_phase("/api/v1/namespaces/default/pods/other", "Running").await;
    while node.runtime.sandboxes() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.runtime.running(), 1);
}

#[tokio::test]
async fn a_runtime_without_events_is_listed() {
    let node = Node::start_with(false, |_| {}).await;
    let path = node.pod("job", json!({"containers": [{"name": "c"}], "restartPolicy": "Never"}));
    node.until_phase(&path, "Running").await;
    node.runtime.exit("c", 0);
    node.until_phase(&path, "Succeeded").await;
}

#[tokio::test]
async fn images_that_are_missing_are_told() {
    let node = Node::start().await;
    let path = node.pod("web", json!({"containers": [{"name": "c", "image": "missing:1"}]}));
    let pod = node.until_waiting(&path, "ErrImagePull").await;
    assert_eq!(pod["status"]["phase"], "Pending");
    let never = json!({"containers": [{"name": "c", "image": "missing:1", "imagePullPolicy": "Never"}]});
    node.until_waiting(&node.pod("never", never), "ErrImageNeverPull").await;
    let invalid = json!({"containers": [{"name": "c", "image": "No Image"}]});
    node.until_waiting(&node.pod("invalid", invalid), "InvalidImageName").await;
    let unstartable = json!({"containers": [{"name": "c", "command": ["unstartable"]}]});
    node.until_waiting(&node.pod("unstartable", unstartable), "RunContainerError").await;
    let pulled = node.pod("pulled", json!({"containers": [{"name": "c", "image": "elsewhere/app:2"}]}));
    node.until_phase(&pulled, "Running").await;
}

#[tokio::test]
async fn a_missing_config_map_is_waited_for() {
    let node = Node::start().await;
    let env = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]);
    let path = node.pod("web", json!({"containers": [{"name": "c", "env": env}]}));
    let pod = node.until_waiting(&path, "CreateContainerConfigError").await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "configmap \"cm\" not found");
    node.api.put("/api/v1/namespaces/default/configmaps/cm", json!({"metadata": {}, "data": {"k": "v"}}));
    node.until_phase(&path, "Running").await;
    assert!(node.runtime.config("c").envs.iter().any(|e| e.key == "K" && e.value == "v"));
}

#[tokio::test]
async fn readiness_and_liveness_probes_count() {
    let node = Node::start().await;
    node.runtime.set_command("ready", 1);
    let probe =
        |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"containers": [
        {"name": "c", "readinessProbe": probe("ready"), "livenessProbe": probe("live")}]});
    let path = node.pod("web", spec);
    let pod = node.until_phase(&path, "Running").await;
    assert!(!is_ready(&pod));
    node.runtime.set_command("ready", 0);
    node.api.until(&path, |pod| pod.is_some_and(is_ready)).await;
    node.runtime.set_command("live", 1);
    node.api
        .until(&path, |p| p.is_some_and(|p| p["status"]["containerStatuses"][0]["restartCount"] == 1))
        .await;
    let reasons = node.api.event_reasons();
    assert!(
        reasons.contains(&"Unhealthy".to_owned()) && reasons.contains(&"Killing".to_owned()),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn pods_that_do_not_fit_are_refused() {
    let node = Node::start().await;
    let resources = json!({"requests": {"cpu": "100000"}});
    let path = node.pod("big", json!({"containers": [{"name": "c", "resources": resources}]}));
    let pod = node.until_phase(&path, "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    assert_eq!(node.runtime.sandboxes(), 0);
}

#[tokio::test]
async fn a_pod_with_a_deadline_fails_at_it() {
    let node = Node::start().await;
    let path = node.pod("late", json!({"containers": [{"name": "c"}], "activeDeadlineSeconds": 1}));
    let pod = node.until_phase(&path, "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_end() {
    let node = Node::start().await;
    let hook = |command: &str| json!({"exec": {"command": [command]}});
    let lifecycle = json!({"postStart": hook("up"), "preStop": hook("down")});
    let path = node.pod("web", json!({"containers": [{"name": "c", "lifecycle": lifecycle}]}));
    node.until_phase(&path, "Running").await;
    node.api.delete(&path, 5);
    node.api.until(&path, |pod| pod.is_none()).await;
    let calls = node.runtime.calls();
    let at = |name: &str| calls.iter().position(|c| c == name).unwrap();
    let hooks: Vec<usize> = (0..calls.len()).filter(|i| calls[*i] == "ExecSync").collect();
    assert_eq!(hooks.len(), 2, "{calls:?}");
    assert!(at("StartContainer") < hooks[0] && hooks[1] < at("StopContainer"), "{calls:?}");
    assert!(at("StopContainer") < at("StopPodSandbox"));
}

#[tokio::test]
async fn a_failed_start_hook_ends_the_container() {
    let node = Node::start().await;
    node.runtime.set_command("up", 1);
    let lifecycle = json!({"postStart": {"exec": {"command": ["up"]}}});
    let path = node.pod("web", json!({"containers": [{"name": "c", "lifecycle": lifecycle}]}));
    node.until_waiting(&path, "PostStartHookError").await;
    assert!(node.api.event_reasons().contains(&"FailedPostStartHook".to_owned()));
}

#[tokio::test]
async fn a_resize_is_done_in_place_or_refused_clearly() {
    let node = Node::start().await;
    let spec = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    let path = node.pod("web", spec("100m"));
    node.until_phase(&path, "Running").await;
    let mut pod = node.api.get(&path).unwrap();
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "200m".into();
    pod["metadata"]["generation"] = 2.into();
    node.api.put(&path, pod);
    let has = |pod: Option<&serde_json::Value>| {
        let status = pod.map(|pod| pod["status"]["containerStatuses"][0].clone()).unwrap_or_default();
        status["resources"]["requests"]["cpu"] == "200m" && status["allocatedResources"]["cpu"] == "200m"
    };
    let mut pod = node.api.until(&path, has).await.unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100000".into();
    pod["metadata"]["generation"] = 3.into();
    node.api.put(&path, pod);
    let refused = |pod: Option<&serde_json::Value>| {
        let conditions = pod.and_then(|p| p["status"]["conditions"].as_array());
        conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible")
    };
    let pod = node.api.until(&path, refused).await.unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"], "200m");
}

#[tokio::test]
async fn what_cannot_be_given_is_said() {
    let node = Node::start().await;
    node.pod("web", json!({"containers": [{"name": "c"}], "hostUsers": false}));
    node.pod("class", json!({"containers": [{"name": "c"}], "runtimeClassName": "none"}));
    let told = || node.api.event_reasons().iter().filter(|r| *r == "FailedCreatePodSandBox").count();
    while told() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.runtime.sandboxes(), 0);
}

#[tokio::test]
async fn a_pod_deleted_by_force_holds_no_place() {
    let node = Node::start().await;
    let spec = |name: &str| json!({"containers": [{"name": name, "ports": [{"containerPort": 80, "hostPort": 8080}]}]});
    let path = node.pod("first", spec("a"));
    node.until_phase(&path, "Running").await;
    node.api.delete(&path, 0);
    let path = node.pod("second", spec("b"));
    node.until_phase(&path, "Running").await;
}
