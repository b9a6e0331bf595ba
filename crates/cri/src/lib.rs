//! The CRI server: images, snapshots, sandboxes and streaming.
