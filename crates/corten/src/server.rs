//! `corten server`: every component of a cluster in one process, wired in memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base::{TaskScope, UserInfo, system_clock};
use client::Informers;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use store::Store;
use store::replicated::Replicated;
use tokio::net::TcpListener;

use crate::certs::Certificates;
use crate::join::admission::Admitting;
use crate::join::{Formation, Token};
use crate::layout::Layout;
use crate::network::Block;
use crate::notify::Notify;
use crate::role::Role;
use crate::settings::{Settings, Wishes};
use crate::{
    addons, clusters, components, elected, join, lock, logging, member, node, pod_network, preflight, token,
    up,
};

/// How long a token given with `--token` is good for (kubeadm's default).
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// Free space on the disks of volumes, logs and images below which the node evicts pods.
const LEAST_DISK: &str = "1Gi";

/// Runs the cluster `name` in `layout` until it is told to stop; one that is not there yet begins as `formation` says.
/// Pods go on when it stops. `token` is made a bootstrap token for further control planes.
pub fn run(
    name: &str,
    layout: Layout,
    wishes: &Wishes,
    formation: &Formation,
    token: Option<Token>,
) -> anyhow::Result<()> {
    let notify = Arc::new(Notify::from_environment());
    logging::start();
    preflight::require()?;
    layout.create()?;
    let _lock = lock::acquire(&layout)?;
    let settings = join::settings(&layout, name, wishes, formation)?;
    up::check_ports(&settings)?;
    clusters::note(&settings, &layout)?;
    let certificates = Certificates::new(&layout);
    certificates.ensure(&settings, &layout)?;
    components::until_stopped(|scope| async move {
        let elected = scope.child("elected");
        let cluster = Cluster { settings, layout, certificates, token, scope, elected, notify };
        cluster.run().await
    })
}

struct Cluster {
    settings: Settings,
    layout: Layout,
    certificates: Certificates,
    /// A bootstrap token to make.
    token: Option<Token>,
    scope: TaskScope,
    /// What holds something in the store that it lets go of before the store closes.
    elected: TaskScope,
    notify: Arc<Notify>,
}

/// What the component that is `user` calls itself, as upstream's does.
fn component_of(user: &str) -> &'static str {
    match user {
        "system:kube-scheduler" => "kube-scheduler",
        "system:kube-proxy" => "kube-proxy",
        "system:serviceaccount:kube-system:coredns" => "coredns",
        _ if user.starts_with("system:node:") => "kubelet",
        _ if user.starts_with("system:") => "kube-controller-manager",
        _ => "corten",
    }
}

/// The objects' store, and this server's member if the servers replicate it.
struct Keeping {
    store: Arc<dyn Store>,
    member: Option<Replicated>,
}

impl Cluster {
    async fn run(self) -> anyhow::Result<()> {
        self.certificates.clone().keep_fresh(self.settings.clone(), self.layout.clone(), &self.scope);
        let listener = self.listen().await?;
        let keeping = self.open_store().await?;
        let removed = keeping.member.clone();
        let server = self.start_apiserver(listener, keeping).await?;
        self.notify.reached("API ready");
        let service = server.service();
        let as_user = |name: &str, groups: &[&str]| {
            client::in_process(service.clone(), UserInfo::authenticated(name, groups), component_of(name))
        };
        let admin = as_user("kubernetes-admin", &["system:masters"]);
        self.make_objects(&admin).await?;
        let runtime = node::start_runtime(&self.settings, &self.layout, &self.scope)?;
        self.start_control_plane(&as_user);
        self.start_node(&as_user).await?;
        self.wait_until_usable(&admin).await?;
        self.notify.ready();
        tokio::select! {
            ended = runtime => ended?,
            () = removed_from(removed) => bail!(
                "this member was removed from the cluster for good: to join again, begin with an empty data directory"
            ),
        }
    }

    async fn listen(&self) -> anyhow::Result<TcpListener> {
        let port = self.settings.secure_port;
        let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
        bound.with_context(|| format!("listen on port {port}"))
    }

