//! Which node's pods are the ones to evict.

use std::cmp::Reverse;

use super::victims::{Victims, started};

/// The candidate that does least harm: the fewest broken budgets, the least important victims, the fewest of them, and
/// of equals those that began last.
pub fn best(candidates: Vec<Victims>) -> Option<Victims> {
    candidates.into_iter().min_by_key(|candidate| {
        let priorities = || candidate.pods.iter().map(|pod| i64::from(pod.priority()));
        let highest = priorities().max().unwrap_or(i64::MIN);
        // Made positive, so that of two sets of negative priorities the smaller one costs less.
        let sum: i64 = priorities().map(|priority| priority + i64::from(i32::MAX) + 1).sum();
        let most_important = candidate.pods.iter().filter(|pod| i64::from(pod.priority()) == highest);
        let earliest = most_important.map(|pod| started(pod)).min();
        (candidate.violations, highest, sum, candidate.pods.len(), Reverse(earliest))
    })
}
