//! Tasks of the project: tests, checks, generated code and benchmarks.

mod bench;
mod packages;
#[cfg(feature = "protos")]
mod protos;
mod run;
mod test;
#[cfg(test)]
mod tidy;

use anyhow::bail;

const USAGE: &str = "usage: cargo xtask TASK
  test [--quick]   install what the tests need, then check and test everything (--quick: no whole-cluster stories)
  soak [S] [N]     let N etcd members (3 or 5) on a network of their own fail in every way for S seconds (600, 5)
  bench [NAME…]    measure the figures of the README: start, pods, idle, size, and when named build
  protos           generate the gRPC code anew (needs --features protos)";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["test"] => test::run(test::Extent::Whole),
        ["test", "--quick"] => test::run(test::Extent::Quick),
        ["soak"] => test::soak("600", "5"),
        ["soak", seconds] => test::soak(seconds, "5"),
        ["soak", seconds, members] => test::soak(seconds, members),
        ["bench", names @ ..] => bench::run(names),
        #[cfg(feature = "protos")]
        ["protos"] => protos::generate(),
        #[cfg(not(feature = "protos"))]
        ["protos"] => bail!("run it as: cargo run -p xtask --features protos -- protos"),
        [] => bail!("no task given\n{USAGE}"),
        other => bail!("unknown task {other:?}\n{USAGE}"),
    }
}
