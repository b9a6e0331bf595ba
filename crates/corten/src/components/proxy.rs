//! `corten kube-proxy`.

use std::path::PathBuf;

use base::TaskScope;
use clap::Args;
use client::Informers;

/// Upstream's flags that are supported.
#[derive(Args)]
pub struct Flags {
    /// Credentials and address of the API server
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Name of the node [default: the host name]
    #[arg(long)]
    hostname_override: Option<String>,
    /// How services are routed; only nftables is implemented
    #[arg(long, default_value = "nftables", value_parser = ["nftables"])]
    proxy_mode: String,
    /// Where pods' addresses come from
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<proxy::Cidr>,
    /// Masquerade all traffic to service addresses
    #[arg(long)]
    masquerade_all: bool,
}

/// Keeps the rules until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    tracing::info!(mode = flags.proxy_mode, "starting");
    let name = flags.hostname_override.map_or_else(crate::identity::host_name, Ok)?;
    let mut config = proxy::Config::new(name);
    config.cluster_cidrs = flags.cluster_cidr;
    config.masquerade_all = flags.masquerade_all;
    let informers = Informers::new(client::from_kubeconfig(&flags.kubeconfig, "kube-proxy")?, &scope);
    Ok(proxy::run(config, &informers, &scope).await?)
}
