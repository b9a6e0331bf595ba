//! `cargo xtask bench`: the figures of the README, measured on this machine.

mod api;
mod etcd;
mod idle;
mod pods;
mod start;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::run::{command, root, run as run_command};

/// Names the binary to measure instead of a fresh release build. The test kit finds it by the same name.
const BINARY: &str = "CORTEN_BIN";

/// A row of the table.
#[derive(Clone)]
pub struct Row {
    what: String,
    measured: String,
}

impl Row {
    fn new(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), measured: measured.into() }
    }
}

type Measurement = fn(&Path) -> anyhow::Result<Vec<Row>>;

/// Name, how it is measured, and whether it is part of all: building anew takes too long for that.
const MEASUREMENTS: &[(&str, Measurement, bool)] = &[
    ("start", start::measure, true),
    ("pods", pods::measure, true),
    ("idle", idle::measure, true),
    ("size", size, true),
    ("build", build, false),
    ("api", api::measure, false),
    ("etcd", etcd::measure, false),
];

/// Runs the named measurements, or all that are quick, and prints a table.
pub fn run(names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        if !MEASUREMENTS.iter().any(|(known, ..)| known == name) {
            let known: Vec<&str> = MEASUREMENTS.iter().map(|(name, ..)| *name).collect();
            bail!("no measurement {name:?}; there are {}", known.join(", "));
        }
    }
    let Some(binary) = std::env::var_os(BINARY).map(PathBuf::from) else {
        return with_release_binary(names);
    };
    if !testkit::can_run() {
        bail!("clusters cannot run here");
    }
    let mut rows = Vec::new();
    for (name, measure, usual) in MEASUREMENTS {
        if names.contains(name) || (names.is_empty() && *usual) {
            rows.extend(measure(&binary).with_context(|| format!("measure {name}"))?);
        }
    }
    print(&rows);
    Ok(())
}

/// Builds the release binary and measures it in a process of its own, which finds it by the environment.
fn with_release_binary(names: &[&str]) -> anyhow::Result<()> {
    run_command(&mut command(&["cargo", "build", "--release", "--package", "corten"]))?;
    let binary = target().join("release/corten");
    let itself = std::env::current_exe().context("find this program")?;
    run_command(Command::new(itself).arg("bench").args(names).env(BINARY, binary))
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |given| root().join(given))
}

fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    println!("\n| {:<width$} | measured |\n| {} | --- |", "what", "-".repeat(width));
    for Row { what, measured } in rows {
        println!("| {what:<width$} | {measured} |");
    }
}

/// The middle one of several values; the upper of the two in the middle.
fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// The median and the range of several durations in milliseconds.
fn spread(values_ms: &[u128]) -> String {
    match (median(values_ms), values_ms.iter().min(), values_ms.iter().max()) {
        (Some(median), Some(least), Some(most)) => {
            format!("{median} ms ({least} to {most}, {} runs)", values_ms.len())
        }
        _ => "nothing".to_owned(),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn size(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let bytes = std::fs::metadata(binary).with_context(|| format!("look at {}", binary.display()))?.len();
    Ok(vec![Row::new("binary", megabytes(bytes))])
}

/// A release build from nothing, in a folder of its own.
fn build(_: &Path) -> anyhow::Result<Vec<Row>> {
    let folder = target().join(format!("bench-build-{}", std::process::id()));
    let started = Instant::now();
    let mut cargo = command(&["cargo", "build", "--release", "--package", "corten", "--quiet"]);
    let built = run_command(cargo.env("CARGO_TARGET_DIR", &folder));
    let took = started.elapsed();
    let removed = std::fs::remove_dir_all(&folder);
    built?;
    removed.with_context(|| format!("remove {}", folder.display()))?;
    Ok(vec![Row::new("clean release build", minutes(took))])
}

fn minutes(time: Duration) -> String {
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_several() {
        assert_eq!(median(&[5, 1, 3]), Some(3));
        assert_eq!(median::<u64>(&[]), None);
        assert_eq!(spread(&[7, 9, 8]), "8 ms (7 to 9, 3 runs)");
    }
}
