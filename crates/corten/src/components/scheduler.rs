//! `corten kube-scheduler`.

use std::path::PathBuf;

use base::TaskScope;
use clap::Args;
use client::{ElectionConfig, Informers};

/// Upstream's flags that are supported.
#[derive(Args)]
pub struct Flags {
    /// Credentials and address of the API server
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Wait to be elected before scheduling
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_elect: bool,
    /// Namespace of the election's Lease
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
    /// Name of the election's Lease
    #[arg(long, default_value = "kube-scheduler")]
    leader_elect_resource_name: String,
}

/// Schedules until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    let client = client::from_kubeconfig(&flags.kubeconfig, "kube-scheduler")?;
    let start = |scope: &TaskScope| -> anyhow::Result<()> {
        let informers = Informers::new(client.clone(), scope);
        Ok(scheduler::run(&scheduler::Config::default(), client.clone(), &informers, &[], scope)?)
    };
    if !flags.leader_elect {
        start(&scope)?;
        scope.token().cancelled().await;
        return Ok(());
    }
    let election = ElectionConfig::new(
        &flags.leader_elect_resource_namespace,
        &flags.leader_elect_resource_name,
        crate::identity::candidate(),
    );
    let leadership = client::elect(client.clone(), election, &scope).await;
    start(&scope)?;
    leadership.lost().await;
    anyhow::bail!("leadership lost")
}
