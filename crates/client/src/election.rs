//! Leader election by a Lease (client-go's leaderelection with a LeaseLock).

use std::time::Duration;

use base::TaskScope;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is elected, and how patiently. Defaults of durations are upstream's: 15, 10 and 2 seconds.
#[derive(Debug, Clone)]
pub struct ElectionConfig {
    /// Namespace of the Lease, `kube-system` for components.
    pub namespace: String,
    /// Name of the Lease, e.g. `kube-scheduler`.
    pub name: String,
    /// Who we are, unique among candidates.
    pub identity: String,
    /// How long a leader that is silent stays leader.
    pub lease: Duration,
    /// How long we try to renew before we give up.
    pub renew_deadline: Duration,
    /// Pause between tries.
    pub retry: Duration,
}

impl ElectionConfig {
    /// Upstream's durations.
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// We lead until [`Leadership::lost`].
#[derive(Debug, Clone)]
pub struct Leadership {
    lost: CancellationToken,
}

impl Leadership {
    /// Waits until another may lead. The holder must stop its work then.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// The token that is cancelled when leadership is lost.
    pub fn token(&self) -> &CancellationToken {
        &self.lost
    }
}

/// Waits until we lead. A task in `scope` renews the Lease, and gives it up when the scope ends.
pub async fn elect(client: kube::Client, config: ElectionConfig, scope: &TaskScope) -> Leadership {
    let mut candidate = Candidate { api: Api::namespaced(client, &config.namespace), config, observed: None };
    loop {
        match candidate.acquire_or_renew().await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::debug!(lease = candidate.config.name, %error, "lease not acquired"),
        }
        tokio::time::sleep(candidate.config.retry.mul_f64(1.0 + fastrand::f64() * 0.2)).await;
    }
    tracing::info!(lease = candidate.config.name, identity = candidate.config.identity, "became leader");
    let lost = CancellationToken::new();
    let leadership = Leadership { lost: lost.clone() };
    let stop = scope.token().clone();
    scope.spawn_graceful(async move {
        candidate.hold(stop).await;
        lost.cancel();
    });
    leadership
}

/// What we last saw of another's Lease, and when by our own clock: clocks of machines are never compared.
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

struct Candidate {
    api: Api<Lease>,
    config: ElectionConfig,
    observed: Option<Observed>,
}

impl Candidate {
    async fn hold(&mut self, stop: CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.release().await,
                () = tokio::time::sleep(self.config.retry) => {}
            }
            // Another may lead as soon as the lease has ended: a request that hangs must not outlast the deadline.
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.acquire_or_renew()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return tracing::warn!(lease = self.config.name, "another leads"),
                Ok(Err(error)) => tracing::warn!(lease = self.config.name, %error, "lease not renewed"),
                Err(_) => {}
            }
            if renewed.elapsed() >= self.config.renew_deadline {
                return tracing::warn!(
                    lease = self.config.name,
                    "lease not renewed in time, no longer leader"
                );
            }
        }
    }

    /// True when the Lease is ours now.
    async fn acquire_or_renew(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let Some(lease) = self.api.get_opt(&self.config.name).await? else {
            let fresh = Lease {
                metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(now.clone(), now, 0)),
            };
            return won(self.api.create(&PostParams::default(), &fresh).await);
        };
        let held = lease.spec.clone().unwrap_or_default();
        let holder = held.holder_identity.clone().unwrap_or_default();
        if holder != self.config.identity && !holder.is_empty() && !self.expired(&held) {
            return Ok(false);
        }
        let transitions = held.lease_transitions.unwrap_or(0);
        let ours = holder == self.config.identity;
        let acquired = held.acquire_time.filter(|_| ours).unwrap_or_else(|| now.clone());
        let next = Lease { spec: Some(self.spec(acquired, now, transitions + i32::from(!ours))), ..lease };
        won(self.api.replace(&self.config.name, &PostParams::default(), &next).await)
    }

    /// True when another's Lease has not changed for its duration, by our clock.
    fn expired(&mut self, held: &LeaseSpec) -> bool {
        match &self.observed {
            Some(observed) if observed.spec == *held => {
                let duration = held.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
                observed.at.elapsed() >= duration.map_or(self.config.lease, Duration::from_secs)
            }
            _ => {
                self.observed = Some(Observed { spec: held.clone(), at: Instant::now() });
                false
            }
        }
    }

    fn spec(&self, acquired: MicroTime, renewed: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(self.config.lease.as_secs() as i32),
            acquire_time: Some(acquired),
            renew_time: Some(renewed),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Lets another lead at once instead of after the lease has expired.
    async fn release(&self) {
        let Ok(Some(lease)) = self.api.get_opt(&self.config.name).await else { return };
        let Some(held) = lease.spec.clone() else { return };
        if held.holder_identity.as_deref() != Some(self.config.identity.as_str()) {
            return;
        }
        let spec =
            LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), ..held };
        let released = Lease { spec: Some(spec), ..lease };
        if let Err(error) = self.api.replace(&self.config.name, &PostParams::default(), &released).await {
            tracing::debug!(%error, "lease not released");
        }
    }
}

/// A conflict means that another candidate was quicker.
fn won<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
