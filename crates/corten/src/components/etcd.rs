//! `corten etcd`.

use base::TaskScope;
use clap::Args;

/// No flag is supported yet.
#[derive(Args)]
pub struct Flags {}

/// Says that it is not there yet.
pub async fn run(_: Flags, _: TaskScope) -> anyhow::Result<()> {
    anyhow::bail!("serving the etcd API is not implemented yet; the API server has its store inside")
}