    async fn open_store(&self) -> anyhow::Result<Keeping> {
        match &self.settings.role {
            Role::Alone => {
                let config = store::Config::new(self.layout.store());
                let store = store::Embedded::open(&config, system_clock()).context("store")?;
                Ok(Keeping { store: Arc::new(store), member: None })
            }
            Role::Member(membership) => {
                let (settings, layout, certificates) = (&self.settings, &self.layout, &self.certificates);
                let opening = member::Opening { membership, settings, layout, certificates };
                let member = opening.open(&self.scope, &self.elected).await?;
                tokio::select! {
                    ready = member::take_part(&member) => ready?,
                    () = member.removed() => bail!("this member was removed from the cluster for good"),
                }
                Ok(Keeping { store: Arc::new(member.clone()), member: Some(member) })
            }
            Role::External(external) => {
                let followed = TaskScope::new("etcd");
                let store = components::open_etcd(external, "/registry", &followed).await?;
                let (elected, ends) = (self.elected.clone(), self.scope.token().clone());
                self.scope.spawn_graceful(async move {
                    ends.cancelled().await;
                    elected.shutdown(member::LET_GO).await;
                    drop(followed);
                });
                Ok(Keeping { store, member: None })
            }
        }
    }

    async fn start_apiserver(
        &self,
        listener: TcpListener,
        keeping: Keeping,
    ) -> anyhow::Result<apiserver::Server> {
        let options = self.apiserver_options();
        let server = apiserver::Server::new(options, keeping.store, system_clock(), &self.scope).await?;
        server.check_policy_types();
        if self.settings.role.is_shared() {
            let (settings, certificates) = (self.settings.clone(), self.certificates.clone());
            let admitting = Admitting { settings, certificates, member: keeping.member };
            server.extend(join::admission::PATH, Arc::new(admitting));
        }
        let tls = server.tls()?;
        let serving = server.clone();
        self.scope.spawn_graceful(async move {
            if let Err(error) = serving.serve(listener, Some(tls)).await {
                tracing::error!(%error, "the API is not served any more");
            }
        });
        Ok(server)
    }

