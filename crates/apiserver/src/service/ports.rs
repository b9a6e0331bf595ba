//! Node ports.

use std::collections::HashSet;

use super::AllocationError;
use super::ranges::random;

/// What of the range is taken.
#[derive(Debug, Default)]
pub struct Ports {
    first: u16,
    last: u16,
    taken: HashSet<u16>,
}

impl Ports {
    /// Nothing taken, `last` included.
    pub fn new(first: u16, last: u16) -> Self {
        Self { first, last, taken: HashSet::new() }
    }

    /// Takes this one.
    pub fn take(&mut self, port: u16) -> Result<(), AllocationError> {
        if port < self.first || port > self.last {
            return Err(AllocationError::PortOutside(self.first, self.last));
        }
        if self.taken.insert(port) { Ok(()) } else { Err(AllocationError::PortTaken) }
    }

    /// Takes a free one.
    pub fn take_any(&mut self) -> Result<u16, AllocationError> {
        let count = u32::from(self.last.saturating_sub(self.first)) + 1;
        let start = (random() % u128::from(count)) as u32;
        let nth = |i: u32| self.first + ((start + i) % count) as u16;
        let free = (0..count).map(nth).find(|p| !self.taken.contains(p)).ok_or(AllocationError::Full)?;
        self.taken.insert(free);
        Ok(free)
    }

    /// Gives one back.
    pub fn release(&mut self, port: u16) {
        self.taken.remove(&port);
    }
}
