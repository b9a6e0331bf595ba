//! Fair queuing for servers: which queue is served next, by the seat-seconds each has used. Pure: time is given.
//!
//! Virtual time runs as fast as each busy queue would be served alone. Every queue remembers at which virtual time its
//! next request would begin; the one whose request would end first is served. A request is charged a guess at first
//! and what it really took when it ends.

use std::collections::VecDeque;

/// What a request is thought to take at first, in seconds (upstream charges a minute).
const GUESS_S: f64 = 60.0;

/// A request that waits.
#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    seats: u32,
    item: T,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Virtual time at which its next request begins.
    next: f64,
    executing: u32,
}

/// The queues of a level.
#[derive(Debug)]
pub struct Queues<T> {
    queues: Vec<Queue<T>>,
    virtual_s: f64,
    real_s: f64,
    /// Where the search for the next queue begins, so that ties are broken in turn.
    turn: usize,
    seats_executing: u32,
}

/// A request taken out of its queue to be served.
#[derive(Debug)]
pub struct Next<T> {
    /// Its queue.
    pub queue: usize,
    /// Seats that it takes.
    pub seats: u32,
    /// What came with it.
    pub item: T,
}

impl<T> Queues<T> {
    /// Empty ones.
    pub fn new(count: usize) -> Self {
        let empty = || Queue { waiting: VecDeque::new(), next: 0.0, executing: 0 };
        let queues = std::iter::repeat_with(empty).take(count).collect();
        Self { queues, virtual_s: 0.0, real_s: 0.0, turn: 0, seats_executing: 0 }
    }

    /// More queues; there are never fewer, since requests may wait in any.
    pub fn grow(&mut self, count: usize) {
        while self.queues.len() < count {
            self.queues.push(Queue { waiting: VecDeque::new(), next: self.virtual_s, executing: 0 });
        }
    }

    /// Lets virtual time run up to `now_s` with `limit` seats to be had.
    fn advance(&mut self, now_s: f64, limit: u32) {
        let passed = (now_s - self.real_s).max(0.0);
        self.real_s = now_s;
        let busy = self.queues.iter().filter(|q| q.executing > 0 || !q.waiting.is_empty()).count();
        if busy > 0 {
            let wanted = self.seats_executing
                + self.queues.iter().flat_map(|q| &q.waiting).map(|w| w.seats).sum::<u32>();
            self.virtual_s += passed * f64::from(wanted.min(limit)) / busy as f64;
        }
    }

    /// The queue of a hand that has the least work waiting.
    pub fn shortest(&self, hand: &[usize]) -> usize {
        let work = |queue: &usize| {
            let queue = &self.queues[*queue];
            queue.waiting.iter().map(|w| w.seats).sum::<u32>() + queue.executing
        };
        hand.iter().min_by_key(|queue| work(queue)).copied().unwrap_or(0)
    }

    /// Requests waiting in a queue.
    pub fn length(&self, queue: usize) -> usize {
        self.queues[queue].waiting.len()
    }

