//! Reads of the whole keyspace, current and past, which must show the state that the watched changes lead to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use proto::etcd::rpc::RangeRequest;
use proto::etcd::rpc::kv_client::KvClient;
use tonic::transport::Channel;

use crate::watchers::Seen;

/// Revisions that a read of the past goes back at most.
const BACK: i64 = 50;

/// Key to value and the revision of the last change.
type State = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// See the module.
#[derive(Default)]
pub struct Ranges(Mutex<Vec<(i64, State)>>);

impl Ranges {
    /// Reads; every other time from what the member has, and now and then what was.
    pub async fn read(&self, client: &mut KvClient<Channel>, patience: Duration) {
        let all = |revision| RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            serializable: fastrand::bool(),
            revision,
            ..RangeRequest::default()
        };
        let mut revision = 0;
        for _ in 0..2 {
            let Ok(Ok(answer)) = tokio::time::timeout(patience, client.range(all(revision))).await else {
                return;
            };
            let answer = answer.into_inner();
            let current = answer.header.map_or(0, |header| header.revision);
            let kvs = answer.kvs.into_iter();
            let state = kvs.map(|kv| (kv.key.to_vec(), (kv.value.to_vec(), kv.mod_revision))).collect();
            let at = if revision == 0 { current } else { revision };
            self.0.lock().unwrap().push((at, state));
            revision = (current - fastrand::i64(1..BACK)).max(2);
        }
    }

    /// Compares all reads with the states after the changes; gives how many reads there were.
    pub fn check(&self, seen: &Seen) -> usize {
        let mut reads = self.0.lock().unwrap();
        reads.sort_by_key(|(revision, _)| *revision);
        let mut state = State::new();
        let mut changes = seen.iter().peekable();
        for (revision, read) in reads.iter() {
            while let Some(change) = changes.next_if(|change| change.revision <= *revision) {
                match &change.value {
                    Some(value) => {
                        state.insert(change.key.clone(), (value.clone(), change.revision));
                    }
                    None => _ = state.remove(&change.key),
                }
            }
            assert!(*read == state, "a read at revision {revision} shows something else than was watched");
        }
        reads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchers::Change;

    #[test]
    fn a_state_that_never_was_is_found() {
        let change = |revision, key: &str, value: Option<&str>| Change {
            revision,
            key: key.into(),
            value: value.map(Into::into),
        };
        let seen = vec![
            change(2, "a", Some("1")),
            change(3, "a", Some("2")),
            change(3, "b", Some("2")),
            change(4, "a", None),
        ];
        let check = |revision: i64, state: &[(&str, &str, i64)]| {
            let state = state.iter().map(|(key, value, at)| ((*key).into(), ((*value).into(), *at)));
            let ranges = Ranges(Mutex::new(vec![(revision, state.collect())]));
            std::panic::catch_unwind(|| ranges.check(&seen)).is_ok()
        };
        assert!(check(3, &[("a", "2", 3), ("b", "2", 3)]) && check(4, &[("b", "2", 3)]));
        // Half of a transaction, something stale, and something twice.
        assert!(!check(3, &[("a", "2", 3)]));
        assert!(!check(4, &[("a", "2", 3), ("b", "2", 3)]));
        assert!(!check(3, &[("a", "2", 3), ("b", "2", 4)]));
    }
}