    /// Makes what a cluster has beyond its components.
    async fn make_objects(&self, admin: &kube::Client) -> anyhow::Result<()> {
        let mut objects = addons::dns_rules();
        objects.push(addons::dns_service(&self.settings));
        if self.settings.role.is_shared() {
            addons::forget_lone_dns(admin).await?;
            objects.extend(join::objects::rules());
            let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "kube-public");
            if maps.get_opt("cluster-info").await?.is_none() {
                let authority = std::fs::read(self.certificates.authority())?;
                let (address, port) = (self.settings.node_address(), self.settings.secure_port);
                objects.push(join::objects::cluster_info(&format!("https://{address}:{port}"), &authority));
            }
        }
        if let Some(token) = &self.token {
            objects.push(token.object(TOKEN_TTL, token::groups(true), "given with --token"));
        }
        addons::apply(admin, &objects).await
    }

    fn apiserver_options(&self) -> apiserver::Options {
        let (private, public) = self.certificates.service_account();
        let serving = self.certificates.pair("apiserver");
        let to_kubelet = self.certificates.pair("apiserver-kubelet-client");
        let front = self.certificates.pair("front-proxy-client");
        apiserver::Options {
            advertise_address: Some(IpAddr::V4(self.settings.node_address())),
            secure_port: self.settings.secure_port,
            tls_cert_file: Some(serving.certificate),
            tls_private_key_file: Some(serving.key),
            client_ca_file: Some(self.certificates.authority()),
            enable_bootstrap_token_auth: true,
            endpoint_leases: self.settings.role.is_shared(),
            service_account_issuer: vec![format!(
                "https://kubernetes.default.svc.{}",
                self.settings.cluster_domain
            )],
            service_account_key_file: vec![public],
            service_account_signing_key_file: Some(private),
            service_cluster_ip_range: vec![self.settings.service_block.to_string()],
            kubelet_certificate_authority: Some(self.certificates.authority()),
            kubelet_client_certificate: Some(to_kubelet.certificate),
            kubelet_client_key: Some(to_kubelet.key),
            kubelet_preferred_address_types: vec!["InternalIP".to_owned(), "Hostname".to_owned()],
            requestheader_client_ca_file: Some(self.certificates.front_proxy_authority()),
            requestheader_allowed_names: vec!["front-proxy-client".to_owned()],
            requestheader_username_headers: vec!["X-Remote-User".to_owned()],
            requestheader_group_headers: vec!["X-Remote-Group".to_owned()],
            requestheader_extra_headers_prefix: vec!["X-Remote-Extra-".to_owned()],
            proxy_client_cert_file: Some(front.certificate),
            proxy_client_key_file: Some(front.key),
            ..apiserver::Options::default()
        }
    }

    /// Starts scheduler and controllers: at once, or when this server is elected, if there are others.
    fn start_control_plane(&self, as_user: &impl Fn(&str, &[&str]) -> kube::Client) {
        let scheduling = as_user("system:kube-scheduler", &[]);
        let config = self.controllers_config();
        let controlling = as_user("system:kube-controller-manager", &[]);
        let clients =
            controllers::Clients { root: controlling.clone(), of_account: account_clients(as_user) };
        let control = move |scope: TaskScope| -> anyhow::Result<()> {
            let (config, clients, own) = (config.clone(), clients.clone(), scope.clone());
            scope.spawn(async move {
                if let Err(error) = controllers::run(config, clients, own).await {
                    tracing::error!(%error, "the controllers do not run");
                }
            });
            Ok(())
        };
        let (client, watching) = (scheduling.clone(), controlling.clone());
        let schedule = move |scope: TaskScope| -> anyhow::Result<()> {
            let informers = Informers::new(watching.clone(), &scope);
            Ok(scheduler::run(&scheduler::Config::default(), client.clone(), &informers, &[], &scope)?)
        };
        if self.settings.role.is_shared() {
            elected::run("kube-controller-manager", controlling, &self.elected, control);
            elected::run("kube-scheduler", scheduling, &self.elected, schedule);
            return;
        }
        for started in [control(self.scope.clone()), schedule(self.scope.clone())] {
            if let Err(error) = started {
                tracing::error!(error = format!("{error:#}"), "the control plane is not whole");
            }
        }
    }

    fn controllers_config(&self) -> controllers::Config {
        let shared = self.settings.role.is_shared();
        let selection = if shared { "*,bootstrapsigner,tokencleaner" } else { "*" };
        controllers::Config {
            controllers: controllers::Selection::parse(selection),
            cluster_name: self.settings.name.clone(),
            root_ca_file: Some(self.certificates.authority()),
            service_account_key_file: Some(self.certificates.service_account().0),
            cluster_signing_cert_file: Some(self.certificates.authority()),
            cluster_signing_key_file: Some(self.certificates.authority_key()),
            allocate_node_cidrs: shared,
            cluster_cidrs: vec![self.settings.pod_block.to_string()],
            service_cidrs: vec![self.settings.service_block.to_string()],
            node_cidr_mask_size_ipv4: node::NODE_PREFIX,
            ..controllers::Config::default()
        }
    }

    async fn start_node(&self, as_user: &impl Fn(&str, &[&str]) -> kube::Client) -> anyhow::Result<()> {
        let settings = &self.settings;
        let client = as_user(&format!("system:node:{}", settings.node_name), &["system:nodes"]);
        let kubelet = self.kubelet_config();
        if !settings.role.is_shared() {
            self.make_network(settings.pod_block.first(node::NODE_PREFIX))?;
        }
        let (own, scope) = (client.clone(), self.scope.clone());
        self.scope.spawn(async move {
            if let Err(error) = kubelet::run(kubelet, own, scope).await {
                tracing::error!(%error, "the kubelet does not run");
            }
        });
        let mut proxy = proxy::Config::new(&settings.node_name);
        proxy.table = node::proxy_table(settings);
        proxy.cluster_cidrs = vec![parse_cidr(&settings.pod_block.to_string())?];
        proxy.service_cidrs = vec![parse_cidr(&settings.service_block.to_string())?];
        let of_proxy = as_user("system:kube-proxy", &["system:node-proxier"]);
        let (informers, scope) = (Informers::new(of_proxy, &self.scope), self.scope.clone());
        let watching = informers.clone();
        self.scope.spawn(async move {
            if let Err(error) = proxy::run(proxy, &watching, &scope).await {
                tracing::error!(%error, "services are not routed");
            }
        });
        let admin = as_user("kubernetes-admin", &["system:masters"]);
        let (block, node_uid) = match settings.role.is_shared() {
            true => {
                let nodes = Informers::new(client, &self.scope);
                let share = pod_network::wait_for_share(&nodes, &settings.node_name).await?;
                self.make_network(share.block)?;
                pod_network::keep_routes(settings, &informers, &self.scope);
                (share.block, Some(share.node_uid))
            }
            false => (settings.pod_block.first(node::NODE_PREFIX), None),
        };
        let client = as_user("system:serviceaccount:kube-system:coredns", &["system:serviceaccounts"]);
        self.start_dns(block.address(1), client).await?;
        addons::apply(&admin, &[addons::dns_endpoint(settings, block.address(1), node_uid.as_deref())]).await
    }

    /// Makes the network of the pods here, which have `block`.
    fn make_network(&self, block: Block) -> anyhow::Result<()> {
        node::make_bridge(&self.settings, block)?;
        node::write_network(&self.settings, &self.layout, block)
    }

    async fn start_dns(&self, gateway: Ipv4Addr, client: kube::Client) -> anyhow::Result<()> {
        let upstreams = dns::read_resolv_conf("/etc/resolv.conf".as_ref(), true).unwrap_or_default();
        let config = dns::Config {
            listen: SocketAddr::from((gateway, addons::DNS_PORT)),
            domain: self.settings.cluster_domain.clone(),
            upstreams,
        };
        dns::run(config, &Informers::new(client, &self.scope), &self.scope).await.context("cluster DNS")
    }

    fn kubelet_config(&self) -> kubelet::Config {
        let settings = &self.settings;
        let mut config =
            kubelet::Config::new(&settings.node_name, self.layout.kubelet(), self.layout.cri_socket());
        config.node_ip = Some(IpAddr::V4(settings.node_address()));
        config.pod_logs_dir = self.layout.pod_logs();
        config.container_logs_dir = Some(self.layout.container_logs());
        config.cgroup_root = format!("/{}", settings.mark());
        config.static_pod_path = Some(self.layout.manifests());
        config.cluster_dns = vec![IpAddr::V4(settings.dns_address())];
        config.cluster_domain = settings.cluster_domain.clone();
        config.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.kubelet_port));
        config.serving = Some(self.certificates.pair("kubelet"));
        config.client_ca_files = vec![self.certificates.authority()];
        // A share of a disk that the node does not have to itself says little; this much keeps it working.
        for signal in ["nodefs.available", "imagefs.available"] {
            config.eviction_hard.insert(signal.to_owned(), LEAST_DISK.to_owned());
        }
        config
    }

    /// Waits until the node says that it is Ready, now and not before the last stop, and cluster DNS answers.
    async fn wait_until_usable(&self, client: &kube::Client) -> anyhow::Result<()> {
        let informers = Informers::new(client.clone(), &self.scope);
        let (sender, mut ready) = tokio::sync::watch::channel(false);
        let name = self.settings.node_name.clone();
        let since = self.notify.started_at();
        informers.get::<Node>().on_event(move |event| {
            let node = event.object();
            let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
            let is_ready = conditions.iter().any(|c| {
                let told = c.last_heartbeat_time.as_ref().is_some_and(|at| at.0.as_second() >= since);
                c.type_ == "Ready" && c.status == "True" && told
            });
            if node.metadata.name.as_deref() == Some(&name) && is_ready {
                sender.send_replace(true);
            }
        });
        ready.wait_for(|ready| *ready).await?;
        self.notify.reached("node Ready");
        addons::wait_for_dns(&self.settings).await?;
        self.notify.reached("cluster DNS answers");
        Ok(())
    }
}

/// Returns when the member, if there is one, has been removed from its cluster.
async fn removed_from(member: Option<Replicated>) {
    match member {
        Some(member) => member.removed().await,
        None => std::future::pending().await,
    }
}

/// A client per service account of the controllers.
fn account_clients(
    as_user: &impl Fn(&str, &[&str]) -> kube::Client,
) -> Arc<dyn Fn(&str) -> kube::Client + Send + Sync> {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    let all: std::collections::HashMap<String, kube::Client> = controllers::registrations()
        .iter()
        .map(|registration| {
            let account = registration.account;
            (account.to_owned(), as_user(&format!("system:serviceaccount:kube-system:{account}"), &groups))
        })
        .collect();
    let fallback = as_user("system:kube-controller-manager", &[]);
    Arc::new(move |account| all.get(account).unwrap_or(&fallback).clone())
}

fn parse_cidr(text: &str) -> anyhow::Result<proxy::Cidr> {
    text.parse().map_err(|_| anyhow::anyhow!("{text} is no block of addresses"))
}
