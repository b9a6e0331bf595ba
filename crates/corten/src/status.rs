//! `corten status`: what runs.

use std::process::ExitCode;

use crate::layout::Layout;
use crate::say::say;
use crate::settings::Settings;
use crate::{clusters, lock};

/// Prints how the cluster `name` stands, then the other clusters of this machine. Fails if it does not run.
pub fn print(name: &str, layout: &Layout) -> anyhow::Result<ExitCode> {
    let runs = print_one(name, layout)?;
    for other in clusters::all().into_iter().filter(|note| note.data_dir != layout.data()) {
        print_one(&other.name, &Layout::new(other.data_dir.clone()))?;
    }
    Ok(if runs { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_one(name: &str, layout: &Layout) -> anyhow::Result<bool> {
    let Some(settings) = Settings::read(layout)? else {
        say!("{name}: not created ({})", layout.data().display());
        return Ok(false);
    };
    let holder = lock::holder(layout)?;
    match holder {
        Some(pid) => say!("{name}: running (process {pid})"),
        None => say!("{name}: stopped"),
    }
    say!("  data directory  {}", layout.data().display());
    say!("  API server      https://127.0.0.1:{}", settings.secure_port);
    say!("  node            {}", settings.node_name);
    say!("  pods, services  {}, {}", settings.pod_block, settings.service_block);
    say!("  kubeconfig      {}", layout.kubeconfig().display());
    Ok(holder.is_some())
}