    /// How many wait, over all.
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiting.len()).sum()
    }

    /// What waits where, with the seats, for the debug pages.
    pub fn waiting_items(&self) -> impl Iterator<Item = (usize, usize, u32, &T)> {
        self.queues.iter().enumerate().flat_map(|(at, queue)| {
            queue.waiting.iter().enumerate().map(move |(place, w)| (at, place, w.seats, &w.item))
        })
    }

    /// Per queue: requests waiting, seats executing, virtual start of the next.
    pub fn facts(&self) -> impl Iterator<Item = (usize, u32, f64)> {
        self.queues.iter().map(|queue| (queue.waiting.len(), queue.executing, queue.next))
    }

    /// Puts a request at the end of a queue.
    pub fn push(&mut self, queue: usize, id: u64, seats: u32, item: T, now_s: f64, limit: u32) {
        self.advance(now_s, limit);
        let virtual_s = self.virtual_s;
        let queue = &mut self.queues[queue];
        if queue.waiting.is_empty() && queue.executing == 0 {
            queue.next = queue.next.max(virtual_s);
        }
        queue.waiting.push_back(Waiting { id, seats, item });
    }

    /// Takes a request out that no longer waits.
    pub fn remove(&mut self, queue: usize, id: u64) -> bool {
        let waiting = &mut self.queues[queue].waiting;
        let before = waiting.len();
        waiting.retain(|w| w.id != id);
        waiting.len() < before
    }

    /// The next request, if `free` seats are enough for it. Seats that do not suffice for the fairest are kept for it.
    pub fn pop(&mut self, free: u32, now_s: f64, limit: u32) -> Option<Next<T>> {
        self.advance(now_s, limit);
        let count = self.queues.len();
        let order = (0..count).map(|i| (self.turn + i) % count);
        let ends = |at: usize| {
            let queue = &self.queues[at];
            queue.waiting.front().map(|first| queue.next + GUESS_S * f64::from(first.seats))
        };
        let best = order.filter_map(|at| Some((at, ends(at)?))).min_by(|a, b| a.1.total_cmp(&b.1));
        let (at, _) = best?;
        let queue = &mut self.queues[at];
        // A request wider than the level is served when nothing else is.
        if queue.waiting.front()?.seats > free && self.seats_executing > 0 {
            return None;
        }
        let first = queue.waiting.pop_front()?;
        queue.next += GUESS_S * f64::from(first.seats);
        queue.executing += first.seats;
        self.seats_executing += first.seats;
        self.turn = (at + 1) % count;
        Some(Next { queue: at, seats: first.seats, item: first.item })
    }

    /// A request of a queue has ended after `took_s`.
    pub fn ended(&mut self, queue: usize, seats: u32, took_s: f64, now_s: f64, limit: u32) {
        self.advance(now_s, limit);
        self.seats_executing = self.seats_executing.saturating_sub(seats);
        let queue = &mut self.queues[queue];
        queue.executing = queue.executing.saturating_sub(seats);
        queue.next -= (GUESS_S - took_s) * f64::from(seats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves one seat at a time, each request for a second, and tells whose turn it was.
    fn order(queues: &mut Queues<char>, count: usize) -> String {
        let mut said = String::new();
        for second in 0..count {
            let now = second as f64;
            let Some(next) = queues.pop(1, now, 1) else { break };
            said.push(next.item);
            queues.ended(next.queue, next.seats, 1.0, now + 1.0, 1);
        }
        said
    }

    #[test]
    fn a_flood_does_not_starve_a_trickle() {
        let mut queues = Queues::new(2);
        for id in 0..6 {
            queues.push(0, id, 1, 'a', 0.0, 1);
        }
        queues.push(1, 10, 1, 'b', 0.0, 1);
        queues.push(1, 11, 1, 'b', 0.0, 1);
        assert_eq!(order(&mut queues, 8), "ababaaaa");
    }

    #[test]
    fn wide_requests_are_served_less_often() {
        let mut queues = Queues::new(2);
        for id in 0..4 {
            queues.push(0, id, 4, 'W', 0.0, 4);
            queues.push(1, 10 + id, 1, 'n', 0.0, 4);
        }
        let mut said = String::new();
        for second in 0..6 {
            let next = queues.pop(4, f64::from(second), 4).unwrap();
            said.push(next.item);
            queues.ended(next.queue, next.seats, 1.0, f64::from(second) + 1.0, 4);
        }
        assert_eq!(said.matches('n').count(), 4, "{said}");
    }

    #[test]
    fn what_no_longer_waits_is_not_served() {
        let mut queues = Queues::new(1);
        queues.push(0, 1, 1, 'a', 0.0, 1);
        assert!(queues.remove(0, 1));
        assert!(!queues.remove(0, 1));
        assert!(queues.pop(1, 1.0, 1).is_none());
    }
}
