//! What the server keeps of itself in `kube-system`: its identity lease (KEP-1965), and since when tokens of service
//! accounts are tracked (KEP-2799).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use schema::{Value, value};

use crate::bootstrap::Maker;
use crate::core::Core;

const NAMESPACE: &str = "kube-system";
/// How long the lease is good for, in seconds (`IdentityLeaseDurationSeconds`).
const DURATION_S: i64 = 3600;
/// It is renewed this often: far more often than it expires, and seldom enough to leave an idle disk alone.
const RENEW: Duration = Duration::from_secs(10 * 60);
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

/// Keeps both, in a task of the server.
pub fn run(core: &Arc<Core>) {
    let core = core.clone();
    core.scope.clone().spawn(async move {
        let host = host_name();
        let name = lease_name(&host);
        let holder = format!("{name}_{}", crate::registry::meta::new_uid());
        let since = Timestamp::now().strftime("%Y-%m-%d").to_string();
        let tracking = value!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": since},
            "metadata": {"name": TRACKING, "namespace": NAMESPACE}});
        let maker = Maker::new(&core.registry);
        if let Err(error) = maker.ensure("", "configmaps", NAMESPACE, tracking).await {
            tracing::warn!(%error, "say since when tokens are tracked");
        }
        loop {
            let lease = lease(&name, &host, &holder);
            let renew = |live: &mut Value, own: &Value| {
                live.insert("spec", own["spec"].clone());
            };
            let written = maker.apply("coordination.k8s.io", "leases", NAMESPACE, &lease, &renew).await;
            if let Err(error) = written {
                tracing::warn!(%error, "renew the identity lease");
            }
            tokio::time::sleep(RENEW).await;
        }
    });
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase()
}

/// `apiserver-` and the start of a hash of the host's name, in base 32.
fn lease_name(host: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = digest(&SHA256, format!("kube-apiserver-{host}").as_bytes());
    let mut text = String::new();
    let (mut bits, mut have) = (0_u32, 0);
    for byte in &hash.as_ref()[..16] {
        bits = (bits << 8) | u32::from(*byte);
        have += 8;
        while have >= 5 {
            have -= 5;
            text.push(DIGITS[(bits >> have) as usize & 31] as char);
        }
    }
    text.push(DIGITS[(bits << (5 - have)) as usize & 31] as char);
    format!("apiserver-{text}")
}

fn lease(name: &str, host: &str, holder: &str) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    value!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {
            "apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": DURATION_S, "renewTime": now}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_name() {
        let name = lease_name("node");
        assert_eq!(name, lease_name("node"));
        assert_ne!(name, lease_name("other"));
        assert_eq!(name.len(), "apiserver-".len() + 26);
    }
}
