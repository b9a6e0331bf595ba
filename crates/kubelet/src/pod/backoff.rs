//! Growing pauses before something that failed is tried again (client-go's `flowcontrol.Backoff`), as plain data.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// The first pause (upstream `MinimumBackoffPeriod` of containers and images).
pub const FIRST: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Entry {
    pause: Duration,
    updated: SystemTime,
}

/// Pauses by key. An entry that was not used for twice the longest pause is forgotten.
#[derive(Debug, Clone)]
pub struct Backoffs {
    longest: Duration,
    entries: HashMap<String, Entry>,
}

impl Backoffs {
    /// Pauses of 10 s doubling up to `longest`.
    pub fn new(longest: Duration) -> Self {
        Self { longest, entries: HashMap::new() }
    }

    /// The pause of `key`, and what is left of it at `now` if it began at `since`. `None`: nothing to wait for.
    pub fn remaining(&self, key: &str, since: SystemTime, now: SystemTime) -> Option<(Duration, Duration)> {
        let entry = self.entries.get(key)?;
        if self.is_stale(entry, since) {
            return None;
        }
        let waited = now.duration_since(since).unwrap_or_default();
        (waited < entry.pause).then(|| (entry.pause, entry.pause - waited))
    }

    /// Notes a failure of `key` at `since`: its next pause is twice its last.
    pub fn next(&mut self, key: &str, since: SystemTime) {
        let pause = match self.entries.get(key) {
            Some(entry) if !self.is_stale(entry, since) => (entry.pause * 2).min(self.longest),
            _ => FIRST.min(self.longest),
        };
        self.entries.insert(key.to_owned(), Entry { pause, updated: since });
    }

    fn is_stale(&self, entry: &Entry, at: SystemTime) -> bool {
        at.duration_since(entry.updated).unwrap_or_default() > self.longest * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_are_forgotten_after_a_good_time() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |s: u64| start + Duration::from_secs(s);
        let mut backoffs = Backoffs::new(Duration::from_secs(300));
        assert_eq!(backoffs.remaining("a", start, start), None);
        backoffs.next("a", start);
        let seconds = Duration::from_secs;
        assert_eq!(backoffs.remaining("a", at(1), at(5)), Some((seconds(10), seconds(6))));
        assert_eq!(backoffs.remaining("a", at(1), at(11)), None);
        for expected in [20, 40, 80, 160, 300, 300] {
            backoffs.next("a", at(11));
            assert_eq!(
                backoffs.remaining("a", at(11), at(11)).map(|(pause, _)| pause),
                Some(seconds(expected))
            );
        }
        assert_eq!(backoffs.remaining("a", at(700), at(701)), None);
        backoffs.next("a", at(700));
        assert_eq!(backoffs.remaining("a", at(700), at(700)), Some((seconds(10), seconds(10))));
    }
}
