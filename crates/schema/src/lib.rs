//! The API as data: the value model, the schema of every kind, and the catalog of built-in resources.
//!
//! - [`Value`] and [`Map`] hold any object; [`value!`] writes one in JSON notation; [`Path`] names a place in one.
//! - [`Schema`] is a type, [`Node`] the cursor with which codecs, rules, merge and OpenAPI walk it. Built-in kinds
//!   come from the tables under `api/`, custom kinds from OpenAPI by [`Schema::from_openapi`]; both are the same type.
//! - [`time`] reads and writes the times and durations of `metav1`.
//! - [`Catalog`] is what a default API server serves; [`Resource`] is one resource in one version.
//!
//! This crate knows nothing of encodings, of HTTP or of storage.

mod arena;
mod attrs;
mod catalog;
mod error;
mod map;
mod names;
mod node;
mod object;
mod openapi;
mod path;
mod resource;
mod serde_impl;
mod tables;
pub mod time;
mod value;

pub use arena::{Presence, Proto, Variant};
pub use attrs::{Constraints, ListType, MapType, PatchStrategy, Union, Validation};
pub use catalog::{Catalog, Group};
pub use error::Error;
pub use map::Map;
pub use names::{GroupVersion, GroupVersionKind, GroupVersionResource, api_version};
pub use node::{Kind, Node, Schema};
pub use object::{Field, Inline, Member, Object};
pub use path::{Path, Segment};
pub use resource::{Column, Resource, SelectableField, Storage, Subresource};
#[doc(no_inline)]
pub use smol_str::SmolStr;
pub use value::Value;
