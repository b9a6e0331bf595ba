//! `corten server`: every component of a cluster in one process, wired in memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use base::{TaskScope, UserInfo, system_clock};
use client::Informers;
use k8s_openapi::api::core::v1::Node;
use tokio::net::TcpListener;

use crate::certs::Certificates;
use crate::layout::Layout;
use crate::notify::Notify;
use crate::settings::{Settings, Wishes};
use crate::{addons, clusters, components, lock, logging, node, preflight, up};

/// Free space on the disks of volumes, logs and images below which the node evicts pods.
const LEAST_DISK: &str = "1Gi";

/// Runs the cluster `name` in `layout` until it is told to stop. Pods go on when it stops.
pub fn run(name: &str, layout: Layout, wishes: &Wishes) -> anyhow::Result<()> {
    let notify = Arc::new(Notify::from_environment());
    logging::start();
    preflight::require()?;
    layout.create()?;
    let _lock = lock::acquire(&layout)?;
    let settings = Settings::read_or_create(&layout, name, wishes)?;
    up::check_ports(&settings)?;
    clusters::note(&settings, &layout)?;
    let certificates = Certificates::new(&layout);
    certificates.ensure(&settings, &layout)?;
    components::until_stopped(|scope| async move {
        let cluster = Cluster { settings, layout, certificates, scope, notify };
        cluster.run().await
    })
}

struct Cluster {
    settings: Settings,
    layout: Layout,
    certificates: Certificates,
    scope: TaskScope,
    notify: Arc<Notify>,
}

impl Cluster {
    async fn run(self) -> anyhow::Result<()> {
        self.certificates.clone().keep_fresh(self.settings.clone(), self.layout.clone(), &self.scope);
        let server = self.start_apiserver().await?;
        self.notify.reached("API ready");
        let service = server.service();
        let as_user = |name: &str, groups: &[&str]| {
            client::in_process(service.clone(), UserInfo::authenticated(name, groups))
        };
        addons::ensure(&as_user("kubernetes-admin", &["system:masters"]), &self.settings).await?;
        node::make_bridge(&self.settings)?;
        let runtime = node::start_runtime(&self.settings, &self.layout, &self.scope)?;
        let informers = Informers::new(as_user("system:kube-controller-manager", &[]), &self.scope);
        self.start_control_plane(&as_user, &informers)?;
        self.start_node(&as_user).await?;
        self.wait_until_usable(&as_user("kubernetes-admin", &["system:masters"])).await?;
        self.notify.ready();
        runtime.await?
    }

    async fn start_apiserver(&self) -> anyhow::Result<apiserver::Server> {
        let port = self.settings.secure_port;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            .await
            .with_context(|| format!("listen on port {port}"))?;
        let store = store::Embedded::open(&store::Config::new(self.layout.store()), system_clock())
            .context("store")?;
        let options = self.apiserver_options();
        let server = apiserver::Server::new(options, Arc::new(store), system_clock(), &self.scope).await?;
        server.check_policy_types();
        let tls = server.tls()?;
        let serving = server.clone();
        self.scope.spawn_graceful(async move {
            if let Err(error) = serving.serve(listener, Some(tls)).await {
                tracing::error!(%error, "the API is not served any more");
            }
        });
        Ok(server)
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

    fn start_control_plane(
        &self,
        as_user: &impl Fn(&str, &[&str]) -> kube::Client,
        informers: &Informers,
    ) -> anyhow::Result<()> {
        let scheduling = as_user("system:kube-scheduler", &[]);
        scheduler::run(&scheduler::Config::default(), scheduling, informers, &[], &self.scope)?;
        let config = controllers::Config {
            cluster_name: self.settings.name.clone(),
            root_ca_file: Some(self.certificates.authority()),
            service_account_key_file: Some(self.certificates.service_account().0),
            cluster_signing_cert_file: Some(self.certificates.authority()),
            cluster_signing_key_file: Some(self.certificates.authority_key()),
            ..controllers::Config::default()
        };
        let accounts = account_clients(as_user);
        let clients = controllers::Clients {
            root: as_user("system:kube-controller-manager", &[]),
            of_account: accounts,
        };
        let scope = self.scope.clone();
        self.scope.spawn(async move {
            if let Err(error) = controllers::run(config, clients, scope).await {
                tracing::error!(%error, "the controllers do not run");
            }
        });
        Ok(())
    }

    async fn start_node(&self, as_user: &impl Fn(&str, &[&str]) -> kube::Client) -> anyhow::Result<()> {
        let settings = &self.settings;
        let node_user = format!("system:node:{}", settings.node_name);
        let kubelet = self.kubelet_config();
        let (client, scope) = (as_user(&node_user, &["system:nodes"]), self.scope.clone());
        self.scope.spawn(async move {
            if let Err(error) = kubelet::run(kubelet, client, scope).await {
                tracing::error!(%error, "the kubelet does not run");
            }
        });
        let mut proxy = proxy::Config::new(&settings.node_name);
        proxy.table = node::proxy_table(settings);
        proxy.cluster_cidrs = vec![parse_cidr(&settings.pod_block.to_string())?];
        proxy.service_cidrs = vec![parse_cidr(&settings.service_block.to_string())?];
        let client = as_user("system:kube-proxy", &["system:node-proxier"]);
        let (informers, scope) = (Informers::new(client, &self.scope), self.scope.clone());
        self.scope.spawn(async move {
            if let Err(error) = proxy::run(proxy, &informers, &scope).await {
                tracing::error!(%error, "services are not routed");
            }
        });
        let upstreams = dns::read_resolv_conf("/etc/resolv.conf".as_ref(), true).unwrap_or_default();
        let config = dns::Config {
            listen: SocketAddr::from((settings.gateway(), addons::DNS_PORT)),
            domain: settings.cluster_domain.clone(),
            upstreams,
        };
        let client = as_user("system:serviceaccount:kube-system:coredns", &["system:serviceaccounts"]);
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
