//! Puts load on `corten etcd` and on Debian's `etcd` in one run and prints a table of both: `cargo xtask bench etcd`.
//!
//! Arguments: the corten binary, and optionally how many seconds each measurement takes (3) and how many keys the
//! large store has (1,000,000).

#![allow(clippy::unwrap_used, reason = "a failed call ends the measurement")]

mod measure;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use measure::{Figure, Load};
use servers::{Kind, Servers};

fn main() {
    let mut args = std::env::args().skip(1);
    let binary = PathBuf::from(args.next().expect("the corten binary is the first argument"));
    let seconds: u64 = args.next().map_or(3, |text| text.parse().unwrap());
    let keys: usize = args.next().map_or(1_000_000, |text| text.parse().unwrap());
    let kinds = [Kind::Corten(binary), Kind::Debian];
    let kinds: Vec<Kind> = kinds.into_iter().filter(Kind::is_there).collect();
    let names: Vec<&str> = kinds.iter().map(Kind::name).collect();
    println!("| what | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for members in [1, 3] {
        let columns: Vec<Vec<Figure>> =
            kinds.iter().map(|kind| runtime.block_on(with_load(kind, members, seconds))).collect();
        print(&format!("{members} member{}", if members == 1 { "" } else { "s" }), &columns);
    }
    let columns: Vec<Vec<Figure>> = kinds.iter().map(|kind| runtime.block_on(large(kind, keys))).collect();
    print(&format!("{keys} keys"), &columns);
}

/// What a cluster does under load, on a fresh data directory.
async fn with_load(kind: &Kind, members: usize, seconds: u64) -> Vec<Figure> {
    let servers = Servers::start(kind, members).await;
    let load = Load::new(&servers, Duration::from_secs(seconds));
    let mut figures = Vec::new();
    for clients in [1, 64, 512] {
        figures.extend(load.puts(clients).await);
    }
    figures.push(load.reads(false).await);
    figures.push(load.reads(true).await);
    figures.push(load.large_range().await);
    figures.push(load.watchers().await);
    figures
}

/// Start and memory of one member with many keys.
async fn large(kind: &Kind, keys: usize) -> Vec<Figure> {
    let mut servers = Servers::start(kind, 1).await;
    Load::new(&servers, Duration::ZERO).fill(keys).await;
    servers.stop();
    let started = std::time::Instant::now();
    servers.start_again().await;
    let took = started.elapsed();
    vec![
        Figure::new("start", format!("{:.2} s", took.as_secs_f64())),
        Figure::new("memory", format!("{:.0} MB", servers.resident_bytes() as f64 / 1e6)),
    ]
}

fn print(title: &str, columns: &[Vec<Figure>]) {
    let Some(first) = columns.first() else { return };
    for (row, figure) in first.iter().enumerate() {
        let values: Vec<&str> = columns.iter().map(|column| column[row].value.as_str()).collect();
        println!("| {title}: {} | {} |", figure.what, values.join(" | "));
    }
}
