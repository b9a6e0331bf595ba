//! Which API servers live: each keeps a key on a lease in the store, and all of them write the endpoints of the service
//! `kubernetes` from these keys (upstream's lease reconciler of endpoints).
//!
//! Renewing a lease writes nothing to a replicated store, and the keys are watched: a server that dies leaves the
//! endpoints when its lease ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use schema::value;
use store::{Error as StoreError, KeyRange, LeaseId, Op, Put, RangeOptions, Txn, WatchOptions, Watcher};

use super::Maker;
use crate::Error;
use crate::core::Core;

/// Where the keys are; the rest of a key is an address.
const PREFIX: &str = "/registry/masterleases/";
/// How long a silent server stays an endpoint, in seconds, and how often a living one renews (upstream's
/// `DefaultEndpointReconcilerTTL` and `DefaultEndpointReconcilerInterval`).
const TTL_S: i64 = 15;
const RENEW: Duration = Duration::from_secs(10);
/// Between tries of what failed.
const RETRY: Duration = Duration::from_secs(1);

/// Says that this server lives, and writes the endpoints; a task of the server goes on with both.
pub(super) async fn start(core: &Core, ip: IpAddr) -> Result<(), Error> {
    let failed = |source: StoreError| Error::Bootstrap {
        what: "lease of the endpoints of the service kubernetes".to_owned(),
        source: source.into(),
    };
    let registry = core.registry.clone();
    let mut living = Living { port: core.advertise.port(), ip, lease: LeaseId::NONE, registry };
    living.register().await.map_err(failed)?;
    let watcher = living.watch().map_err(failed)?;
    living.write_endpoints().await?;
    let ends = core.scope.token().clone();
    core.scope.spawn_graceful(async move {
        ends.run_until_cancelled(living.keep(watcher)).await;
        // Clients go elsewhere at once, not when the lease has ended.
        _ = living.registry.store.lease_revoke(living.lease).await;
    });
    Ok(())
}

struct Living {
    registry: Arc<crate::registry::Registry>,
    ip: IpAddr,
    port: u16,
    lease: LeaseId,
}

impl Living {
    fn range() -> KeyRange {
        KeyRange::prefix(PREFIX)
    }

    fn watch(&self) -> Result<Watcher, StoreError> {
        self.registry.store.watch(Self::range(), WatchOptions::default())
    }

    /// Takes a lease and hangs this server's key on it.
    async fn register(&mut self) -> Result<(), StoreError> {
        let store = &self.registry.store;
        let lease = store.lease_grant(LeaseId::NONE, TTL_S).await?.id;
        let ip = self.ip.to_string();
        let content = value!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": (ip.as_str())},
            "subsets": [{"addresses": [{"ip": (ip.as_str())}]}]});
        let text = serde_json::to_vec(&content).unwrap_or_default();
        let put = Put::new(format!("{PREFIX}{ip}"), text).with_lease(lease);
        store.txn(Txn::of(Op::Put(put))).await?;
        self.lease = lease;
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), StoreError> {
        match self.registry.store.lease_keep_alive(self.lease).await {
            Ok(_) => Ok(()),
            // Cut off for too long: the others have taken this server for dead.
            Err(StoreError::LeaseNotFound(_)) => self.register().await,
            Err(error) => Err(error),
        }
    }

    /// Writes the endpoints as the keys are now. None at all would be a mistake: this server lives.
    async fn write_endpoints(&self) -> Result<(), Error> {
        let read = self.registry.store.range(&Self::range(), RangeOptions::default());
        let entries = read.map(|read| read.entries).unwrap_or_default();
        let ips = addresses(entries.iter().map(|entry| entry.key.as_bytes()));
        if ips.is_empty() {
            return Ok(());
        }
        super::kubernetes::write_endpoints(&Maker::new(&self.registry), &ips, self.port).await
    }

    async fn keep(&mut self, first: Watcher) {
        let mut watcher = Some(first);
        let mut stale = false;
        let mut pause = RENEW;
        loop {
            let changed = tokio::select! {
                changed = next_change(&mut watcher) => changed,
                () = tokio::time::sleep(pause) => {
                    let renewed = self.renew().await;
                    if let Err(error) = &renewed {
                        tracing::warn!(%error, "the lease of this server's endpoint is not renewed");
                    }
                    pause = if renewed.is_ok() { RENEW } else { RETRY };
                    false
                }
            };
            if watcher.is_none() {
                watcher = self.watch().ok();
                stale = true;
            }
            if changed || stale {
                let written = self.write_endpoints().await;
                stale = written.is_err();
                if let Err(error) = written {
                    tracing::warn!(%error, "the endpoints of the service kubernetes are not written");
                    pause = RETRY;
                }
            }
        }
    }
}

/// Waits for a change; a watch that ended is taken away, which counts as one.
async fn next_change(watcher: &mut Option<Watcher>) -> bool {
    match watcher {
        Some(live) => {
            if live.next().await.is_err() {
                *watcher = None;
            }
            true
        }
        None => std::future::pending().await,
    }
}

/// The addresses that keys name, in order.
fn addresses<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Vec<IpAddr> {
    let of_key = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.parse().ok();
    let mut all: Vec<IpAddr> = keys.filter_map(of_key).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_the_living() {
        let keys: [&[u8]; 4] = [
            b"/registry/masterleases/10.0.0.2",
            b"/registry/masterleases/10.0.0.1",
            b"/registry/masterleases/nonsense",
            b"/registry/masterleases/",
        ];
        let all = addresses(keys.into_iter());
        assert_eq!(all, ["10.0.0.1".parse::<IpAddr>().unwrap(), "10.0.0.2".parse().unwrap()]);
    }
}
