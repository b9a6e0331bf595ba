//! Containers and sandboxes from their start to their end.

use serde_json::{Value, json};
use shim::{ContainerPhase, Error, ErrorKind, Event};

use crate::support::{PATIENCE, exit_of, fixtures, wait_for_log};

#[tokio::test]
async fn a_container_from_creation_to_deletion() {
    for f in fixtures() {
        let shim = f.start().await;
        let (state, mut events) = shim.subscribe().await.unwrap();
        assert!(state.ready && state.containers.is_empty());
        let id = f.id("c");
        let request = f.bundle("c", "echo out; echo err >&2; printf begun; exit 7", |_| {});
        let created = shim.create_container(request.clone()).await.unwrap();
        assert_eq!(created.phase, ContainerPhase::Created);
        assert!(created.pid > 0 && created.created_at_ns > 0);
        assert!(created.cgroups.values().all(|dir| dir.exists()) && !created.cgroups.is_empty());
        let error = shim.create_container(request).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::AlreadyExists));
        let started = shim.start_container(&id).await.unwrap();
        assert!(started.started_at_ns > 0);
        let exit = exit_of(&mut events, &id).await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
        let line = |stream: &str, tag: &str, text: &str| (stream.into(), tag.into(), text.into());
        let mut log = f.log("c");
        log.sort();
        let expected = [line("stderr", "F", "err"), line("stdout", "F", "out"), line("stdout", "P", "begun")];
        assert_eq!(log, expected, "{:?}", f.runtime);
        let file = shim.dir().join("containers").join(&id).join("state.json");
        let stored: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!((&stored["phase"], &stored["exit"]["code"]), (&json!("exited"), &json!(7)));
        assert_eq!(shim.start_container(&id).await.unwrap_err().kind(), Some(ErrorKind::FailedPrecondition));
        shim.kill(&id, 15, false).await.unwrap();
        let last = shim.delete_container(&id, false).await.unwrap();
        assert_eq!(last.exit, Some(exit));
        assert!(!file.exists() && created.cgroups.values().all(|dir| !dir.exists()));
        assert!(shim.delete_container(&id, false).await.unwrap_err().is_not_found());
        shim.shutdown().await.unwrap();
        assert!(events.next().await.is_none());
        assert!(matches!(shim.state().await, Err(Error::Gone { .. })));
    }
}

#[tokio::test]
async fn programs_that_are_missing_are_named() {
    for f in fixtures() {
        let shim = f.start().await;
        let request = f.bundle("c", "", |s| s["process"]["args"] = json!(["nope"]));
        let error = match shim.create_container(request).await {
            Err(error) => error,
            Ok(_) => shim.start_container(&f.id("c")).await.unwrap_err(),
        };
        assert_eq!(error.kind(), Some(ErrorKind::Runtime));
        let text = error.to_string();
        assert!(text.contains("nope") && text.contains("executable file"), "{text}");
        if f.runtime.len() == 2 {
            let expected = "OCI runtime create failed: unable to start container process: \
                            exec: \"nope\": executable file not found in $PATH";
            assert_eq!(text, expected);
            assert!(shim.state().await.unwrap().containers.is_empty());
        }
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_container_is_seen_at_once() {
    for f in fixtures() {
        let shim = f.start().await;
        let (_, mut events) = shim.subscribe().await.unwrap();
        let script = "trap 'exit 4' TERM; echo ready; sleep 1000 & wait";
        for (name, signal, code) in [("a", 15, 4), ("b", 9, 137)] {
            let mut request = f.bundle(name, script, |_| {});
            request.stdin = true;
            let state = f.run(&shim, request).await;
            wait_for_log(&f, name, "ready").await;
            if signal == 9 {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(state.pid), nix::sys::signal::SIGKILL)
                    .unwrap();
            } else {
                shim.kill(&f.id(name), signal, false).await.unwrap();
            }
            let exit = exit_of(&mut events, &f.id(name)).await;
            assert_eq!((exit.code, exit.signal), (code, (signal == 9).then_some(9)));
        }
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn want_of_memory_is_told() {
    for f in fixtures() {
        let shim = f.start().await;
        let (_, mut events) = shim.subscribe().await.unwrap();
        let script = "head -c 300m /dev/zero | tail; exit 1";
        let request = f.bundle("c", script, |s| {
            s["linux"]["resources"]["memory"] = json!({"limit": 24 << 20, "swap": 24 << 20});
        });
        f.run(&shim, request).await;
        assert!(exit_of(&mut events, &f.id("c")).await.oom_killed, "{:?}", f.runtime);
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn namespaces_are_the_pods() {
    for f in fixtures() {
        let mut config = f.config();
        config.shared_pid = true;
        config.sysctls = [("kernel.shmmax".to_owned(), "54321".to_owned())].into();
        let shim = f.start_with(&config).await;
        let (state, mut events) = shim.subscribe().await.unwrap();
        let path = |path: &Option<std::path::PathBuf>| json!(path.as_ref().unwrap());
        let join = |s: &mut Value| {
            s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"},
                {"type": "pid", "path": path(&state.pid_ns)}, {"type": "ipc", "path": path(&state.ipc_ns)},
                {"type": "uts", "path": path(&state.uts_ns)}]);
        };
        f.run(&shim, f.bundle("a", "sleep 1234", join)).await;
        let script =
            "hostname; cat /proc/sys/kernel/shmmax; ps | grep -c '[s]leep 1234'; ls /proc/1/root/ | wc -l";
        f.run(&shim, f.bundle("b", script, join)).await;
        exit_of(&mut events, &f.id("b")).await;
        let lines: Vec<(String, String)> = f.log("b").into_iter().map(|(s, _, t)| (s, t)).collect();
        let out: Vec<&str> = lines.iter().filter(|(s, _)| s == "stdout").map(|(_, t)| t.as_str()).collect();
        assert_eq!(out, ["pod", "54321", "1", "0"], "{:?}", f.runtime);
        // The namespace's first process is the sandbox: without it nothing runs.
        let pid_ns = state.pid_ns.unwrap();
        let init: i32 = pid_ns.iter().nth(2).unwrap().to_str().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::SIGKILL).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.push(match tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap() {
                Event::ContainerExited { exit, .. } => format!("exit {}", exit.code),
                Event::SandboxDown { .. } => "down".to_owned(),
            });
        }
        seen.sort();
        assert_eq!(seen, ["down", "exit 137"]);
        assert!(!shim.state().await.unwrap().ready);
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn limits_are_updated() {
    for f in fixtures() {
        let shim = f.start().await;
        let state = f.run(&shim, f.bundle("c", "sleep 1000", |_| {})).await;
        shim.update_container(&f.id("c"), json!({"pids": {"limit": 44}})).await.unwrap();
        let dir = state.cgroups.get("pids").or_else(|| state.cgroups.get("")).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "44");
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn shutdown_ends_everything() {
    for f in fixtures() {
        let shim = f.start().await;
        let a = f.run(&shim, f.bundle("a", "sleep 1000", |_| {})).await;
        let b = shim.create_container(f.bundle("b", "sleep 1000", |_| {})).await.unwrap();
        shim.shutdown().await.unwrap();
        for state in [a, b] {
            assert!(state.cgroups.values().all(|dir| !dir.exists()), "{:?}", f.runtime);
        }
        shim.shutdown().await.unwrap();
    }
}
