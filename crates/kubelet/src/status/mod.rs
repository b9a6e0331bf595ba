//! Pod status: computed from what is observed, written as exact patches.

mod compute;
mod conditions;
mod containers;
mod diff;
mod phase;
#[cfg(test)]
mod tests;
mod writer;

pub use compute::{Ending, StartError, StatusInputs, compute};
pub use conditions::{is_over, take_over_end, take_over_foreign};
pub use diff::status_patch;
pub use phase::Phase;
pub use writer::StatusWriter;
