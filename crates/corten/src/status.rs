//! `corten status`: what runs.

use std::process::ExitCode;

use crate::layout::Layout;
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
        println!("{name}: not created ({})", layout.data().display());
        return Ok(false);
    };
    let holder = lock::holder(layout)?;
    match holder {
        Some(pid) => println!("{name}: running (process {pid})"),
        None => println!("{name}: stopped"),
    }
    println!("  data directory  {}", layout.data().display());
    println!("  API server      https://127.0.0.1:{}", settings.secure_port);
    println!("  node            {}", settings.node_name);
    println!("  pods, services  {}, {}", settings.pod_block, settings.service_block);
    println!("  kubeconfig      {}", layout.kubeconfig().display());
    Ok(holder.is_some())
}
