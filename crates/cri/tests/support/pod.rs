//! Requests as a kubelet makes them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use proto::cri::v1;
use serde_json::json;

use super::Node;
use super::image::{Pack, busybox};

pub const IMAGE: &str = "docker.io/library/busybox:test";

/// What differs between the containers of these tests.
#[derive(Default)]
pub struct Wish {
    pub command: Vec<String>,
    pub stdin: bool,
    pub tty: bool,
    pub security: v1::LinuxContainerSecurityContext,
    pub resources: v1::LinuxContainerResources,
    pub mounts: Vec<v1::Mount>,
}

pub fn sh(script: &str) -> Wish {
    let command = ["sh", "-c", script].iter().map(|s| (*s).to_owned()).collect();
    let own_pid = v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() };
    let security = v1::LinuxContainerSecurityContext {
        namespace_options: Some(own_pid),
        seccomp: Some(v1::SecurityProfile::default()),
        ..Default::default()
    };
    Wish { command, security, ..Default::default() }
}

impl Node {
    /// Imports busybox as [`IMAGE`].
    pub async fn import_busybox(&mut self) {
        let image =
            busybox(json!({"Cmd": ["sh"], "Env": ["FROM=image"], "StopSignal": "SIGTERM"}), Pack::Gzip);
        self.import(image.oci_layout(Some(IMAGE)), &[]).await.unwrap();
    }

    pub fn sandbox_config(&self, name: &str) -> v1::PodSandboxConfig {
        let own_pid = v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() };
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.dir.path().join("logs").display().to_string(),
            dns_config: Some(v1::DnsConfig { servers: vec!["10.96.0.10".to_owned()], ..Default::default() }),
            labels: HashMap::from([("app".to_owned(), name.to_owned())]),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.config.default_cgroup_parent.clone(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(own_pid),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn sandbox(&mut self, name: &str) -> String {
        let config = self.sandbox_config(name);
        self.sandbox_of(config).await.unwrap()
    }

    pub async fn sandbox_of(&mut self, config: v1::PodSandboxConfig) -> Result<String, tonic::Status> {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(self.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    pub async fn create(&mut self, sandbox: &str, name: &str, wish: Wish) -> Result<String, tonic::Status> {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(super::image_spec(IMAGE)),
            command: wish.command,
            envs: vec![v1::KeyValue { key: "ASKED".to_owned(), value: "yes".to_owned() }],
            mounts: wish.mounts,
            log_path: format!("{name}/0.log"),
            stdin: wish.stdin,
            tty: wish.tty,
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(wish.resources),
                security_context: Some(wish.security),
            }),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    pub async fn start_container(&mut self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(drop)
    }

    pub async fn run(&mut self, sandbox: &str, name: &str, wish: Wish) -> String {
        let id = self.create(sandbox, name, wish).await.unwrap();
        self.start_container(&id).await.unwrap();
        id
    }

    pub async fn status(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime.container_status(request).await.unwrap().into_inner().status.unwrap()
    }

    pub async fn sandbox_status(&mut self, id: &str) -> v1::PodSandboxStatus {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        self.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap()
    }

    /// Waits until the container has ended.
    pub async fn ended(&mut self, id: &str) -> v1::ContainerStatus {
        for _ in 0..1500 {
            let status = self.status(id).await;
            if status.state() == v1::ContainerState::ContainerExited {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("container {id} does not end: {:?}", self.status(id).await);
    }

    pub async fn exec(&mut self, id: &str, script: &str) -> (i32, String, String) {
        let cmd = ["sh", "-c", script].iter().map(|s| (*s).to_owned()).collect();
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: 30 };
        let answer = self.runtime.exec_sync(request).await.unwrap().into_inner();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (answer.exit_code, text(&answer.stdout), text(&answer.stderr))
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("logs/{name}/0.log"))
    }

    /// The content of a log, without times and tags; what is awaited must come.
    pub async fn log_with(&self, name: &str, awaited: &str) -> String {
        for _ in 0..1000 {
            let text = std::fs::read_to_string(self.log_path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
            let content = lines.join("\n");
            if content.contains(awaited) {
                return content;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no {awaited:?} in the log of {name}");
    }
}
