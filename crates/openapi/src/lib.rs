//! The API's self-description: OpenAPI v2 and v3, and Tables.
//!
//! - [`spec`] makes the OpenAPI documents from the API tables and from custom resources, lazily, and keeps their bytes.
//! - [`table`] prints objects as `kubectl get` shows them.
//!
//! This crate knows nothing of HTTP: it gives documents and says under which paths and types they belong.

pub mod spec;
pub mod table;
