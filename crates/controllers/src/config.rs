//! What the controllers are told at start: the flags of kube-controller-manager that they support.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of all controllers. The defaults are upstream's, but for the files, of which there are none.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--controllers`.
    pub controllers: Selection,
    /// `--cluster-name`.
    pub cluster_name: String,
    /// `--root-ca-file`: published in every namespace as ConfigMap `kube-root-ca.crt`. Without it none is published.
    pub root_ca_file: Option<PathBuf>,
    /// `--service-account-private-key-file`: signs tokens for Secrets of type service-account-token.
    pub service_account_key_file: Option<PathBuf>,
    /// `--cluster-signing-cert-file`.
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// `--cluster-signing-key-file`.
    pub cluster_signing_key_file: Option<PathBuf>,
    /// `--cluster-signing-duration`: the longest validity of what is signed.
    pub cluster_signing_duration: Duration,
    /// `--node-monitor-grace-period`: how long a silent node stays Ready.
    pub node_monitor_grace_period: Duration,
    /// `--node-startup-grace-period`: the same for a node that has just appeared.
    pub node_startup_grace_period: Duration,
    /// `--node-eviction-rate`: nodes per second whose pods are evicted in a healthy zone.
    pub node_eviction_rate: f64,
    /// `--secondary-node-eviction-rate`: the same in an unhealthy zone of a large cluster.
    pub secondary_node_eviction_rate: f64,
    /// `--large-cluster-size-threshold`: nodes of a zone above which it counts as large.
    pub large_cluster_size_threshold: usize,
    /// `--unhealthy-zone-threshold`: fraction of nodes not ready that makes a zone unhealthy.
    pub unhealthy_zone_threshold: f64,
    /// `--terminated-pod-gc-threshold`: finished pods kept; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// `--allocate-node-cidrs`.
    pub allocate_node_cidrs: bool,
    /// `--cluster-cidr`: ranges that the nodes' pod ranges are cut from, one per address family.
    pub cluster_cidrs: Vec<String>,
    /// `--service-cluster-ip-range`: never given to a node.
    pub service_cidrs: Vec<String>,
    /// `--node-cidr-mask-size-ipv4`.
    pub node_cidr_mask_size_ipv4: u8,
    /// `--node-cidr-mask-size-ipv6`.
    pub node_cidr_mask_size_ipv6: u8,
    /// `--horizontal-pod-autoscaler-sync-period`.
    pub hpa_sync_period: Duration,
    /// `--horizontal-pod-autoscaler-tolerance`.
    pub hpa_tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`.
    pub hpa_downscale_stabilization: Duration,
    /// `--concurrent-*-syncs`, by controller name; what is absent has upstream's default.
    pub concurrent_syncs: BTreeMap<String, usize>,
    /// `--max-endpoints-per-slice`.
    pub max_endpoints_per_slice: usize,
    /// `--mirroring-max-endpoints-per-subset`.
    pub mirroring_max_endpoints_per_subset: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controllers: Selection::default(),
            cluster_name: "kubernetes".to_owned(),
            root_ca_file: None,
            service_account_key_file: None,
            cluster_signing_cert_file: None,
            cluster_signing_key_file: None,
            cluster_signing_duration: Duration::from_secs(365 * 24 * 3600),
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            large_cluster_size_threshold: 50,
            unhealthy_zone_threshold: 0.55,
            terminated_pod_gc_threshold: 12500,
            allocate_node_cidrs: false,
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            node_cidr_mask_size_ipv4: 24,
            node_cidr_mask_size_ipv6: 64,
            hpa_sync_period: Duration::from_secs(15),
            hpa_tolerance: 0.1,
            hpa_downscale_stabilization: Duration::from_secs(300),
            concurrent_syncs: BTreeMap::new(),
            max_endpoints_per_slice: 100,
            mirroring_max_endpoints_per_subset: 1000,
        }
    }
}

/// Which controllers run: upstream's `--controllers=*,-foo,bar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    items: Vec<String>,
}

/// A selection that names a controller which there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not in the list of known controllers")]
pub struct SelectionError(pub String);

impl Default for Selection {
    fn default() -> Self {
        Self { items: vec!["*".to_owned()] }
    }
}

impl Selection {
    /// From items such as `*`, `-foo`, `foo`; of several items for a controller the first counts.
    pub fn new(items: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { items: items.into_iter().map(Into::into).collect() }
    }

    /// From the text of the flag: items joined by commas.
    pub fn parse(text: &str) -> Self {
        Self::new(text.split(',').map(str::trim).filter(|item| !item.is_empty()))
    }

    /// The names that must exist.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|i| i.strip_prefix('-').unwrap_or(i)).filter(|i| *i != "*")
    }

    /// True if the controller of one of these names (its own and its aliases) runs.
    pub(crate) fn includes(&self, names: &[&str], on_by_default: bool) -> bool {
        for item in &self.items {
            match item.strip_prefix('-') {
                Some(off) if names.contains(&off) => return false,
                None if names.contains(&item.as_str()) => return true,
                _ => {}
            }
        }
        on_by_default && self.items.iter().any(|item| item == "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_as_upstream_reads_them() {
        for (text, name, default, runs) in [
            ("*", "a", true, true),
            ("*", "a", false, false),
            ("*,a", "a", false, true),
            ("*,-a", "a", true, false),
            ("-a,*", "a", true, false),
            ("b", "a", true, false),
            ("a", "a", false, true),
        ] {
            assert_eq!(Selection::parse(text).includes(&[name], default), runs, "{text} {name} {default}");
        }
    }
}
