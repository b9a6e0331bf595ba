//! What `/metrics` tells, under etcd's names.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::{ETCD_VERSION, Server};

/// Something counted.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    pub(crate) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted as it happens; the rest is read when somebody asks.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) ranges: Counter,
    pub(crate) puts: Counter,
    pub(crate) deletes: Counter,
    pub(crate) txns: Counter,
    pub(crate) leases_granted: Counter,
    pub(crate) leases_revoked: Counter,
    pub(crate) watch_streams: Counter,
    pub(crate) watchers: Counter,
    pub(crate) watch_events: Counter,
}

/// The text of `/metrics`.
pub(crate) fn text(server: &Server) -> String {
    let mut out = String::new();
    let mut row = |name: &str, kind: &str, value: u64| {
        _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
    };
    let status = server.cluster.status();
    let metrics = &server.metrics;
    let is_leader = status.leader == Some(status.member_id);
    row("etcd_server_has_leader", "gauge", u64::from(status.leader.is_some()));
    row("etcd_server_is_leader", "gauge", u64::from(is_leader));
    row("etcd_server_is_learner", "gauge", u64::from(status.is_learner));
    row("etcd_server_proposals_committed_total", "gauge", status.index);
    row("etcd_server_proposals_applied_total", "gauge", status.applied);
    row("etcd_server_quota_backend_bytes", "gauge", server.options.quota_bytes);
    row("etcd_mvcc_db_total_size_in_bytes", "gauge", status.db_bytes);
    row("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", status.db_bytes_in_use);
    row("etcd_debugging_mvcc_current_revision", "gauge", server.store.current_revision().0);
    row("etcd_debugging_mvcc_compact_revision", "gauge", server.store.compact_revision().0);
    row("etcd_mvcc_range_total", "counter", metrics.ranges.get());
    row("etcd_mvcc_put_total", "counter", metrics.puts.get());
    row("etcd_mvcc_delete_total", "counter", metrics.deletes.get());
    row("etcd_mvcc_txn_total", "counter", metrics.txns.get());
    row("etcd_debugging_lease_granted_total", "counter", metrics.leases_granted.get());
    row("etcd_debugging_lease_revoked_total", "counter", metrics.leases_revoked.get());
    row("etcd_debugging_mvcc_watch_streams_created_total", "counter", metrics.watch_streams.get());
    row("etcd_debugging_mvcc_watchers_created_total", "counter", metrics.watchers.get());
    row("etcd_debugging_mvcc_events_total", "counter", metrics.watch_events.get());
    let label = |out: &mut String, name: &str, label: &str, value: &str| {
        _ = writeln!(out, "# TYPE {name} gauge\n{name}{{{label}=\"{value}\"}} 1");
    };
    label(&mut out, "etcd_server_version", "server_version", ETCD_VERSION);
    label(&mut out, "etcd_server_id", "server_id", &status.member_id.to_string());
    out
}
