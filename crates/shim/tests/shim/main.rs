//! Sandboxes with real containers, with every OCI runtime that the machine has.
#![allow(clippy::unwrap_used)]

mod exec;
mod life;
mod restart;
mod streams;
#[path = "../support/mod.rs"]
mod support;
