//! Keeping the kernel's rules as the API wants them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use client::{Event, Informer, Informers, Selector};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netlink::conntrack::{self, Connection};
use netlink::nft::{self, Batch, Family};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Config, Fragment, Protocol, Ruleset, ServicePort, ServicePorts, plan, skeleton};

/// Names a slice's service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The index of slices by `namespace/service`.
const BY_SERVICE: &str = "proxy/service";
/// The owner of what every table has.
const TABLE: &str = "";
/// How often it is looked whether somebody removed our tables.
const VERIFY_PERIOD: Duration = Duration::from_secs(60);
/// The pause before everything is written anew after the kernel refused something.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why the rules cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("the kernel's rules")]
    Rules(#[from] netlink::Error),
    /// The thread that talks to the kernel broke.
    #[error("the thread that writes the rules: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// The rules of one node: pure, but for [`Proxy::batches`]' order of calls.
#[derive(Debug)]
pub(crate) struct Proxy {
    config: Config,
    zone: Option<String>,
    rulesets: Vec<Ruleset>,
    ports: BTreeMap<String, ServicePorts>,
    /// UDP addresses whose endpoints changed, and where flows to them may go on to.
    flows: HashMap<(IpAddr, u16), HashSet<SocketAddr>>,
    node_port_flows: HashMap<u16, HashSet<SocketAddr>>,
}

impl Proxy {
    pub(crate) fn new(config: Config) -> Self {
        let ruleset = |family: &Family| {
            let mut ruleset = Ruleset::new(*family, config.table.clone());
            ruleset.set(TABLE, skeleton(&config, *family));
            ruleset
        };
        let rulesets = config.families.iter().map(ruleset).collect();
        let (ports, flows, node_port_flows) = Default::default();
        Self { config, zone: None, rulesets, ports, flows, node_port_flows }
    }

    /// False if it is as it was.
    fn set_zone(&mut self, zone: Option<String>) -> bool {
        let changed = self.zone != zone;
        self.zone = zone;
        changed
    }

    /// Takes a service as it is now.
    pub(crate) fn update(&mut self, key: &str, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) {
        let zone = self.zone.as_deref();
        let ports =
            service.map_or_else(Vec::new, |service| ServicePort::read(&self.config, zone, service, slices));
        if self.ports.get(key).map_or(&[][..], Vec::as_slice) == ports {
            return;
        }
        for ruleset in &mut self.rulesets {
            let fragment = if ports.is_empty() {
                Fragment::default()
            } else {
                plan(&self.config, ruleset.family(), &ports)
            };
            ruleset.set(key, fragment);
        }
        let old = self.ports.remove(key).unwrap_or_default();
        // Of the new ones last: an address that moved from one port to another goes on to the new endpoints.
        old.iter().for_each(|port| self.note_flows(port, false));
        ports.iter().for_each(|port| self.note_flows(port, true));
        if !ports.is_empty() {
            self.ports.insert(key.to_owned(), ports);
        }
    }

    fn note_flows(&mut self, port: &ServicePort, is_there: bool) {
        if port.protocol != Protocol::Udp {
            return;
        }
        let serves =
            |endpoint: &&crate::Endpoint| is_there && (endpoint.ready || endpoint.serving_terminating);
        let endpoints: HashSet<SocketAddr> =
            port.endpoints.iter().filter(serves).map(|e| e.address).collect();
        for ip in port.cluster_ips.iter().chain(&port.external_ips).chain(&port.load_balancer_ips) {
            self.flows.insert((*ip, port.port), endpoints.clone());
        }
        if port.node_port != 0 {
            self.node_port_flows.insert(port.node_port, endpoints);
        }
    }

    /// What the kernel must be told: everything, or what changed.
    pub(crate) fn work(&mut self, everything: bool) -> Work {
        let batch =
            |ruleset: &mut Ruleset| if everything { ruleset.take_all() } else { ruleset.take_changes() };
        Work {
            netns: self.config.netns.clone(),
            batches: self.rulesets.iter_mut().map(batch).collect(),
            ipv6: self.config.families.contains(&Family::Ip6),
            flows: std::mem::take(&mut self.flows),
            node_port_flows: std::mem::take(&mut self.node_port_flows),
        }
    }
}

/// Something for the kernel.
pub(crate) struct Work {
    netns: Option<PathBuf>,
    batches: Vec<Batch>,
    ipv6: bool,
    flows: HashMap<(IpAddr, u16), HashSet<SocketAddr>>,
    node_port_flows: HashMap<u16, HashSet<SocketAddr>>,
}

impl Work {
    /// Has the kernel do it. Blocks.
    pub(crate) fn act(self) -> Result<(), netlink::Error> {
        in_netns(self.netns.clone(), || self.act_here())
    }

    fn act_here(self) -> Result<(), netlink::Error> {
        let Self { batches, ipv6, flows, node_port_flows, .. } = self;
        batches.into_iter().try_for_each(Batch::commit)?;
        if flows.is_empty() && node_port_flows.is_empty() {
            return Ok(());
        }
        let stale = |connection: &Connection| {
            let original = &connection.original;
            let endpoints =
                flows.get(&original.destination).or_else(|| node_port_flows.get(&original.destination.1));
            original.protocol == Protocol::Udp.number()
                && endpoints
                    .is_some_and(|endpoints| !endpoints.contains(&SocketAddr::from(connection.reply.source)))
        };
        conntrack::forget(false, stale)?;
        if ipv6 {
            conntrack::forget(true, stale)?;
        }
        Ok(())
    }
}

fn in_netns<T: Send>(
    netns: Option<PathBuf>,
    work: impl FnOnce() -> Result<T, netlink::Error> + Send,
) -> Result<T, netlink::Error> {
    match netns {
        Some(netns) => netlink::netns::within(&netns, work)?,
        None => work(),
    }
}

/// Removes a proxy's tables.
///
/// # Errors
/// The kernel's refusal; that there are none is no error.
pub fn cleanup(config: &Config) -> Result<(), Error> {
    in_netns(config.netns.clone(), || {
        for family in &config.families {
            if nft::table_names(*family)?.contains(&config.table) {
                let mut batch = Batch::new();
                batch.delete_table(*family, &config.table);
                batch.commit()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Services that changed, and whether all must be looked at again.
#[derive(Debug, Default)]
struct Dirty {
    services: Mutex<BTreeSet<String>>,
    changed: Notify,
}

impl Dirty {
    fn add(&self, key: String) {
        self.services.lock().insert(key);
        self.changed.notify_one();
    }
}

fn key_of(namespace: Option<&String>, name: &str) -> String {
    format!("{}/{name}", namespace.map_or("", String::as_str))
}

/// The service of a slice, if a proxy has to do with it.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    let labels = slice.metadata.labels.as_ref()?;
    Some(key_of(slice.metadata.namespace.as_ref(), labels.get(SERVICE_NAME_LABEL)?))
}

/// Serves the node's services until the scope ends. The rules stay then: [`cleanup`] removes them.
///
/// What the kernel refuses is tried again, and logged.
pub async fn run(config: Config, informers: &Informers, scope: &TaskScope) -> Result<(), Error> {
    let services = informers.get::<Service>();
    let slices = informers.get::<EndpointSlice>();
    let node =
        informers.get_selected::<Node>(Selector::fields(format!("metadata.name={}", config.node_name)));
    slices.add_index(BY_SERVICE, |slice: &EndpointSlice| service_of(slice).into_iter().collect());
    let dirty = Arc::new(Dirty::default());
    follow(&services, &slices, &node, &dirty);
    let token = scope.token().clone();
    let task = Task { proxy: Proxy::new(config), services, slices, node, dirty };
    token.run_until_cancelled(task.run()).await.unwrap_or(Ok(()))
}

fn follow(
    services: &Informer<Service>,
    slices: &Informer<EndpointSlice>,
    node: &Informer<Node>,
    dirty: &Arc<Dirty>,
) {
    let mark = dirty.clone();
    services.on_event(move |event: &Event<Service>| {
        let metadata = &event.object().metadata;
        mark.add(key_of(metadata.namespace.as_ref(), metadata.name.as_deref().unwrap_or_default()));
    });
    let mark = dirty.clone();
    slices.on_event(move |event: &Event<EndpointSlice>| {
        if let Event::Updated { old, .. } = event {
            service_of(old).into_iter().for_each(|key| mark.add(key));
        }
        service_of(event.object()).into_iter().for_each(|key| mark.add(key));
    });
    let mark = dirty.clone();
    node.on_event(move |_: &Event<Node>| mark.changed.notify_one());
}

struct Task {
    proxy: Proxy,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<Node>,
    dirty: Arc<Dirty>,
}

impl Task {
    async fn run(mut self) -> Result<(), Error> {
        self.services.synced().await;
        self.slices.synced().await;
        self.node.synced().await;
        let (mut everything, mut pause) = (true, Duration::ZERO);
        loop {
            tokio::time::sleep(pause).await;
            self.take_dirty();
            let work = self.proxy.work(everything);
            let done = tokio::task::spawn_blocking(move || work.act()).await?;
            if let Err(error) = done {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "writing the service rules; trying again"
                );
                (everything, pause) = (true, RETRY_PAUSE);
                continue;
            }
            pause = self.proxy.config.min_sync_period;
            everything = self.wait().await?;
        }
    }

    /// Waits for a change. True if somebody removed our tables.
    async fn wait(&self) -> Result<bool, Error> {
        loop {
            if tokio::time::timeout(VERIFY_PERIOD, self.dirty.changed.notified()).await.is_ok() {
                return Ok(false);
            }
            match tokio::task::spawn_blocking(verify(&self.proxy.config)).await? {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(table = self.proxy.config.table, "somebody removed the service rules");
                    return Ok(true);
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "looking for the service rules"
                    );
                    return Ok(true);
                }
            }
        }
    }

    fn take_dirty(&mut self) {
        let node = self.node.cache().list().into_iter().next();
        let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref());
        let mut keys = std::mem::take(&mut *self.dirty.services.lock());
        if self.proxy.set_zone(labels.and_then(|labels| labels.get(ZONE_LABEL)).cloned()) {
            keys.extend(self.proxy.ports.keys().cloned());
        }
        for key in keys {
            let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
            let service = self.services.cache().get(Some(namespace), name);
            let slices = self.slices.cache().by_index(BY_SERVICE, &key);
            self.proxy.update(&key, service.as_deref(), &slices);
        }
    }
}

/// Whether a table is missing.
fn verify(config: &Config) -> impl FnOnce() -> Result<bool, netlink::Error> + Send + 'static {
    let (netns, families, table) = (config.netns.clone(), config.families.clone(), config.table.clone());
    move || {
        in_netns(netns, || {
            for family in families {
                if !nft::table_names(family)?.contains(&table) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}
