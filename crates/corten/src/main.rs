//! The `corten` binary: every component of a Kubernetes cluster, by subcommand or by the name it is called.

fn main() {}
