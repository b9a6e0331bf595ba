//! Whole containers through the command line, made from busybox as root.
#![allow(clippy::unwrap_used)]

mod cgroups;
mod filesystem;
mod life;
mod process;
#[path = "../support/mod.rs"]
mod support;
