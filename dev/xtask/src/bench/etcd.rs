//! `corten etcd` beside Debian's `etcd-server`: the same load on both, by a program of the etcd crate that is built as
//! fast as they are.

use std::path::Path;
use std::process::Command;

use crate::run::{command, run};

use super::{Row, target};

/// Runs the load; it prints its table itself, since it has a column per server.
pub fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    run(&mut command(&["cargo", "build", "--release", "--package", "etcd", "--example", "load"]))?;
    run(Command::new(target().join("release/examples/load")).arg(binary))?;
    Ok(Vec::new())
}
