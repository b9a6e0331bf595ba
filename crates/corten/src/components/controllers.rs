//! `corten kube-controller-manager`.

use std::path::PathBuf;
use std::time::Duration;

use base::TaskScope;
use clap::Args;
use client::ElectionConfig;
use controllers::{Clients, Config, Selection};

/// Upstream's flags that are supported.
#[derive(Args)]
pub struct Flags {
    /// Credentials and address of the API server
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Which controllers run: names, `*` for those on by default, `-name` for all but that one
    #[arg(long, default_value = "*", value_delimiter = ',', allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// Wait to be elected before working
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_elect: bool,
    /// Name of the cluster
    #[arg(long, default_value = "kubernetes")]
    cluster_name: String,
    /// Published in every namespace as kube-root-ca.crt
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
    /// Signs tokens of Secrets
    #[arg(long)]
    service_account_private_key_file: Option<PathBuf>,
    /// Signs certificate requests
    #[arg(long)]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Key of the signing certificate
    #[arg(long)]
    cluster_signing_key_file: Option<PathBuf>,
    /// How long a silent node stays Ready, in seconds with the suffix s
    #[arg(long, default_value = "50s", value_parser = crate::identity::seconds)]
    node_monitor_grace_period: Duration,
    /// Give nodes a range of pod addresses
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allocate_node_cidrs: bool,
    /// Ranges that nodes' pod ranges are cut from
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<String>,
    /// Ranges of services, never given to a node
    #[arg(long, value_delimiter = ',')]
    service_cluster_ip_range: Vec<String>,
}

/// Runs the controllers until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    let client = client::from_kubeconfig(&flags.kubeconfig, "kube-controller-manager")?;
    let config = Config {
        controllers: Selection::new(flags.controllers),
        cluster_name: flags.cluster_name,
        root_ca_file: flags.root_ca_file,
        service_account_key_file: flags.service_account_private_key_file,
        cluster_signing_cert_file: flags.cluster_signing_cert_file,
        cluster_signing_key_file: flags.cluster_signing_key_file,
        node_monitor_grace_period: flags.node_monitor_grace_period,
        allocate_node_cidrs: flags.allocate_node_cidrs,
        cluster_cidrs: flags.cluster_cidr,
        service_cidrs: flags.service_cluster_ip_range,
        ..Config::default()
    };
    let work = controllers::run(config, Clients::single(client.clone()), scope.clone());
    if !flags.leader_elect {
        return Ok(work.await?);
    }
    let election =
        ElectionConfig::new("kube-system", "kube-controller-manager", crate::identity::candidate());
    let leadership = client::elect(client, election, &scope).await;
    tokio::select! {
        ended = work => Ok(ended?),
        () = leadership.lost() => anyhow::bail!("leadership lost"),
    }
}
