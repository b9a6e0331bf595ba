//! `cargo xtask bench`: the figures of the README, measured on this machine.

/// Runs the named measurements, or all.
pub fn run(names: &[&str]) -> anyhow::Result<()> {
    anyhow::bail!("no measurement {names:?}")
}
