//! The node's lease: the sign of life that is cheap to give.

use std::time::Duration;

use base::SharedClock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

const NAMESPACE: &str = "kube-node-lease";
/// First and longest pause after a failure (upstream 200 ms, 7 s).
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(7));

/// Renews the lease of the node at a quarter of `duration`, for ever. `owner` ties it to the Node object.
pub async fn keep_lease(
    client: kube::Client,
    clock: SharedClock,
    node_name: String,
    owner: Option<String>,
    duration: Duration,
) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut held: Option<Lease> = None;
    let mut pause = PAUSE.0;
    loop {
        let now = Timestamp::try_from(clock.now()).unwrap_or_default();
        let step = match held.take() {
            Some(lease) => renew(&api, lease, &node_name, now).await,
            None => acquire(&api, &node_name, owner.as_deref(), duration, now).await,
        };
        match step {
            Ok(lease) => {
                held = Some(lease);
                pause = PAUSE.0;
                tokio::time::sleep(duration / 4).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot renew the node's lease");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

async fn renew(api: &Api<Lease>, mut lease: Lease, node: &str, now: Timestamp) -> Result<Lease, kube::Error> {
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
    api.replace(node, &PostParams::default(), &lease).await
}

async fn acquire(
    api: &Api<Lease>,
    node: &str,
    owner: Option<&str>,
    duration: Duration,
    now: Timestamp,
) -> Result<Lease, kube::Error> {
    let owners = owner.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]
    });
    let mut lease = api.get_opt(node).await?.unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: Some(duration.as_secs() as i32),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    });
    if lease.metadata.name.is_some() {
        lease.metadata.owner_references = owners.or(lease.metadata.owner_references);
        return api.replace(node, &PostParams::default(), &lease).await;
    }
    lease.metadata = ObjectMeta {
        name: Some(node.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        owner_references: owners,
        ..ObjectMeta::default()
    };
    api.create(&PostParams::default(), &lease).await
}
