//! `corten cri`.

use std::path::PathBuf;

use base::TaskScope;
use clap::Args;

/// The runtime's flags; there is no upstream to take names from.
#[derive(Args)]
pub struct Flags {
    /// Unix socket to serve CRI on
    #[arg(long, default_value = "/run/corten/cri.sock")]
    listen: PathBuf,
    /// Images, writable layers and records
    #[arg(long, default_value = "/var/lib/corten-cri")]
    root: PathBuf,
    /// Mounts and sockets of running pods
    #[arg(long, default_value = "/run/corten/cri")]
    state: PathBuf,
    /// Network configuration lists
    #[arg(long, default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Network plugins
    #[arg(long, default_value = "/opt/cni/bin", value_delimiter = ',')]
    cni_bin_dir: Vec<PathBuf>,
    /// Registries that may be spoken to over plain HTTP
    #[arg(long, value_delimiter = ',')]
    insecure_registry: Vec<String>,
}

/// Serves until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    let mut config = cri::Config::new("/proc/self/exe".as_ref(), flags.listen, flags.root, flags.state);
    config.cni.conf_dir = flags.cni_conf_dir;
    config.cni.bin_dirs = flags.cni_bin_dir;
    config.registries = crate::node::registries(&|key| std::env::var(key).ok());
    config.registries.insecure = flags.insecure_registry;
    Ok(cri::run(config, scope).await?)
}
