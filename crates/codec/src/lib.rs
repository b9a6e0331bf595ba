//! Objects to and from bytes: JSON, YAML and Kubernetes protobuf, all by [`schema::Schema`].
//!
//! - [`json::decode`] is the way in for request bodies: normal form and unknown-field reports in one pass.
//!   [`json::conform`] does the same to an object that a patch made. [`json::encode`] is the way out.
//! - [`protobuf`] does both for `application/vnd.kubernetes.protobuf`.
//! - [`yaml`] turns YAML into JSON text and decodes that.
//! - [`frame`] assembles lists, watch events and Status from encoded parts.
//! - [`schema::time`] (also here as `time`) reads and writes the times of `metav1`.
//!
//! This crate knows nothing of resources, HTTP or storage.

mod error;
pub mod frame;
pub mod json;
pub mod protobuf;
mod scalar;
pub mod yaml;

pub use error::Error;
pub use schema::time;

/// Deepest nesting of objects and lists that is read. Upstream stops at 10,000, where Rust's stack would not last.
pub const DEPTH_MAX: usize = 200;
