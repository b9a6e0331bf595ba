//! How long a job waits after a failure before it makes the next pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::common::{pods, time};

/// The first and the longest pause.
const BACKOFF_BASE: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// The failures of a job since its last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// The record after these pods have newly succeeded and failed.
    pub fn after<'a>(
        self,
        succeeded: impl IntoIterator<Item = &'a Pod>,
        failed: impl IntoIterator<Item = &'a Pod>,
        now: Timestamp,
    ) -> Self {
        let last_success = succeeded.into_iter().map(|pod| finished_at(pod, now)).max();
        let mut record = if last_success.is_some() { Self::default() } else { self };
        for at in failed.into_iter().map(|pod| finished_at(pod, now)) {
            if last_success.is_none_or(|success| at > success) {
                record.failures += 1;
                record.last = record.last.max(Some(at));
            }
        }
        record
    }

    /// How long no pod is to be made.
    pub fn remaining(self, now: Timestamp) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        remaining(self.failures, last, now)
    }
}

/// How long to wait after so many failures, of which the last was at `last`.
pub fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let pause = BACKOFF_BASE.saturating_mul(1 << (failures - 1).min(16)).min(BACKOFF_MAX);
    let passed = Duration::try_from(time::since(last, now)).unwrap_or(Duration::ZERO);
    pause.saturating_sub(passed)
}

/// When a pod ended: by its containers, else by its readiness, else by its deletion.
pub fn finished_at(pod: &Pod, now: Timestamp) -> Timestamp {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let of_containers = statuses
        .into_iter()
        .flatten()
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|t| t.0)
        .max();
    let of_readiness = || {
        let ready = pods::condition(pod, "Ready").filter(|c| c.status == "False")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    };
    let of_deletion = || pod.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    of_containers.or_else(of_readiness).or_else(of_deletion).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, pod};
    use serde_json::json;

    #[test]
    fn pauses_double_and_a_success_ends_them() {
        let ended = |time: &str| {
            pod("p")
                .with(
                    "/status",
                    "containerStatuses",
                    json!([{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 1, "finishedAt": time}}}]),
                )
                .build()
        };
        let now = at("2026-01-01T00:00:30Z");
        let (a, b) = (ended("2026-01-01T00:00:10Z"), ended("2026-01-01T00:00:25Z"));
        let record = Record::default().after([], [&a, &b], now);
        assert_eq!(record.remaining(now).as_secs(), 15);
        assert_eq!(record.after([], [], now), record);
        assert_eq!(Record::default().after([&a], [&b], now).remaining(now).as_secs(), 5);
        assert_eq!(record.after([&b], [&a], now).remaining(now).as_secs(), 0);
    }
}
