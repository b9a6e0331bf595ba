//! RunPodSandbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::cri::v1::{ContainerEventType, NamespaceMode, NamespaceOption, PodSandboxConfig};
use shim::{RuntimeCommand, Shim, ShimConfig};

use super::{RECORD, Sandbox, SandboxPhase, SandboxRecord, files, linux, namespace_options, network};
use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::persist::Persisted;

/// A shim must not be what the kernel kills first: with it goes the pod.
const SHIM_OOM_SCORE_ADJ: i32 = -998;
/// Sysctls that let containers do without capabilities what is harmless in a network of their own (containerd's
/// defaults): ports below 1024, and ping.
const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

impl Node {
    /// Makes a sandbox and gives its id; on failure nothing of it is left.
    pub async fn run_sandbox(self: &Arc<Self>, config: PodSandboxConfig, handler: String) -> Result<String> {
        let options = check(&config)?;
        if !self.config.handlers.contains_key(&handler) {
            return Err(Error::NotFound(format!("no runtime for {handler:?} is configured")));
        }
        let sandbox = self.reserve_sandbox(config, handler, &options).await?;
        let turn = sandbox.turn.lock().await;
        match self.make_sandbox(&sandbox, &options).await {
            Ok(()) => {
                drop(turn);
                self.emit_sandbox(&sandbox, ContainerEventType::ContainerCreatedEvent);
                self.emit_sandbox(&sandbox, ContainerEventType::ContainerStartedEvent);
                Ok(sandbox.id.clone())
            }
            Err(error) => {
                if let Err(cleanup) = self.dismantle(&sandbox).await {
                    tracing::warn!(sandbox = sandbox.id, error = %cleanup, "not cleaned up after a failure");
                    // Shown from now on, so that the kubelet stops and removes it until that succeeds.
                    set(&sandbox, |r| r.phase = SandboxPhase::NotReady).await?;
                }
                Err(error)
            }
        }
    }

    /// Writes the record first: whatever is made from now on is found again after a crash.
    async fn reserve_sandbox(
        &self,
        config: PodSandboxConfig,
        handler: String,
        options: &NamespaceOption,
    ) -> Result<Arc<Sandbox>> {
        let id = disk::new_id()?;
        let (state_dir, run_dir) = (self.sandbox_state_root().join(&id), self.sandbox_run_root().join(&id));
        let netns = (options.network() != NamespaceMode::Node).then(|| network::namespace_path(&run_dir));
        let metadata = config.metadata.clone();
        let record = SandboxRecord {
            id: id.clone(),
            config,
            handler,
            phase: SandboxPhase::Creating,
            created_at_ns: disk::now_ns(),
            netns,
            ips: Vec::new(),
        };
        let _reserving = self.reserving.lock().await;
        let taken = self.sandboxes().into_iter().find(|s| s.record.with(|r| r.config.metadata == metadata));
        if let Some(other) = taken {
            let m = metadata.unwrap_or_default();
            let name = format!("{}_{}_{}_{}", m.name, m.namespace, m.uid, m.attempt);
            return Err(Error::AlreadyExists(format!(
                "failed to reserve sandbox name {name:?}: name {name:?} is reserved for {:?}",
                other.id
            )));
        }
        let path = state_dir.join(RECORD);
        let dir = state_dir.clone();
        let record = blocking(move || {
            disk::make_private_dir(&dir)?;
            Persisted::create(path, record)
        })
        .await?;
        let sandbox = Sandbox::new(id, record, state_dir, run_dir);
        self.add_sandbox(sandbox.clone());
        Ok(sandbox)
    }

    async fn make_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>, options: &NamespaceOption) -> Result<()> {
        let config = sandbox.record.with(|r| r.config.clone());
        {
            let (sandbox, config, options) = (sandbox.clone(), config.clone(), options.clone());
            blocking(move || files::write_all(&sandbox, &config, &options)).await?;
        }
        network::create_namespace(sandbox).await?;
        let ips = network::attach(&self.cni, sandbox).await.map_err(|error| {
            error.context(format!("failed to setup network for sandbox {:?}", sandbox.id))
        })?;
        set(sandbox, move |r| r.ips = ips).await?;
        let shim_config = self.shim_config(sandbox, &config, options)?;
        let shim = Shim::start(&self.config.shim, &sandbox.shim_dir(), &shim_config)
            .await
            .map_err(|error| Error::from(error).context("failed to start sandbox"))?;
        let (_, events) = shim.subscribe().await?;
        set(sandbox, |r| r.phase = SandboxPhase::Ready).await?;
        self.watch(sandbox.clone(), shim, events);
        Ok(())
    }

    fn shim_config(
        &self,
        sandbox: &Sandbox,
        config: &PodSandboxConfig,
        options: &NamespaceOption,
    ) -> Result<ShimConfig> {
        let (handler, netns) = sandbox.record.with(|r| (r.handler.clone(), r.netns.clone()));
        let command = self.config.handlers.get(&handler).cloned().unwrap_or_default();
        let name = if handler.is_empty() { "default" } else { &handler };
        let root = self.config.run_dir.join("runtime").join(name);
        disk::make_private_dir(&root)?;
        let host_network = options.network() == NamespaceMode::Node;
        let mut sysctls: BTreeMap<String, String> = linux(config).sysctls.into_iter().collect();
        if !host_network {
            for (key, value) in NETWORK_SYSCTLS {
                sysctls.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        Ok(ShimConfig {
            sandbox_id: sandbox.id.clone(),
            runtime: RuntimeCommand { command, root },
            hostname: (!host_network).then(|| config.hostname.clone()),
            ipc: options.ipc() != NamespaceMode::Node,
            shared_pid: options.pid() == NamespaceMode::Pod,
            netns,
            sysctls,
            cgroup: self.config.shim_cgroup.clone(),
            oom_score_adj: SHIM_OOM_SCORE_ADJ,
        })
    }
}

async fn set(sandbox: &Sandbox, edit: impl FnOnce(&mut SandboxRecord) + Send + 'static) -> Result<()> {
    let edit = |record: &mut SandboxRecord| {
        edit(record);
        Some(())
    };
    sandbox.record.update(edit).await.map(drop)
}

fn check(config: &PodSandboxConfig) -> Result<NamespaceOption> {
    if config.metadata.is_none() {
        return Err(Error::InvalidArgument("sandbox config must include metadata".to_owned()));
    }
    let options = namespace_options(config);
    if options.userns_options.as_ref().is_some_and(|u| u.mode() == NamespaceMode::Pod && !u.uids.is_empty()) {
        return Err(Error::Unimplemented("a user namespace for a pod (hostUsers: false)"));
    }
    if config.hostname.is_empty() && options.network() != NamespaceMode::Node {
        return Err(Error::InvalidArgument("a sandbox with its own network needs a hostname".to_owned()));
    }
    Ok(options)
}
