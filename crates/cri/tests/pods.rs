//! The life of pods, with real containers.

#![allow(clippy::unwrap_used)]

mod support;

use proto::cri::v1;
use support::pod::{IMAGE, Wish, sh};
use support::{Node, can_run_containers, mounts_below};
use tokio_stream::StreamExt;
use tonic::Code;

const FOREVER: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 1; done";

async fn stop(node: &mut Node, id: &str, timeout: i64) {
    let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
    node.runtime.stop_container(request).await.unwrap();
}

async fn remove(node: &mut Node, id: &str) {
    let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
    node.runtime.remove_container(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_lives_and_leaves_no_trace() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox("web").await;
    let status = node.sandbox_status(&sandbox).await;
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(status.network.unwrap().ip, "10.9.8.7");

    let app = node.run(&sandbox, "app", sh(FOREVER)).await;
    node.log_with("app", "ready").await;
    let (code, out, err) = node
        .exec(&app, "echo $FROM $ASKED $HOSTNAME; cat /etc/version /etc/resolv.conf; ls /etc/hidden; echo oops >&2; exit 3")
        .await;
    assert_eq!(code, 3);
    assert!(out.contains("image yes web\n2"), "{out}");
    assert!(out.contains("nameserver 10.96.0.10"), "{out}");
    assert!(err.contains("/etc/hidden: No such file") && err.contains("oops"), "{err}");
    let running = node.status(&app).await;
    assert_eq!(running.state(), v1::ContainerState::ContainerRunning);
    assert_eq!(running.image.unwrap().image, IMAGE);
    assert!(running.started_at >= running.created_at && running.log_path.ends_with("app/0.log"));
    let in_use = v1::RemoveImageRequest { image: Some(support::image_spec(IMAGE)) };
    assert_eq!(node.images.remove_image(in_use).await.unwrap_err().code(), Code::FailedPrecondition);

    stop(&mut node, &app, 20).await;
    let ended = node.status(&app).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
    assert!(ended.finished_at >= ended.started_at);
    stop(&mut node, &app, 20).await;

    let done = node.run(&sandbox, "done", sh("echo a; echo b >&2")).await;
    let ended = node.ended(&done).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"));
    node.log_with("done", "b").await;
    remove(&mut node, &done).await;
    remove(&mut node, &done).await;

    node.clear().await;
    assert_eq!(mounts_below(node.dir.path()), Vec::<std::path::PathBuf>::new());
    for left in [
        "state/sandboxes",
        "state/containers",
        "run/sandboxes",
        "run/containers",
        "state/snapshots/containers",
    ] {
        let entries = std::fs::read_dir(node.dir.path().join(left)).unwrap().count();
        assert_eq!(entries, 0, "{left}");
    }
    let calls = std::fs::read_to_string(node.dir.path().join("bin/log")).unwrap();
    assert_eq!(calls, format!("ADD {sandbox}\nDEL {sandbox}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_groups_and_limits_hold() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox("limits").await;
    let mut wish = sh("id; echo write > /x; cat /proc/self/status; sleep 1000");
    wish.security.run_as_user = Some(v1::Int64Value { value: 1000 });
    wish.security.supplemental_groups = vec![500];
    wish.security.readonly_rootfs = true;
    wish.security.no_new_privs = true;
    wish.security.capabilities =
        Some(v1::Capability { drop_capabilities: vec!["ALL".to_owned()], ..Default::default() });
    wish.resources = v1::LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_shares: 512,
        oom_score_adj: -900,
        ..Default::default()
    };
    let id = node.run(&sandbox, "user", wish).await;
    let log = node.log_with("user", "Seccomp:").await;
    assert!(log.contains("uid=1000(app) gid=1000(app) groups=77(extra),500,1000(app)"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    assert!(log.contains("CapBnd:\t0000000000000000") && log.contains("NoNewPrivs:\t1"), "{log}");
    assert!(log.contains("Seccomp:\t2"), "{log}");
    let user = node.status(&id).await.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![1000, 77, 500]));

    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(v1::LinuxContainerResources { memory_limit_in_bytes: 128 << 20, ..Default::default() }),
        ..Default::default()
    };
    node.runtime.update_container_resources(request).await.unwrap();
    let resources = node.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!((resources.memory_limit_in_bytes, resources.cpu_shares), (128 << 20, 512));
    let stats = v1::ContainerStatsRequest { container_id: id.clone() };
    let stats = node.runtime.container_stats(stats).await.unwrap().into_inner().stats.unwrap();
    let memory = stats.memory.unwrap();
    assert!(memory.usage_bytes.unwrap().value > 0);
    assert!(memory.available_bytes.unwrap().value > 64 << 20, "the new limit is in force");
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    let pods = v1::ListPodSandboxStatsRequest::default();
    let pods = node.runtime.list_pod_sandbox_stats(pods).await.unwrap().into_inner().stats;
    assert_eq!(pods[0].linux.as_ref().unwrap().containers.len(), 1);
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox("broken").await;
    let nowhere = Wish { command: vec!["/no/such/program".to_owned()], ..sh("") };
    let id = node.create(&sandbox, "nowhere", nowhere).await.unwrap();
    let error = node.start_container(&id).await.unwrap_err();
    assert!(error.message().contains("/no/such/program"), "{error}");
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(
        status.message.contains("no such file") || status.message.contains("not found"),
        "{}",
        status.message
    );

    let mut unknown = sh("true");
    unknown.security.run_as_username = "nobody-here".to_owned();
    let error = node.create(&sandbox, "unknown", unknown).await.unwrap_err();
    assert!(error.message().contains("unable to find user nobody-here"), "{error}");
    let error = node.create("0123456789", "x", sh("true")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(node.start_container(&id).await.unwrap_err().code(), Code::FailedPrecondition);
    let again = node.create(&sandbox, "nowhere", sh("true")).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    let twice = node.sandbox_config("broken");
    assert_eq!(node.sandbox_of(twice).await.unwrap_err().code(), Code::AlreadyExists);
    let mut timeout = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: vec!["sleep".to_owned(), "50".to_owned()],
        timeout: 1,
    };
    let error = node.runtime.exec_sync(timeout.clone()).await.unwrap_err();
    assert!(error.message().contains("CONTAINER_EXITED"), "{error}");
    let app = node.run(&sandbox, "app", sh(FOREVER)).await;
    timeout.container_id = app;
    assert_eq!(node.runtime.exec_sync(timeout).await.unwrap_err().code(), Code::DeadlineExceeded);
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_server() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox("stays").await;
    let stays = node.run(&sandbox, "stays", sh(FOREVER)).await;
    let gate = node.dir.path().join("gate");
    let mount = v1::Mount {
        container_path: "/gate".to_owned(),
        host_path: gate.display().to_string(),
        ..Default::default()
    };
    std::fs::create_dir(&gate).unwrap();
    let leaves = sh("echo waiting; while [ ! -e /gate/open ]; do sleep 0.05; done; exit 5");
    let leaves = node.run(&sandbox, "leaves", Wish { mounts: vec![mount], ..leaves }).await;
    node.log_with("leaves", "waiting").await;
    let pid = node.exec(&stays, "cat /proc/1/stat").await.1;
    node.restart().await;
    assert_eq!(node.status(&stays).await.state(), v1::ContainerState::ContainerRunning);
    assert_eq!(node.exec(&stays, "cat /proc/1/stat").await.1.split(' ').nth(21), pid.split(' ').nth(21));
    std::fs::write(gate.join("open"), "").unwrap();
    assert_eq!(node.ended(&leaves).await.exit_code, 5);
    node.restart().await;
    let ended = node.status(&leaves).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (5, "Error"));
    assert_eq!(node.sandbox_status(&sandbox).await.state(), v1::PodSandboxState::SandboxReady);
    node.clear().await;
    assert_eq!(mounts_below(node.dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shim_ends_its_pod() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox("orphan").await;
    let app = node.run(&sandbox, "app", sh(FOREVER)).await;
    let shim_dir = node.config.run_dir.join("sandboxes").join(&sandbox).join("shim");
    let shim_pid = shim::Shim::connect(&shim_dir).await.unwrap().state().await.unwrap().shim_pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim_pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let ended = node.ended(&app).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (255, "Unknown"));
    assert_eq!(node.sandbox_status(&sandbox).await.state(), v1::PodSandboxState::SandboxNotready);
    node.clear().await;
    assert_eq!(mounts_below(node.dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_what_happens() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let mut events = node.runtime.get_container_events(v1::GetEventsRequest {}).await.unwrap().into_inner();
    let sandbox = node.sandbox("loud").await;
    let app = node.run(&sandbox, "app", sh("exit 2")).await;
    node.ended(&app).await;
    node.clear().await;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let who = if event.container_id == sandbox { "sandbox" } else { "app" };
        let kind = event.container_event_type().as_str_name();
        seen.push(format!("{who} {}", kind.trim_start_matches("CONTAINER_").trim_end_matches("_EVENT")));
        if seen.last().is_some_and(|s| s == "sandbox DELETED") {
            break;
        }
        if seen.last().is_some_and(|s| s == "app STOPPED") {
            assert_eq!(event.containers_statuses[0].exit_code, 2);
        }
    }
    for wanted in
        ["sandbox CREATED", "sandbox STARTED", "app CREATED", "app STARTED", "app STOPPED", "app DELETED"]
    {
        assert_eq!(seen.iter().filter(|s| *s == wanted).count(), 1, "{wanted} in {seen:?}");
    }
}
