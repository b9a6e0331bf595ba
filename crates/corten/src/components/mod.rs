//! The components as processes of their own, with upstream's flag names for what they support.

mod apiserver;
mod controllers;
mod cri;
mod etcd;
mod go_flags;
mod kubelet;
mod proxy;
mod scheduler;

use std::ffi::OsString;
use std::future::Future;

use anyhow::Context;
use base::TaskScope;
use clap::Subcommand;

pub use self::apiserver::open_etcd;
pub use self::etcd::until_handed_over;
pub use self::go_flags::duration;
use crate::logging;

/// How long tasks may take to end when a component stops.
const SHUTDOWN_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A component and its flags.
#[derive(Subcommand)]
pub enum Component {
    /// Serve the Kubernetes API
    #[command(name = "kube-apiserver", args_override_self = true)]
    Apiserver(Box<apiserver::Flags>),
    /// Serve the etcd v3 API
    #[command(name = "etcd")]
    Etcd(Box<etcd::Flags>),
    /// Schedule pods
    #[command(name = "kube-scheduler")]
    Scheduler(scheduler::Flags),
    /// Run the controllers
    #[command(name = "kube-controller-manager")]
    Controllers(Box<controllers::Flags>),
    /// Run a node's pods
    #[command(name = "kubelet")]
    Kubelet(Box<kubelet::Flags>),
    /// Route service addresses
    #[command(name = "kube-proxy")]
    Proxy(proxy::Flags),
    /// Run containers, as a CRI server
    #[command(name = "cri")]
    Cri(cri::Flags),
}

/// Brings the arguments of `NAME …` into the form that its flags are parsed from. `Err` names a flag that upstream's
/// component has and ours does not.
pub fn prepare(name: &str, args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    match name {
        "kube-apiserver" => go_flags::normalize(args, apiserver::TABLE),
        "etcd" => etcd::prepare(args),
        _ => Ok(args),
    }
}

/// Runs a component until it is told to stop by SIGTERM or SIGINT.
pub fn run(component: Component) -> anyhow::Result<()> {
    logging::start();
    match component {
        Component::Apiserver(flags) => {
            let limit = SHUTDOWN_LIMIT + flags.serving.shutdown_delay_duration;
            until_stopped_within(limit, |scope| apiserver::run(*flags, scope))
        }
        Component::Etcd(flags) => until_stopped(|scope| etcd::run(*flags, scope)),
        Component::Scheduler(flags) => until_stopped(|scope| scheduler::run(flags, scope)),
        Component::Controllers(flags) => until_stopped(|scope| controllers::run(*flags, scope)),
        Component::Kubelet(flags) => until_stopped(|scope| kubelet::run(*flags, scope)),
        Component::Proxy(flags) => until_stopped(|scope| proxy::run(flags, scope)),
        Component::Cri(flags) => until_stopped(|scope| cri::run(flags, scope)),
    }
}

/// Runs `main` on a new runtime; ends it in order at a signal.
pub fn until_stopped<F, Fut>(main: F) -> anyhow::Result<()>
where
    F: FnOnce(TaskScope) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    until_stopped_within(SHUTDOWN_LIMIT, main)
}

/// As [`until_stopped`]; tasks may take `limit` to end.
fn until_stopped_within<F, Fut>(limit: std::time::Duration, main: F) -> anyhow::Result<()>
where
    F: FnOnce(TaskScope) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let scope = TaskScope::new("corten");
        let outcome = tokio::select! {
            outcome = main(scope.clone()) => outcome,
            signal = stop_signal() => signal,
        };
        scope.shutdown(limit).await;
        outcome
    })
}

async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for signals")?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping, as SIGTERM asks"),
        _ = interrupt.recv() => tracing::info!("stopping, as SIGINT asks"),
    }
    Ok(())
}
