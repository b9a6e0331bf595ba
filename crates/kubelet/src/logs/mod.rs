//! Container log files in CRI's format: `time stream tag content`.

mod parse;
mod read;
mod rotate;

pub use parse::parse_line;
pub use read::{LogOptions, stream};
pub use rotate::{Rotation, rotate_if_large};
