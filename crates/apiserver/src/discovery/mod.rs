//! Discovery: what groups, versions and resources there are.

mod aggregated;
mod documents;
mod legacy;

pub use documents::Documents;
