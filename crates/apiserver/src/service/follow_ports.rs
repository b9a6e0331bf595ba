//! Follows services, whose ports other servers may have given.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use store::{Entry, EventKind, KeyRange, RangeOptions, WatchBatch};

use super::{Addresses, node_ports};
use crate::registry::{Followed, Registry, Served, stored};
use crate::status::ApiResult;

/// Keeps what is taken in line with `services`, until the store ends.
pub async fn run(registry: Arc<Registry>, services: Arc<Served>) {
    let mut follower = registry.follow(&services);
    let mut seen = Seen::default();
    while let Some(followed) = follower.next().await {
        match followed {
            Followed::Anew => {
                if let Err(error) = read_all(&registry, &services, &mut seen) {
                    tracing::warn!(error = %error.message, "ports of services not read");
                }
            }
            Followed::Changes(batch) => {
                for (before, now) in changes(&batch) {
                    seen.change(&registry.addresses, &before, &now, batch.revision.0);
                }
            }
        }
    }
}

fn read_all(registry: &Registry, services: &Served, seen: &mut Seen) -> ApiResult<()> {
    let range = KeyRange::prefix(services.key_prefix(None));
    let read = registry.store.range(&range, RangeOptions::default())?;
    let ports = read.entries.iter().flat_map(ports_of).collect();
    seen.replace(&registry.addresses, ports, read.revision.0);
    Ok(())
}

/// The ports of each service that changed, before and after.
fn changes(batch: &WatchBatch) -> impl Iterator<Item = (Vec<u16>, Vec<u16>)> {
    batch.events.iter().map(|event| {
        let now = if event.kind == EventKind::Put { ports_of(&event.entry) } else { Vec::new() };
        (event.prev.as_ref().map(ports_of).unwrap_or_default(), now)
    })
}

fn ports_of(entry: &Arc<Entry>) -> Vec<u16> {
    stored::memo(entry).decoded(entry).map(|service| node_ports(&service)).unwrap_or_default()
}

/// The ports that stored services had, with the revision at which they were seen. A port is given back by what was
/// seen: one that this server has taken since, for a service that is not stored yet, stays taken.
#[derive(Debug, Default)]
struct Seen(HashMap<u16, u64>);

impl Seen {
    /// Services have these ports and no others at `revision`.
    fn replace(&mut self, addresses: &Addresses, ports: BTreeSet<u16>, revision: u64) {
        for (port, seen_at) in &self.0 {
            if !ports.contains(port) {
                addresses.release_port_at(*port, seen_at + 1);
            }
        }
        self.0 = ports.into_iter().map(|port| (port, revision)).collect();
        for port in self.0.keys() {
            // Mostly it is taken already.
            let _ = addresses.take_port(*port, revision);
        }
    }

    /// One service changed at `revision`.
    fn change(&mut self, addresses: &Addresses, before: &[u16], now: &[u16], revision: u64) {
        for port in before.iter().filter(|port| !now.contains(port)) {
            self.0.remove(port);
            addresses.release_port_at(*port, revision);
        }
        for port in now {
            self.0.insert(*port, revision);
            let _ = addresses.take_port(*port, revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_services_over_a_gap() {
        let addresses = Addresses::default();
        addresses.configure(&[], (30000, 30009), std::iter::empty());
        let is_free = |port| addresses.take_port(port, 0).is_ok();
        let mut seen = Seen::default();
        seen.replace(&addresses, BTreeSet::from([30000, 30001, 30002]), 5);
        seen.change(&addresses, &[30002], &[30003], 6);
        // Meanwhile 30000 and 30001 go; this server takes 30001 and 30004 for services that it has yet to store.
        addresses.release_port(30001);
        addresses.take_port(30001, 8).unwrap();
        addresses.take_port(30004, 8).unwrap();
        seen.replace(&addresses, BTreeSet::from([30003, 30005]), 9);
        let free: Vec<u16> = (30000..30006).filter(|port| is_free(*port)).collect();
        assert_eq!(free, [30000, 30002]);
    }
}
