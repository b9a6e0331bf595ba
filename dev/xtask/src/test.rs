//! `cargo xtask test`: everything that must hold before a change lands.

use crate::packages;
use crate::run::{command, run as run_command};

/// How much is tested.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Without the stories in which whole clusters run.
    Quick,
}

/// Checks form and lints, then runs the tests of all crates, then the whole-cluster stories.
pub fn run(extent: Extent) -> anyhow::Result<()> {
    packages::install()?;
    run_words(&["cargo", "fmt", "--all", "--check"])?;
    run_words(&["cargo", "clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    // Programs that tests run.
    run_words(&["cargo", "build", "--package", "corten"])?;
    run_words(&["cargo", "build", "--package", "shim", "--examples"])?;
    run_words(&["cargo", "test", "--workspace", "--exclude", "testkit", "--lib", "--bins", "--tests"])?;
    if extent == Extent::Whole {
        // One story at a time: each starts a cluster on a machine that may have two cores.
        run_words(&["cargo", "test", "--package", "testkit", "--", "--test-threads=1", "--nocapture"])?;
    }
    Ok(())
}

/// Lets etcd's members fail under load, for longer than the tests do.
pub fn soak(seconds: &str, members: &str) -> anyhow::Result<()> {
    packages::install()?;
    run_words(&["cargo", "build", "--package", "corten"])?;
    let words =
        ["cargo", "test", "--package", "testkit", "--test", "etcd", "--", "--nocapture", "machines_fail"];
    run_command(command(&words).env("ETCD_SOAK_S", seconds).env("ETCD_SOAK_MEMBERS", members))
}

fn run_words(words: &[&str]) -> anyhow::Result<()> {
    run_command(&mut command(words))
}
