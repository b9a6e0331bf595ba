//! What pods may ask for beyond running: shared namespaces, sysctls, images as volumes, limits, log rotation.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use proto::cri::v1;
use support::pod::{Wish, sh};
use support::{Node, can_run_containers, image_spec, mounts_below};
use tonic::Code;

const FOREVER: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";

fn with_pid(mode: v1::NamespaceMode, target: &str, wish: Wish) -> Wish {
    let mut security = wish.security.clone();
    security.namespace_options =
        Some(v1::NamespaceOption { pid: mode.into(), target_id: target.to_owned(), ..Default::default() });
    Wish { security, ..wish }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_shared_as_asked() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let mut config = node.sandbox_config("shared");
    let options = v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options);
    let sandbox = node.sandbox_of(config).await.unwrap();
    let one = node.run(&sandbox, "one", with_pid(v1::NamespaceMode::Pod, "", sh(FOREVER))).await;
    let two = node.run(&sandbox, "two", with_pid(v1::NamespaceMode::Pod, "", sh("sleep 4242"))).await;
    let seen = node.exec(&one, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await.1;
    assert!(seen.contains("sleep 4242"), "{seen}");
    let request = v1::StopContainerRequest { container_id: two.clone(), timeout: 0 };
    node.runtime.stop_container(request).await.unwrap();
    assert_eq!(node.status(&two).await.exit_code, 137);
    assert_eq!(node.exec(&one, "true").await.0, 0, "the other lives on");
    node.clear().await;

    let sandbox = node.sandbox("target").await;
    let own = node.run(&sandbox, "own", sh("sleep 4343")).await;
    let debug = node.run(&sandbox, "debug", with_pid(v1::NamespaceMode::Target, &own, sh(FOREVER))).await;
    let seen = node.exec(&debug, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await.1;
    assert!(seen.contains("sleep 4343"), "{seen}");
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_network_and_sysctls() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let mut config = node.sandbox_config("host");
    config.hostname = String::new();
    let options = v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options);
    let sandbox = node.sandbox_of(config).await.unwrap();
    assert_eq!(node.sandbox_status(&sandbox).await.network.unwrap().ip, "");
    let id = node.run(&sandbox, "app", sh(FOREVER)).await;
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = node.exec(&id, "ls -l /proc/self/ns/net").await.1;
    assert!(theirs.contains(ours.to_str().unwrap()), "{theirs}");
    assert!(!node.dir.path().join("bin/log").exists(), "no plugin was called");

    let mut config = node.sandbox_config("sysctls");
    config.linux.as_mut().unwrap().sysctls =
        HashMap::from([("kernel.shm_rmid_forced".to_owned(), "1".to_owned())]);
    let sandbox = node.sandbox_of(config).await.unwrap();
    let id = node.run(&sandbox, "app", sh(FOREVER)).await;
    let read =
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start; echo $HOSTNAME";
    assert_eq!(node.exec(&id, read).await.1, "1\n0\nsysctls\n");
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_volumes() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let data = support::image::tar_of(&[("dir/", b""), ("dir/file", b"from an image"), ("evil", b"->/etc")]);
    let data = support::image::build(serde_json::json!({}), vec![data], support::image::Pack::Zstd);
    node.import(data.oci_layout(Some("data:1")), &[]).await.unwrap();
    let sandbox = node.sandbox("volumes").await;
    let mount = |sub_path: &str| v1::Mount {
        container_path: "/data".to_owned(),
        readonly: true,
        image: Some(image_spec("data:1")),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    };
    let id = node.run(&sandbox, "app", Wish { mounts: vec![mount("dir")], ..sh(FOREVER) }).await;
    let (code, out, err) = node.exec(&id, "cat /data/file; echo x > /data/new").await;
    assert_eq!((out.as_str(), code), ("from an image", 1));
    assert!(err.contains("Read-only"), "{err}");
    let request = v1::RemoveImageRequest { image: Some(image_spec("data:1")) };
    assert_eq!(node.images.remove_image(request.clone()).await.unwrap_err().code(), Code::FailedPrecondition);
    node.restart().await;
    assert_eq!(node.images.remove_image(request.clone()).await.unwrap_err().code(), Code::FailedPrecondition);
    let evil = node.create(&sandbox, "evil", Wish { mounts: vec![mount("evil")], ..sh(FOREVER) }).await;
    assert!(evil.unwrap_err().message().contains("leads out of the image"));
    let missing = node.create(&sandbox, "missing", Wish { mounts: vec![mount("none")], ..sh(FOREVER) }).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    node.clear().await;
    node.images.remove_image(request).await.unwrap();
    assert_eq!(mounts_below(node.dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_named_and_logs_are_rotated() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox("memory").await;
    let mut wish = sh("dd if=/dev/zero of=/dev/null bs=200M count=1");
    wish.command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"].map(str::to_owned).to_vec();
    wish.resources.memory_limit_in_bytes = 24 << 20;
    let greedy = node.run(&sandbox, "greedy", wish).await;
    let ended = node.ended(&greedy).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));

    let gate = node.dir.path().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let mounts = vec![v1::Mount {
        container_path: "/gate".to_owned(),
        host_path: gate.display().to_string(),
        ..Default::default()
    }];
    let script = "echo first; while [ ! -e /gate/open ]; do sleep 0.05; done; echo second; sleep 100";
    let id = node.run(&sandbox, "talks", Wish { mounts, ..sh(script) }).await;
    node.log_with("talks", "first").await;
    std::fs::rename(node.log_path("talks"), gate.join("old")).unwrap();
    let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
    node.runtime.reopen_container_log(request).await.unwrap();
    std::fs::write(gate.join("open"), "").unwrap();
    assert_eq!(node.log_with("talks", "second").await, "second");
    let line = std::fs::read_to_string(gate.join("old")).unwrap();
    let fields: Vec<&str> = line.trim_end().splitn(4, ' ').collect();
    assert_eq!(fields[1..], ["stdout", "F", "first"], "the CRI format: {line}");
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_network_leaves_nothing() {
    if !can_run_containers() {
        return;
    }
    let mut node = Node::start().await;
    let status = |s: v1::StatusResponse| {
        let conditions = s.status.unwrap().conditions;
        conditions.into_iter().find(|c| c.r#type == "NetworkReady").unwrap()
    };
    let ready = node.runtime.status(v1::StatusRequest { verbose: false }).await.unwrap().into_inner();
    assert!(status(ready).status);
    std::fs::write(
        node.dir.path().join("bin/fake"),
        "#!/bin/sh\necho '{\"code\":7,\"msg\":\"no addresses\"}'; exit 1\n",
    )
    .unwrap();
    let config = node.sandbox_config("lonely");
    let error = node.sandbox_of(config).await.unwrap_err();
    assert!(error.message().contains("failed to setup network") && error.message().contains("no addresses"));
    // What could not be detached either is shown, for the kubelet to remove.
    let left =
        node.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap().into_inner();
    assert_eq!(left.items[0].state(), v1::PodSandboxState::SandboxNotready);
    std::fs::write(node.dir.path().join("bin/fake"), "#!/bin/sh\nexit 0\n").unwrap();
    node.clear().await;
    assert_eq!(mounts_below(node.dir.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(std::fs::read_dir(node.dir.path().join("state/sandboxes")).unwrap().count(), 0);
    std::fs::remove_file(node.dir.path().join("net.d/10-test.conflist")).unwrap();
    let answer = node.runtime.status(v1::StatusRequest { verbose: false }).await.unwrap().into_inner();
    let condition = status(answer);
    assert_eq!((condition.status, condition.reason.as_str()), (false, "NetworkPluginNotReady"));
    assert!(condition.message.contains("cni plugin not initialized"), "{}", condition.message);
}
