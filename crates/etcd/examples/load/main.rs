//! Puts load on `corten etcd` and on Debian's `etcd` in one run and prints a table of both: `cargo xtask bench etcd`.
//!
//! Arguments: the corten binary, and optionally how many seconds each measurement takes (3), how many keys the large
//! store has (1,000,000), and which measurements are taken (`1,3,idle,puts,reads,range,watchers,large`).

#![allow(clippy::unwrap_used, reason = "a failed call ends the measurement")]

mod lean;
mod measure;
mod servers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use measure::{Figure, Load};
use servers::{Kind, Servers};

/// How long an idle member is looked at.
const IDLE: Duration = Duration::from_secs(30);
/// Until then what follows a start (an election, the own name told to others) is done.
const SETTLE: Duration = Duration::from_secs(3);

fn main() {
    let mut args = std::env::args().skip(1);
    let binary = PathBuf::from(args.next().expect("the corten binary is the first argument"));
    let seconds: u64 = args.next().map_or(3, |text| text.parse().unwrap());
    let keys: usize = args.next().map_or(1_000_000, |text| text.parse().unwrap());
    let wanted = args.next().unwrap_or_else(|| "1,3,idle,puts,reads,range,watchers,large".to_owned());
    let wants = |name: &str| wanted.split(',').any(|wanted| wanted == name);
    let kinds = [Kind::Corten(binary), Kind::Debian];
    let kinds: Vec<Kind> = kinds.into_iter().filter(Kind::is_there).collect();
    let names: Vec<&str> = kinds.iter().map(Kind::name).collect();
    println!("| what | {} | ratio |\n| --- | --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for members in [1, 3].into_iter().filter(|members: &usize| wants(&members.to_string())) {
        let columns: Vec<Vec<Figure>> =
            kinds.iter().map(|kind| runtime.block_on(with_load(kind, members, seconds, wants))).collect();
        print(&format!("{members} member{}", if members == 1 { "" } else { "s" }), &columns);
    }
    if wants("large") {
        let columns: Vec<Vec<Figure>> =
            kinds.iter().map(|kind| runtime.block_on(large(kind, keys))).collect();
        print(&format!("{keys} keys"), &columns);
    }
}

/// What a cluster does under load, on a fresh data directory.
async fn with_load(kind: &Kind, members: usize, seconds: u64, wants: impl Fn(&str) -> bool) -> Vec<Figure> {
    let servers = Servers::start(kind, members).await;
    let load = Load::new(&servers, Duration::from_secs(seconds));
    let mut figures = Vec::new();
    if members == 1 && wants("idle") {
        figures.push(idle(&servers).await);
    }
    for clients in [1, 64, 512].into_iter().filter(|_| wants("puts")) {
        figures.extend(load.puts(clients).await);
    }
    if wants("reads") {
        figures.push(load.reads(false).await);
        figures.push(load.reads(true).await);
    }
    if wants("range") {
        figures.push(load.large_range().await);
    }
    if wants("watchers") {
        figures.push(load.watchers().await);
    }
    figures
}

/// What a member writes that nobody asks for anything.
async fn idle(servers: &Servers<'_>) -> Figure {
    tokio::time::sleep(SETTLE).await;
    let before = servers.written_bytes();
    tokio::time::sleep(IDLE).await;
    let hourly = (servers.written_bytes() - before) as f64 * 3600.0 / IDLE.as_secs_f64();
    Figure::new("idle, disk bytes per hour", format!("{:.2} MB", hourly / 1e6), hourly)
}

/// Start and memory of one member with many keys.
async fn large(kind: &Kind, keys: usize) -> Vec<Figure> {
    let mut servers = Servers::start(kind, 1).await;
    Load::new(&servers, Duration::ZERO).fill(keys).await;
    let filled = servers.resident_bytes() as f64 / 1e6;
    servers.stop();
    let started = Instant::now();
    servers.start_again().await;
    let took = started.elapsed().as_secs_f64();
    let again = servers.resident_bytes() as f64 / 1e6;
    vec![
        Figure::new("memory when filled", format!("{filled:.0} MB"), filled),
        Figure::new("start", format!("{took:.2} s"), took),
        Figure::new("memory after the start", format!("{again:.0} MB"), again),
    ]
}

fn print(title: &str, columns: &[Vec<Figure>]) {
    let Some(first) = columns.first() else { return };
    for (row, figure) in first.iter().enumerate() {
        let values: Vec<&str> = columns.iter().map(|column| column[row].value.as_str()).collect();
        let ratio = columns.get(1).map(|other| figure.number / other[row].number);
        let ratio =
            ratio.filter(|ratio| ratio.is_finite()).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!("| {title}: {} | {} | {ratio} |", figure.what, values.join(" | "));
    }
}
