//! What a kubelet is told: upstream's flags and KubeletConfiguration fields, as one value.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use pki::KeyPairFiles;

use crate::node::VERSION;

/// The kubelet's configuration. Every path, address and name that one node has lies here, so that several nodes run on
/// one machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name (`--hostname-override`).
    pub node_name: String,
    /// The node's address (`--node-ip`); `None` takes the source address of the default route.
    pub node_ip: Option<IpAddr>,
    /// State: pod directories and plugins (`--root-dir`, upstream `/var/lib/kubelet`).
    pub root_dir: PathBuf,
    /// Container logs as the runtime writes them (`podLogsDir`, upstream `/var/log/pods`).
    pub pod_logs_dir: PathBuf,
    /// Links to container logs by container name (upstream `/var/log/containers`); `None` makes none.
    pub container_logs_dir: Option<PathBuf>,
    /// The unix socket of the container runtime (`containerRuntimeEndpoint`, without its scheme).
    pub runtime_endpoint: PathBuf,
    /// The unix socket of the image service (`imageServiceEndpoint`); `None` is the runtime's.
    pub image_endpoint: Option<PathBuf>,
    /// The cgroup below which `kubepods` is made (`cgroupRoot`), e.g. `/`. The driver is always cgroupfs.
    pub cgroup_root: String,
    /// True makes `kubepods` cgroups per QoS class and pod (`cgroupsPerQOS`).
    pub cgroups_per_qos: bool,
    /// The folder of static pods (`staticPodPath`).
    pub static_pod_path: Option<PathBuf>,
    /// Addresses of the cluster's DNS servers (`clusterDNS`).
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain (`clusterDomain`).
    pub cluster_domain: String,
    /// The resolver configuration that pods with the `Default` DNS policy get (`resolvConf`).
    pub resolv_conf: PathBuf,
    /// What is kept from pods for Kubernetes itself (`kubeReserved`): resource name to quantity.
    pub kube_reserved: BTreeMap<String, String>,
    /// What is kept from pods for the system (`systemReserved`).
    pub system_reserved: BTreeMap<String, String>,
    /// How many pods the node takes (`maxPods`).
    pub max_pods: u32,
    /// Processes per pod, -1 for no limit (`podPidsLimit`).
    pub pod_pids_limit: i64,
    /// Labels to register the node with (`--node-labels`).
    pub node_labels: BTreeMap<String, String>,
    /// Taints to register the node with (`registerWithTaints`).
    pub register_with_taints: Vec<Taint>,
    /// True creates the Node object if it is not there (`registerNode`).
    pub register_node: bool,
    /// The pod network handed to the runtime (`podCIDR`); `None` takes the Node's `spec.podCIDR` when it appears.
    pub pod_cidr: Option<String>,
    /// The provider's id of the node (`providerID`).
    pub provider_id: Option<String>,
    /// Where the HTTPS API listens (`address`, `port`).
    pub listen: SocketAddr,
    /// The serving certificate (`tlsCertFile`, `tlsPrivateKeyFile`); read again when the files change. `None` serves
    /// nothing.
    pub serving: Option<KeyPairFiles>,
    /// Authorities of client certificates (`authentication.x509.clientCAFile`).
    pub client_ca_files: Vec<PathBuf>,
    /// How often at the latest the node status is written (`nodeStatusReportFrequency`).
    pub node_status_report_frequency: Duration,
    /// How often pressure, images and addresses are looked at (`nodeStatusUpdateFrequency`).
    pub node_status_update_frequency: Duration,
    /// How long the node's lease lasts (`nodeLeaseDurationSeconds`); renewed at a quarter of it.
    pub node_lease_duration: Duration,
    /// Disk usage above which unused images are removed, in percent (`imageGCHighThresholdPercent`).
    pub image_gc_high_threshold_percent: u8,
    /// Disk usage down to which unused images are removed, in percent (`imageGCLowThresholdPercent`).
    pub image_gc_low_threshold_percent: u8,
    /// How long an image must be unused before it is removed (`imageMinimumGCAge`).
    pub image_minimum_gc_age: Duration,
    /// `signal<quantity` by signal (`evictionHard`), e.g. `memory.available` to `100Mi`.
    pub eviction_hard: BTreeMap<String, String>,
    /// How long a pressure condition stays after the signal is well (`evictionPressureTransitionPeriod`).
    pub eviction_pressure_transition_period: Duration,
    /// Size at which a container's log is rotated, in bytes (`containerLogMaxSize`).
    pub container_log_max_size: u64,
    /// How many log files a container keeps (`containerLogMaxFiles`).
    pub container_log_max_files: u32,
    /// Where `Localhost` seccomp profiles lie (upstream `<root-dir>/seccomp`).
    pub seccomp_profile_root: PathBuf,
    /// True gives `RuntimeDefault` to pods that name no seccomp profile (`seccompDefault`).
    pub seccomp_default: bool,
    /// Longest pause between restarts of a crashing container (`crashLoopBackOff.maxContainerRestartPeriod`).
    pub max_container_restart_period: Duration,
    /// Sysctls beyond the safe ones that pods may set (`allowedUnsafeSysctls`), names or prefixes with `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Plug-in sockets (`plugins_registry` below the root directory upstream); kept for the device and CSI plug-ins.
    pub plugins_dir: PathBuf,
    /// Volume plug-in directory (`volumePluginDir`).
    pub volume_plugin_dir: PathBuf,
    /// What the kubelet says its version is, e.g. `v1.36.0`.
    pub version: String,
}

impl Config {
    /// Upstream's defaults for a node called `node_name`, its state under `root_dir`, its runtime at `socket`.
    pub fn new(
        node_name: impl Into<String>,
        root_dir: impl Into<PathBuf>,
        socket: impl Into<PathBuf>,
    ) -> Self {
        let root_dir = root_dir.into();
        Self {
            node_name: node_name.into(),
            node_ip: None,
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            container_logs_dir: Some(PathBuf::from("/var/log/containers")),
            runtime_endpoint: socket.into(),
            image_endpoint: None,
            cgroup_root: "/".to_owned(),
            cgroups_per_qos: true,
            static_pod_path: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
            max_pods: 110,
            pod_pids_limit: -1,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            pod_cidr: None,
            provider_id: None,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10250)),
            serving: None,
            client_ca_files: Vec::new(),
            node_status_report_frequency: Duration::from_secs(300),
            node_status_update_frequency: Duration::from_secs(10),
            node_lease_duration: Duration::from_secs(40),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_minimum_gc_age: Duration::from_secs(120),
            eviction_hard: default_eviction(),
            eviction_pressure_transition_period: Duration::from_secs(300),
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            seccomp_profile_root: root_dir.join("seccomp"),
            seccomp_default: false,
            max_container_restart_period: Duration::from_secs(300),
            allowed_unsafe_sysctls: Vec::new(),
            plugins_dir: root_dir.join("plugins_registry"),
            volume_plugin_dir: root_dir.join("volumeplugins"),
            version: VERSION.to_owned(),
            root_dir,
        }
    }
}

/// Upstream's `evictionHard` on Linux.
fn default_eviction() -> BTreeMap<String, String> {
    let defaults = [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ];
    defaults.iter().map(|(signal, value)| ((*signal).to_owned(), (*value).to_owned())).collect()
}
