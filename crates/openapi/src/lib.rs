//! The API's self-description: discovery, OpenAPI v2 and v3, and Tables.
//!
//! - [`table`] prints objects as `kubectl get` shows them.
//!
//! This crate knows nothing of HTTP: it gives documents and says under which paths and types they belong.

pub mod table;
