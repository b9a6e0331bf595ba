//! What makes an object right: defaulting, pruning and validation, from its schema and by the checks that kinds share.
//!
//! Pure functions over [`schema::Value`]. This crate knows nothing of HTTP, of storage or of single kinds; what is
//! particular to a kind is in the API server's strategies, made of the checks here.

mod cursor;
mod custom;
mod custom_rules;
mod defaults;
pub mod expressions;
pub mod field;
mod formats;
pub mod kinds;
pub mod label_selector;
pub mod meta;
pub mod names;
pub mod net;
mod prune;
pub mod quantities;
mod shown;

pub use cursor::Cursor;
pub use custom::validate_custom;
pub use custom_rules::{CustomRules, Outcome};
pub use defaults::apply_defaults;
pub use field::{BadValue, ErrorKind, Errors, FieldError, Path, aggregate, quote};
pub use formats::matches_format;
pub use prune::prune;
pub use shown::show_values;
