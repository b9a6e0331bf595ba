//! What the server keeps of itself in `kube-system`: its identity lease (KEP-1965), and since when tokens of service
//! accounts are tracked (KEP-2799).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use schema::{Value, value};

use crate::bootstrap::Maker;
use crate::core::Core;
use crate::registry::options::DeleteOptions;
use crate::registry::{Registry, meta};

const NAMESPACE: &str = "kube-system";
/// How long the lease is good for, in seconds (`IdentityLeaseDurationSeconds`).
const DURATION_S: i64 = 3600;
/// It is renewed this often: far more often than it expires, and seldom enough to leave an idle disk alone.
const RENEW: Duration = Duration::from_secs(10 * 60);
/// The label of such leases, and what it says.
const LABEL: &str = "apiserver.kubernetes.io/identity";
const HOLDER: &str = "kube-apiserver";
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
            if let Err(error) = forget_dead(&core.registry, &name).await {
                tracing::warn!(%error, "remove identity leases of servers that are gone");
            }
            tokio::time::sleep(RENEW).await;
        }
    });
}

/// Removes the leases of other servers that have ended (upstream's identity lease garbage collector).
async fn forget_dead(registry: &Registry, own: &str) -> crate::ApiResult<()> {
    let Some(served) = registry.stored_resource("coordination.k8s.io", "leases") else { return Ok(()) };
    for lease in registry.find_all("coordination.k8s.io", "leases", Some(NAMESPACE))? {
        let name = meta::name(&lease);
        if name == own || !has_ended(&lease, Timestamp::now()) {
            continue;
        }
        match registry.own().delete(&served, (NAMESPACE, name), &DeleteOptions::default()).await {
            Err(error) if error.code != 404 => return Err(error),
            _ => tracing::info!(name, "removed the identity lease of a server that is gone"),
        }
    }
    Ok(())
}

/// Whether a lease is a server's identity and was not renewed within its duration.
fn has_ended(lease: &Value, now: Timestamp) -> bool {
    let is_identity =
        lease.map_at("metadata.labels").and_then(|labels| labels.get_str(LABEL)) == Some(HOLDER);
    let renewed = lease.str_at("spec.renewTime").and_then(|text| text.parse::<Timestamp>().ok());
    let duration_s = lease.int_at("spec.leaseDurationSeconds").unwrap_or(DURATION_S);
    is_identity && renewed.is_none_or(|at| now.as_second().saturating_sub(at.as_second()) > duration_s)
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
            (LABEL): HOLDER, "kubernetes.io/hostname": host}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": DURATION_S, "renewTime": now}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_renewed_lives() {
        let now = Timestamp::now();
        let mut own = lease("apiserver-x", "node", "me");
        assert!(!has_ended(&own, now));
        own.set("spec.renewTime", "2026-01-01T00:00:00.000000Z");
        assert!(has_ended(&own, now));
        own.set("metadata.labels", value!({}));
        assert!(!has_ended(&own, now), "a lease of somebody else");
    }

    #[test]
    fn a_host_has_one_name() {
        let name = lease_name("node");
        assert_eq!(name, lease_name("node"));
        assert_ne!(name, lease_name("other"));
        assert_eq!(name.len(), "apiserver-".len() + 26);
    }
}
