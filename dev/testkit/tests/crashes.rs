//! What survives crashes: answered writes, running pods, and the will of whoever deployed them.

#![allow(clippy::unwrap_used)] // a story ends at the first thing that goes wrong

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::{Cluster, busybox, can_run, wait_until};

fn kill(pid: i32) {
    // SAFETY: a plain system call; the process is one that this story started.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0, "process {pid} was there");
}

fn import(cluster: &Cluster) {
    let image = busybox(cluster.folder(), "example.local/sleep:v1", &[], &["/bin/sleep", "100000"]);
    cluster.import(&image);
}

/// The host's process id of a pod's only container.
fn container_pid(cluster: &Cluster, pod: &str) -> i32 {
    let uid = cluster.k(&format!("get pod {pod} -o jsonpath={{.metadata.uid}}"));
    let mark = format!("pod{uid}");
    let found = processes()
        .into_iter()
        .find(|(_, cgroups, command)| cgroups.contains(&mark) && command.starts_with("/bin/sleep"));
    found.unwrap_or_else(|| panic!("no process of {pod}")).0
}

fn processes() -> Vec<(i32, String, String)> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_string_lossy().parse().ok()?;
        let read = |file: &str| {
            std::fs::read(entry.path().join(file))
                .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        };
        Some((pid, read("cgroup").ok()?, read("cmdline").ok()?))
    })
    .collect()
}

/// The shim that a process descends from.
fn shim_of(mut pid: i32) -> i32 {
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent =
            status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        let command = std::fs::read_to_string(format!("/proc/{parent}/cmdline")).unwrap();
        if command.contains("shim") {
            return parent;
        }
        assert!(parent > 1, "no shim above");
        pid = parent;
    }
}

/// ConfigMaps written one after another until told to stop; those that were answered.
fn write_load(cluster: &Arc<Cluster>, stop: &Arc<AtomicBool>) -> thread::JoinHandle<Vec<String>> {
    let (cluster, stop) = (cluster.clone(), stop.clone());
    thread::spawn(move || {
        let mut answered = Vec::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("load-{number}");
            let output = cluster
                .kubectl(&["create", "configmap", &name, "--from-literal=a=b", "--request-timeout=2s"])
                .output();
            if output.status.success() {
                answered.push(name);
            }
        }
        answered
    })
}

#[test]
fn a_killed_server_loses_no_answered_write_and_no_pod() {
    if !can_run() {
        return;
    }
    let cluster = Arc::new(Cluster::up());
    import(&cluster);
    cluster.k("create deployment steady --image=example.local/sleep:v1 --replicas=2");
    cluster.k("rollout status deployment steady --timeout=60s");
    let names = cluster.k("get pods -l app=steady -o jsonpath={.items[*].metadata.name}");
    let pods: Vec<&str> = names.split(' ').collect();
    let before: Vec<i32> = pods.iter().map(|pod| container_pid(&cluster, pod)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let load = write_load(&cluster, &stop);
    wait_until("some writes are answered", || {
        let written = cluster.k("get configmaps -o name");
        if written.contains("load-5") { Ok(()) } else { Err(written) }
    });
    kill(cluster.server_pid());
    stop.store(true, Ordering::Relaxed);
    let answered = load.join().unwrap();
    assert!(answered.len() > 4, "{answered:?}");
    for pid in &before {
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "the pods run without the server");
    }
    cluster.start().ok();
    let kept = cluster.k("get configmaps -o name");
    for name in &answered {
        assert!(
            kept.lines().any(|line| line == format!("configmap/{name}")),
            "{name} was answered and is gone"
        );
    }
    cluster.k("rollout status deployment steady --timeout=60s");
    let after: Vec<i32> = pods.iter().map(|pod| container_pid(&cluster, pod)).collect();
    assert_eq!(after, before, "the same processes go on");
    let restarts =
        cluster.k("get pods -l app=steady -o jsonpath={.items[*].status.containerStatuses[*].restartCount}");
    assert_eq!(restarts, "0 0");
    cluster.k("scale deployment steady --replicas=3");
    cluster.k("rollout status deployment steady --timeout=60s");
}

#[test]
fn a_killed_container_and_a_killed_shim_are_replaced_by_policy() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    import(&cluster);
    cluster.k("run kept --image=example.local/sleep:v1 --restart=Always");
    cluster.k("run once --image=example.local/sleep:v1 --restart=Never");
    cluster.k("wait --for=condition=Ready pod/kept pod/once --timeout=60s");
    kill(container_pid(&cluster, "kept"));
    kill(container_pid(&cluster, "once"));
    cluster.until("get pod kept -o jsonpath={.status.containerStatuses[0].restartCount}", "1");
    cluster.k("wait --for=condition=Ready pod/kept --timeout=60s");
    cluster.until("get pod once -o jsonpath={.status.phase}", "Failed");
    assert_eq!(
        cluster.k("get pod once -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"),
        "137"
    );
    let old = container_pid(&cluster, "kept");
    kill(shim_of(old));
    wait_until("another process runs for the pod", || {
        let ready = cluster.k("get pod kept -o jsonpath={.status.containerStatuses[0].ready}{.status.containerStatuses[0].restartCount}");
        if ready == "true2" { Ok(()) } else { Err(ready) }
    });
    assert_ne!(container_pid(&cluster, "kept"), old);
    // Whether a dead orphan is reaped is up to the machine's init.
    let state = std::fs::read_to_string(format!("/proc/{old}/status")).unwrap_or_default();
    assert!(state.is_empty() || state.contains("State:\tZ"), "the old process is gone\n{state}");
}
