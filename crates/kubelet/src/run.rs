//! The kubelet as a whole: what it is made of, and in which order that starts.

use std::fs;
use std::sync::{Arc, OnceLock};

use base::{SharedClock, TaskScope, system_clock};
use client::{EventRecorder, EventType, Informers, Selector};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use parking_lot::Mutex;
use proto::cri::v1::{NetworkConfig, RuntimeConfig, UpdateRuntimeConfigRequest};
use tokio::sync::{Notify, watch};

use crate::cgroups::{self, Cgroups, Layout};
use crate::config::Config;
use crate::container::dns::parse_resolv_conf;
use crate::container::linux::{NodeLimits, PodLimits, cpu_shares};
use crate::cri::{self, Cri};
use crate::error::Error;
use crate::images::Images;
use crate::node::{self, Machine, NodeStatusContext, Pressure};
use crate::pod::Registry;
use crate::probes::ProbeContext;
use crate::shared::Shared;
use crate::status::StatusWriter;
use crate::volumes::{ApiObjects, Claims, References, Tokens, Volumes};
use crate::{events, eviction, gc, server, sources};

/// Runs a kubelet until `scope` is cancelled. Pods go on without it and are found again by the next one.
///
/// Waits for the container runtime; registers the node as soon as the API server answers.
pub async fn run(config: Config, client: kube::Client, scope: TaskScope) -> Result<(), Error> {
    run_with_clock(config, client, scope, system_clock()).await
}

/// [`run`] with a clock of the caller's.
pub async fn run_with_clock(
    config: Config,
    client: kube::Client,
    scope: TaskScope,
    clock: SharedClock,
) -> Result<(), Error> {
    let config = Arc::new(config);
    make_folders(&config)?;
    let listener = server::listen(&config).await?;
    let images = config.image_endpoint.clone().unwrap_or_else(|| config.runtime_endpoint.clone());
    let cri = Cri::new(&config.runtime_endpoint, &images);
    let Some(version) = scope.token().run_until_cancelled(cri.ready()).await else { return Ok(()) };
    let machine = Machine::detect(&config);
    let cgroups = Cgroups::new(Layout::detect(), &config.cgroup_root, config.cgroups_per_qos);
    cgroups.make_base(base_limits(&machine)).map_err(Error::file("/sys/fs/cgroup"))?;
    let address = node::node_address(config.node_ip);
    let registry: Arc<OnceLock<Arc<Registry>>> = Arc::default();
    let (pressure_sender, pressure) = watch::channel(Pressure::default());
    let shared = Arc::new(assemble(Parts {
        config: config.clone(),
        client,
        scope: scope.clone(),
        clock,
        cri,
        runtime_name: version.runtime_name.clone(),
        machine,
        cgroups,
        address: address.to_string(),
        registry: registry.clone(),
    }));
    let pods = Arc::new(Registry::new(shared.clone()));
    // Set once, here: the change callback of `assemble` finds the registry through it.
    let _ = registry.set(pods.clone());
    if let Some(cidr) = &config.pod_cidr {
        tell_pod_cidr(&shared.cri, cidr).await;
    }
    let runtime = format!("{}://{}", version.runtime_name, version.runtime_version.trim_start_matches('v'));
    let context = NodeStatusContext {
        config: config.clone(),
        client: shared.client.clone(),
        cri: shared.cri.clone(),
        clock: shared.clock.clone(),
        events: shared.events.clone(),
        machine: shared.machine.clone(),
        system: node::system_info(&runtime, &config.version),
        addresses: shared.host_ips.clone(),
        pressure,
        runtime: shared.runtime.clone(),
        images: Arc::default(),
    };
    start_tasks(&shared, &pods, context, pressure_sender);
    if let Some(listener) = listener {
        scope.spawn(server::serve(listener, shared.clone(), pods.clone()));
    }
    scope.token().cancelled().await;
    Ok(())
}

fn make_folders(config: &Config) -> Result<(), Error> {
    let own = [config.root_dir.join("pods"), config.pod_logs_dir.clone(), config.plugins_dir.clone()];
    for folder in own.iter().chain(&config.container_logs_dir) {
        fs::create_dir_all(folder).map_err(Error::file(folder.clone()))?;
    }
    Ok(())
}

fn base_limits(machine: &Machine) -> PodLimits {
    let milli = machine.allocatable.get("cpu").map_or(0, |q| q.milli_value());
    PodLimits { cpu_shares: cpu_shares(milli), ..PodLimits::default() }
}

struct Parts {
    config: Arc<Config>,
    client: kube::Client,
    scope: TaskScope,
    clock: SharedClock,
    cri: Cri,
    runtime_name: String,
    machine: Machine,
    cgroups: Cgroups,
    address: String,
    registry: Arc<OnceLock<Arc<Registry>>>,
}

