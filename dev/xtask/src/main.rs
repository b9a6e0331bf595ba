//! Tasks of the project: tests, checks, generated code and benchmarks.

#[cfg(feature = "protos")]
mod protos;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        #[cfg(feature = "protos")]
        Some("protos") => protos::generate(),
        #[cfg(not(feature = "protos"))]
        Some("protos") => anyhow::bail!("run it as: cargo run -p xtask --features protos -- protos"),
        Some(other) => anyhow::bail!("unknown task {other:?}; there is: protos"),
        None => Ok(()),
    }
}
