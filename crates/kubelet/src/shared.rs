//! What every part of one kubelet has in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base::{SharedClock, TaskScope};
use client::{EventRecorder, Informer, Informers};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use proto::cri::v1::DnsConfig;
use tokio::sync::Notify;

use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::container::linux::NodeLimits;
use crate::container::security::NodeSecurity;
use crate::cri::Cri;
use crate::images::Images;
use crate::node::{Machine, RuntimeFacts};
use crate::probes::ProbeContext;
use crate::status::StatusWriter;
use crate::volumes::{References, Volumes};

/// The parts of a kubelet that pod workers and the HTTPS API use.
pub struct Shared {
    pub config: Arc<Config>,
    pub client: kube::Client,
    pub clock: SharedClock,
    pub scope: TaskScope,
    pub cri: Cri,
    /// The scheme of container ids.
    pub runtime_name: String,
    pub runtime: Arc<Mutex<RuntimeFacts>>,
    pub events: EventRecorder,
    pub images: Images,
    pub volumes: Volumes,
    pub references: References,
    pub cgroups: Cgroups,
    pub status: StatusWriter,
    pub machine: Machine,
    pub limits: NodeLimits,
    pub host_ips: Vec<String>,
    pub host_dns: DnsConfig,
    /// Owns the informers' tasks: they end with it.
    pub _informers: Informers,
    pub pods: Informer<Pod>,
    pub services: Informer<Service>,
    pub node: Informer<Node>,
    pub probes: ProbeContext,
    pub started: SystemTime,
    /// Told when a pod's cgroup comes or goes.
    pub groups_changed: Notify,
}

impl Shared {
    /// The time, for objects.
    pub fn now(&self) -> Time {
        Time(Timestamp::try_from(self.clock.now()).unwrap_or_default())
    }

    /// What the node decides about security.
    pub fn security(&self) -> NodeSecurity<'_> {
        NodeSecurity {
            seccomp_root: &self.config.seccomp_profile_root,
            seccomp_default: self.config.seccomp_default,
        }
    }

    /// The folder of all pods' folders.
    pub fn pods_dir(&self) -> PathBuf {
        self.config.root_dir.join("pods")
    }

    /// The Node object, if it has been seen.
    pub fn node_object(&self) -> Option<Arc<Node>> {
        self.node.cache().get(None, &self.config.node_name)
    }
}
