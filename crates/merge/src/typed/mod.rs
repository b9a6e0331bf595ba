//! Objects read through their schema, as server-side apply sees them (`structured-merge-diff/typed`).

mod compare;
mod field_set;
mod kind;
mod merge;
mod remove;
mod validate;
mod zero;

pub use compare::{Comparison, compare};
pub use field_set::{field_set, with_named_fields};
pub use merge::merge;
pub use remove::remove_items;
pub use validate::{Duplicates, validate};
pub use zero::zero;

pub(crate) use kind::{Shape, Type, list_element};
