//! Whether a history of calls on one register could have come from a register that does one thing at a time.

use std::collections::HashSet;

/// What a call did, as far as it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrote a value that no other call writes.
    Write(u64),
    /// Read a value; zero: there was none.
    Read(u64),
    /// Wrote `.1` because `.0` was there.
    Swap(u64, u64),
    /// Did not write because `.0` was not there.
    NoSwap(u64),
}

/// A call with the times at which it began and was answered. None: it was not, and may have happened or not.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub kind: Kind,
    pub begin: u64,
    pub end: Option<u64>,
}

impl Kind {
    fn writes(self) -> Option<u64> {
        match self {
            Self::Write(value) | Self::Swap(_, value) => Some(value),
            Self::Read(_) | Self::NoSwap(_) => None,
        }
    }

    /// The register after the call, if the call can have happened on it.
    fn after(self, value: u64) -> Option<u64> {
        match self {
            Self::Write(new) => Some(new),
            Self::Read(seen) => (seen == value).then_some(value),
            Self::Swap(expected, new) => (expected == value).then_some(new),
            Self::NoSwap(expected) => (expected != value).then_some(value),
        }
    }
}

/// Whether the calls (128 at most) have an order that explains every answer and respects their times.
pub fn is_linearizable(calls: &[Call]) -> bool {
    let calls = with_bounds(calls);
    // What was not answered and whose value nobody saw can have happened after everything else. Most histories are
    // explained so; in the others such a write may be what made a swap fail.
    let known: Vec<Call> = calls.iter().filter(|call| call.end.is_some()).copied().collect();
    has_order(&known) || (known.len() < calls.len() && has_order(&calls))
}

/// Ends a write that was not answered when somebody was answered who saw its value.
fn with_bounds(calls: &[Call]) -> Vec<Call> {
    let mut calls = calls.to_vec();
    loop {
        let sees = |call: &Call, value| match call.kind {
            Kind::Read(seen) | Kind::Swap(seen, _) => seen == value,
            Kind::Write(_) | Kind::NoSwap(_) => false,
        };
        let bound = |call: &Call| {
            let value = call.kind.writes()?;
            let seen = calls.iter().filter(|other| sees(other, value)).filter_map(|other| other.end).min()?;
            (seen < call.end.unwrap_or(u64::MAX)).then_some(seen)
        };
        let Some((at, end)) = calls.iter().enumerate().find_map(|(at, call)| Some((at, bound(call)?))) else {
            return calls;
        };
        calls[at].end = Some(end);
    }
}

/// Whether some of the calls, among them all that have ended, have an order.
fn has_order(calls: &[Call]) -> bool {
    assert!(calls.len() <= 128, "too many calls on one register: {}", calls.len());
    let ended = calls.iter().enumerate().filter(|(_, call)| call.end.is_some());
    let ended = ended.fold(0_u128, |mask, (at, _)| mask | 1 << at);
    let mut tried = HashSet::new();
    let mut stack = vec![(0_u128, 0_u64)];
    while let Some((done, value)) = stack.pop() {
        if done & ended == ended {
            return true;
        }
        if !tried.insert((done, value)) {
            continue;
        }
        let open = || calls.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        let first_end = open().filter_map(|(_, call)| call.end).min().unwrap_or(u64::MAX);
        let mut next: Vec<(usize, &Call)> = open().filter(|(_, call)| call.begin <= first_end).collect();
        // What ends first is tried first: it most likely happened first.
        next.sort_by_key(|(_, call)| std::cmp::Reverse(call.end.unwrap_or(u64::MAX)));
        for (at, call) in next {
            if let Some(after) = call.kind.after(value) {
                stack.push((done | 1 << at, after));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begin: u64, end: u64, kind: Kind) -> Call {
        Call { kind, begin, end: Some(end) }
    }

    #[test]
    fn histories_that_are_right_pass() {
        use Kind::{NoSwap, Read, Swap, Write};
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[call(0, 9, Write(1)), call(1, 2, Read(0)), call(3, 4, Read(1))]));
        let lost = Call { kind: Write(2), begin: 3, end: None };
        assert!(is_linearizable(&[call(0, 1, Write(1)), lost, call(8, 9, Read(2))]));
        assert!(is_linearizable(&[call(0, 1, Write(1)), lost, call(8, 9, Read(1))]));
        assert!(is_linearizable(&[call(0, 5, Write(1)), call(0, 5, Swap(1, 2)), call(6, 7, Read(2))]));
        assert!(is_linearizable(&[call(0, 1, Write(1)), call(2, 3, NoSwap(2)), call(4, 5, Read(1))]));
        assert!(is_linearizable(&[call(0, 1, Write(1)), lost, call(4, 5, NoSwap(1))]));
    }

    #[test]
    fn histories_that_are_wrong_are_found() {
        use Kind::{NoSwap, Read, Swap, Write};
        let wrong: [&[Call]; 9] = [
            // A stale read.
            &[call(0, 1, Write(1)), call(2, 3, Write(2)), call(4, 5, Read(1))],
            // A write that was answered and is gone.
            &[call(0, 1, Write(1)), call(2, 3, Read(0))],
            // Two reads that go back in time, though the write is still under way.
            &[call(0, 9, Write(1)), call(1, 2, Read(1)), call(3, 4, Read(0))],
            // A value from nowhere.
            &[call(0, 1, Read(7))],
            // A value that was read before it was written.
            &[call(0, 1, Read(1)), call(2, 3, Write(1))],
            // Two swaps of the same value.
            &[call(0, 1, Write(1)), call(2, 3, Swap(1, 2)), call(4, 5, Swap(1, 3))],
            // A swap that should have been done.
            &[call(0, 1, Write(1)), call(2, 3, NoSwap(1))],
            // An unanswered write that was seen before something that came after it.
            &[
                Call { kind: Write(2), begin: 0, end: None },
                call(1, 2, Read(2)),
                call(3, 4, Write(1)),
                call(5, 6, Read(2)),
            ],
            // An unanswered write that came and went again.
            &[
                call(0, 1, Write(1)),
                Call { kind: Write(2), begin: 2, end: None },
                call(3, 4, Read(2)),
                call(5, 6, Read(1)),
            ],
        ];
        for history in wrong {
            assert!(!is_linearizable(history), "{history:?}");
        }
    }
}
