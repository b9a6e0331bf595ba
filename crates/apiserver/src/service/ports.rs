//! Node ports.

use std::collections::HashMap;

use super::AllocationError;
use super::cidr::random;

/// What of the range is taken.
#[derive(Debug, Default)]
pub struct Ports {
    first: u16,
    last: u16,
    /// Port to the store's revision at which it was taken: news of a deletion before that is not about this taking.
    taken: HashMap<u16, u64>,
}

impl Ports {
    /// Nothing taken, `last` included.
    pub fn new(first: u16, last: u16) -> Self {
        Self { first, last, taken: HashMap::new() }
    }

    /// Takes this one, when the store is at `revision`.
    pub fn take(&mut self, port: u16, revision: u64) -> Result<(), AllocationError> {
        if port < self.first || port > self.last {
            return Err(AllocationError::PortOutside(self.first, self.last));
        }
        if self.taken.contains_key(&port) {
            return Err(AllocationError::PortTaken);
        }
        self.taken.insert(port, revision);
        Ok(())
    }

    /// Takes a free one.
    pub fn take_any(&mut self, revision: u64) -> Result<u16, AllocationError> {
        let count = u32::from(self.last.saturating_sub(self.first)) + 1;
        let start = (random() % u128::from(count)) as u32;
        let nth = |i: u32| self.first + ((start + i) % count) as u16;
        let free = (0..count).map(nth).find(|p| !self.taken.contains_key(p)).ok_or(AllocationError::Full)?;
        self.taken.insert(free, revision);
        Ok(free)
    }

    /// Gives one back.
    pub fn release(&mut self, port: u16) {
        self.taken.remove(&port);
    }

    /// Gives one back of which is heard that it went at `revision`.
    pub fn release_at(&mut self, port: u16, revision: u64) {
        if self.taken.get(&port).is_some_and(|taken_at| *taken_at < revision) {
            self.taken.remove(&port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_news_frees_nothing_that_was_taken_since() {
        let mut ports = Ports::new(30000, 30001);
        ports.take(30000, 5).unwrap();
        assert_eq!(ports.take(30000, 6), Err(AllocationError::PortTaken));
        ports.release(30000);
        ports.take(30000, 9).unwrap();
        ports.release_at(30000, 9);
        assert_eq!(ports.take(30000, 10), Err(AllocationError::PortTaken));
        ports.release_at(30000, 10);
        assert_eq!(ports.take(30000, 10), Ok(()));
        assert_eq!(ports.take_any(11), Ok(30001));
        assert_eq!(ports.take_any(11), Err(AllocationError::Full));
        assert_eq!(ports.take(1, 11), Err(AllocationError::PortOutside(30000, 30001)));
    }
}
