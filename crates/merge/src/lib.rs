//! How changes meet objects: JSON patch, merge patch, strategic merge patch, and server-side apply.
//!
//! All of it is pure: objects in, objects out. What the API server must know to answer is in the error types.
//! This crate knows nothing of HTTP, of storage, of defaulting or of validation.

mod apply;
mod equality;
mod fields;
mod go_text;
mod json_patch;
mod managed;
mod merge_patch;
mod strategic;
pub mod typed;

pub use apply::{ApplyError, Conflict, FieldManager, Versions, keep_times_if_unchanged};
pub use equality::same;
pub use fields::{Element, FieldsError, Set};
pub use go_text::{GoText, go_type};
pub use json_patch::{JsonPatchError, MAX_COPY_BYTES, MAX_OPERATIONS, json_patch};
pub use managed::{ManagedError, ManagedFields, Owner};
pub use merge_patch::merge_patch;
pub use strategic::{StrategicError, check_convertible, strategic_merge_patch};

pub(crate) fn fields_json(value: &schema::Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
