//! kube-scheduler: queue, framework, plugins, the scheduling cycle and the binding cycle.
//!
//! It sees the API through [`kube::Client`] and informers alone, and runs against any API server.

mod config;
mod cycle;
pub mod framework;
mod lister;
mod node_info;
pub mod plugins;
mod pod_info;
mod queue;
mod report;
mod snapshot;
mod waiting;
mod watch;

pub use config::{Config, ProfileConfig};
pub use lister::{Informed, Lister};
pub use node_info::NodeInfo;
pub use pod_info::{Amounts, HostPort, PodInfo};
pub use snapshot::Snapshot;
pub use waiting::WaitingPods;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use base::TaskScope;
use client::{EventRecorder, Informers};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;

use framework::{Plugin, Profile};

/// Why a scheduler cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A profile needs exactly one plugin that orders the queue.
    #[error("profile {0:?}: exactly one plugin must extend QueueSort")]
    QueueSort(String),
    /// A profile cannot bind.
    #[error("profile {0:?}: no plugin extends Bind")]
    NoBind(String),
    /// A configuration names a plugin that there is not.
    #[error("profile {profile:?}: there is no plugin {plugin:?}")]
    UnknownPlugin {
        /// The profile.
        profile: String,
        /// The plugin.
        plugin: String,
    },
    /// Two profiles are for the same scheduler name.
    #[error("two profiles for the scheduler name {0:?}")]
    DuplicateProfile(String),
}

/// Schedules pods until `scope` ends. Returns once informers and workers are started.
///
/// `extra` are plugins beyond the built-in ones, enabled in every profile, as an out-of-tree scheduler registers its own.
pub fn run(
    config: &Config,
    client: kube::Client,
    informers: &Informers,
    extra: &[Arc<dyn Plugin>],
    scope: &TaskScope,
) -> Result<(), Error> {
    let recorder = EventRecorder::new(client.clone(), "default-scheduler", "", scope);
    // The queue needs the profiles, their plugins need what tells the queue: it is told once it is there.
    let late: Arc<OnceLock<queue::Queue>> = Arc::default();
    let told = late.clone();
    let tell = move |event| told.get().into_iter().for_each(|queue: &queue::Queue| queue.move_for(event));
    let lister = Arc::new(Informed::new(informers, tell));
    let handles =
        plugins::Handles { client: client.clone(), recorder: Some(recorder.clone()), lister: lister.clone() };
    let profiles = profiles(config, &handles, extra)?;
    let queue = queue::Queue::new(profiles.clone());
    let _ = late.set(queue.clone());
    let cache = Arc::new(Mutex::new(snapshot::Cache::default()));
    let pods = informers.get::<Pod>();
    let nodes = informers.get::<Node>();
    watch::follow(&nodes, &pods, cache.clone(), queue.clone());
    let scheduler = cycle::Scheduler {
        percentage_of_nodes_to_score: config.percentage_of_nodes_to_score,
        profiles,
        queue,
        cache,
        waiting: WaitingPods::default(),
        reporter: report::Reporter::new(client, recorder),
        next_start: 0,
        scope: scope.clone(),
    };
    // They follow the API as long as somebody has them.
    let informers = informers.clone();
    scope.spawn(async move {
        let _informers = informers;
        nodes.synced().await;
        pods.synced().await;
        lister.synced().await;
        scheduler.run().await;
    });
    Ok(())
}

fn profiles(
    config: &Config,
    handles: &plugins::Handles,
    extra: &[Arc<dyn Plugin>],
) -> Result<queue::Profiles, Error> {
    let mut profiles = HashMap::new();
    for profile in &config.profiles {
        let plugins = profile.select(plugins::registry(handles), extra)?;
        let built = Arc::new(Profile::new(&profile.scheduler_name, plugins)?);
        if profiles.insert(profile.scheduler_name.clone(), built).is_some() {
            return Err(Error::DuplicateProfile(profile.scheduler_name.clone()));
        }
    }
    Ok(Arc::new(profiles))
}
