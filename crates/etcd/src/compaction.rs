//! Compaction without being asked (`--auto-compaction-mode`, `--auto-compaction-retention`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use store::{Cluster, Error, Revision, Store};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often revisions are counted (upstream's `revInterval`).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Times in a period that the revision is noted.
const NOTES: u32 = 10;
/// The longest time between two compactions by time.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// What happened within this time.
    Periodic(Duration),
    /// This many revisions.
    Revision(u64),
}

impl Compaction {
    /// Reads upstream's two flags; a number without a unit is hours, and nothing is compacted for zero.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse(mode: &str, retention: &str) -> Result<Option<Self>, String> {
        let wrong = || {
            format!("--auto-compaction-retention {retention:?} does not fit --auto-compaction-mode {mode}")
        };
        if mode == "revision" {
            let count: u64 = retention.parse().map_err(|_| wrong())?;
            return Ok((count > 0).then_some(Self::Revision(count)));
        }
        let split = retention.find(|c: char| !c.is_ascii_digit()).unwrap_or(retention.len());
        let (number, unit) = retention.split_at(split);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "" | "h" | "h0m0s" => number.checked_mul(3600),
            "m" | "m0s" => number.checked_mul(60),
            "s" => Some(number),
            _ => None,
        };
        let period = Duration::from_secs(seconds.ok_or_else(wrong)?);
        Ok((!period.is_zero()).then_some(Self::Periodic(period)))
    }

    /// Compacts while this member leads; ends with the task.
    pub async fn run(self, store: Arc<dyn Store>, cluster: Arc<dyn Cluster>) {
        let every = match self {
            Self::Periodic(period) => period.min(MAX_INTERVAL) / NOTES,
            Self::Revision(_) => REVISION_INTERVAL,
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut notes = VecDeque::new();
        loop {
            let now = ticks.tick().await;
            let status = cluster.status();
            let due = self.due(now, store.current_revision(), &mut notes);
            let leads = status.leader == Some(status.member_id);
            let Some(revision) = due.filter(|due| leads && *due > store.compact_revision()) else { continue };
            match store.compact(revision).await {
                Ok(()) => tracing::info!(%revision, "compacted"),
                Err(Error::Compacted { .. }) => {}
                Err(error) => tracing::warn!(%error, %revision, "could not compact"),
            }
        }
    }

    /// The revision to compact to, if any. `notes` says when which revision was reached.
    fn due(
        self,
        now: Instant,
        current: Revision,
        notes: &mut VecDeque<(Instant, Revision)>,
    ) -> Option<Revision> {
        let period = match self {
            Self::Revision(count) => return current.0.checked_sub(count).filter(|to| *to > 0).map(Revision),
            Self::Periodic(period) => period,
        };
        notes.push_back((now, current));
        let mut due = None;
        while notes.front().is_some_and(|(at, _)| now.duration_since(*at) >= period) {
            due = notes.pop_front().map(|(_, revision)| revision);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_times() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Compaction::parse("periodic", "0"), Ok(None));
        assert_eq!(Compaction::parse("periodic", "2"), Ok(Some(Compaction::Periodic(2 * hour))));
        assert_eq!(Compaction::parse("periodic", "5m"), Ok(Some(Compaction::Periodic(hour / 12))));
        assert_eq!(Compaction::parse("revision", "1000"), Ok(Some(Compaction::Revision(1000))));
        assert!(Compaction::parse("revision", "5m").is_err() && Compaction::parse("periodic", "x").is_err());
        let (start, mut notes) = (Instant::now(), VecDeque::new());
        let periodic = Compaction::Periodic(hour);
        assert_eq!(periodic.due(start, Revision(5), &mut notes), None);
        assert_eq!(periodic.due(start + hour / 2, Revision(9), &mut notes), None);
        assert_eq!(periodic.due(start + hour, Revision(12), &mut notes), Some(Revision(5)));
        assert_eq!(Compaction::Revision(10).due(start, Revision(10), &mut notes), None);
        assert_eq!(Compaction::Revision(10).due(start, Revision(12), &mut notes), Some(Revision(2)));
    }
}