fn assemble(parts: Parts) -> Shared {
    let Parts { config, client, scope, clock, cri, runtime_name, machine, cgroups, address, registry } =
        parts;
    let events = EventRecorder::new(client.clone(), "kubelet", &config.node_name, &scope);
    let informers = Informers::new(client.clone(), &scope);
    let pods = informers.get_selected::<Pod>(Selector::fields(format!("spec.nodeName={}", config.node_name)));
    let node =
        informers.get_selected::<Node>(Selector::fields(format!("metadata.name={}", config.node_name)));
    let services = informers.get::<Service>();
    let references = References::new(client.clone(), &scope, move |uid| {
        if let Some(registry) = registry.get() {
            registry.refresh(uid);
        }
    });
    let limits = NodeLimits {
        memory_capacity: machine.memory(),
        unified: cgroups.is_unified(),
        min_oom_score_adj: node::min_oom_score_adj(),
    };
    let volumes = Volumes {
        root_dir: config.root_dir.clone(),
        objects: ApiObjects { client: client.clone() },
        tokens: Arc::new(Tokens::new(client.clone(), clock.clone())),
        claims: Claims { client: client.clone() },
        node_memory: machine.allocatable.get("memory").map_or(0, |q| q.value()),
    };
    let probes = ProbeContext {
        cri: cri.clone(),
        events: events.clone(),
        clock: clock.clone(),
        kubelet_started: clock.now(),
    };
    let host_dns =
        fs::read_to_string(&config.resolv_conf).map(|text| parse_resolv_conf(&text)).unwrap_or_default();
    Shared {
        status: StatusWriter::new(client.clone(), pods.clone(), &scope),
        images: Images::new(cri.clone(), events.clone(), clock.clone()),
        runtime: Arc::new(Mutex::default()),
        started: clock.now(),
        groups_changed: Notify::new(),
        host_ips: vec![address],
        config,
        client,
        clock,
        scope,
        cri,
        runtime_name,
        events,
        volumes,
        references,
        cgroups,
        machine,
        limits,
        host_dns,
        _informers: informers,
        pods,
        services,
        node,
        probes,
    }
}

fn start_tasks(
    shared: &Arc<Shared>,
    pods: &Arc<Registry>,
    context: NodeStatusContext,
    pressure: watch::Sender<Pressure>,
) {
    let scope = &shared.scope;
    sources::follow_api(&shared.pods, pods.clone(), shared.status.clone());
    let waker = pods.clone();
    scope.spawn(cri::follow(shared.cri.clone(), move |uid| waker.wake(uid)));
    scope.spawn(sources::follow_folder(shared.clone(), pods.clone()));
    scope.spawn(cgroups::keep_class_shares(shared.clone(), pods.clone()));
    scope.spawn(gc::collect_garbage(shared.clone(), pods.clone()));
    scope.spawn(eviction::watch_pressure(shared.clone(), pods.clone(), pressure));
    let about = events::node_reference(&shared.config.node_name);
    shared.events.event_at(about, EventType::Normal, "Starting", "Starting kubelet.");
    scope.spawn(keep_node(shared.clone(), context));
}

/// Registers the node, then keeps its status and lease.
async fn keep_node(shared: Arc<Shared>, context: NodeStatusContext) {
    context.look().await;
    let (node, adopted) = node::register(&shared.client, &shared.config, || context.facts()).await;
    let lease = node::keep_lease(
        shared.client.clone(),
        shared.clock.clone(),
        shared.config.node_name.clone(),
        node.metadata.uid.clone(),
        shared.config.node_lease_duration,
    );
    shared.scope.spawn(lease);
    let changed = Arc::new(Notify::new());
    if shared.config.pod_cidr.is_none() {
        shared.scope.spawn(follow_pod_cidr(shared.clone(), changed.clone()));
    }
    node::keep_status(context, shared.node.clone(), node, adopted, changed).await;
}

/// Tells the runtime the node's pod network when a controller has assigned one.
async fn follow_pod_cidr(shared: Arc<Shared>, changed: Arc<Notify>) {
    let (sender, mut receiver) = watch::channel(String::new());
    let name = shared.config.node_name.clone();
    shared.node.on_event(move |event| {
        let node = event.object();
        let cidr = node.spec.as_ref().and_then(|s| s.pod_cidr.clone()).unwrap_or_default();
        if node.metadata.name.as_deref() == Some(&name) && !cidr.is_empty() {
            sender.send_if_modified(|known| (*known != cidr).then(|| *known = cidr).is_some());
        }
    });
    while receiver.changed().await.is_ok() {
        let cidr = receiver.borrow_and_update().clone();
        tell_pod_cidr(&shared.cri, &cidr).await;
        changed.notify_one();
    }
}

async fn tell_pod_cidr(cri: &Cri, cidr: &str) {
    let network_config = Some(NetworkConfig { pod_cidr: cidr.to_owned() });
    let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
    if let Err(error) = cri.update_runtime_config(request).await {
        tracing::warn!(cidr, %error, "the runtime did not take the pod network");
    }
}
