//! `corten kubelet`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base::TaskScope;
use clap::Args;
use pki::KeyPairFiles;

/// Upstream's flags that are supported.
#[derive(Args)]
pub struct Flags {
    /// Credentials and address of the API server
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Name of the node [default: the host name]
    #[arg(long)]
    hostname_override: Option<String>,
    /// Address of the node
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Pod directories and plugins
    #[arg(long, default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// Container logs
    #[arg(long, default_value = "/var/log/pods")]
    pod_logs_dir: PathBuf,
    /// The container runtime's socket
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    container_runtime_endpoint: String,
    /// The cgroup that pods are made below
    #[arg(long, default_value = "/")]
    cgroup_root: String,
    /// Manifests of static pods
    #[arg(long)]
    pod_manifest_path: Option<PathBuf>,
    /// Addresses of cluster DNS
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// Domain of cluster DNS
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Resolver configuration of pods that use the node's
    #[arg(long, default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Address to serve on
    #[arg(long, default_value = "0.0.0.0")]
    address: IpAddr,
    /// Port to serve on
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// Serving certificate
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Authorities of client certificates
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// How many pods the node takes
    #[arg(long, default_value_t = 110)]
    max_pods: u32,
}

/// Runs a node until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    let name = flags.hostname_override.map_or_else(crate::identity::host_name, Ok)?;
    let socket = flags.container_runtime_endpoint.trim_start_matches("unix://").to_owned();
    let mut config = kubelet::Config::new(name, flags.root_dir, socket);
    config.node_ip = flags.node_ip;
    config.pod_logs_dir = flags.pod_logs_dir;
    config.cgroup_root = flags.cgroup_root;
    config.static_pod_path = flags.pod_manifest_path;
    config.cluster_dns = flags.cluster_dns;
    config.cluster_domain = flags.cluster_domain;
    config.resolv_conf = flags.resolv_conf;
    config.listen = SocketAddr::new(flags.address, flags.port);
    config.client_ca_files = flags.client_ca_file.into_iter().collect();
    config.max_pods = flags.max_pods;
    if let (Some(certificate), Some(key)) = (flags.tls_cert_file, flags.tls_private_key_file) {
        config.serving = Some(KeyPairFiles { certificate, key });
    }
    Ok(kubelet::run(config, client::from_kubeconfig(&flags.kubeconfig, "kubelet")?, scope).await?)
}
