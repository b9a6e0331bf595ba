//! Volumes of pods: made, kept up to date, mounted into containers and taken down again.

mod atomic;
mod claims;
mod empty_dir;
mod host_path;
mod mounts;
mod objects;
mod ownership;
mod payload;
mod projected;
mod setup;
mod subpath;
mod teardown;
mod tokens;

pub use claims::Claims;
pub use mounts::{MountInputs, container_mounts};
pub use objects::{ApiObjects, References};
pub use setup::{VolumeSet, Volumes};
pub use teardown::{pod_dir, tear_down};
pub use tokens::Tokens;
