//! Tidiness as an ordinary test: module docs, file sizes, the crate graph, and what must not be committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::run::root;

/// No file of ours is longer, in lines; above [`LONG`] it says why at its top.
const LONGEST: usize = 800;
/// Nine files in ten are shorter.
const LONG: usize = 400;

/// Which of our crates each crate may use: the edges of ARCHITECTURE.md.
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("pki", &["base"]),
    ("proto", &[]),
    ("schema", &["base"]),
    ("codec", &["base", "schema"]),
    ("cel", &["base", "schema"]),
    ("rules", &["base", "schema", "cel"]),
    ("merge", &["base", "schema"]),
    ("openapi", &["base", "schema"]),
    ("raft", &["base"]),
    ("store", &["base", "raft"]),
    ("etcd", &["base", "pki", "proto", "store"]),
    ("client", &["base", "pki"]),
    (
        "apiserver",
        &["base", "pki", "proto", "schema", "codec", "cel", "rules", "merge", "openapi", "store", "etcd"],
    ),
    ("scheduler", &["base", "client"]),
    ("controllers", &["base", "client", "pki"]),
    ("kubelet", &["base", "client", "pki", "proto"]),
    ("cri", &["base", "proto", "shim"]),
    ("shim", &["base"]),
    ("oci", &["base"]),
    ("netlink", &[]),
    ("cni", &["base", "netlink"]),
    ("proxy", &["base", "client", "netlink"]),
    ("dns", &["base", "client"]),
];

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "dev"] {
        walk(&root().join(folder), &mut found);
    }
    found.retain(|path| path.extension().is_some_and(|e| e == "rs") && !generated(path));
    found.sort();
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn generated(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "gen")
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut problems = Vec::new();
    for path in rust_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            problems.push(format!("{}: does not begin with module docs (`//!`)", path.display()));
        }
    }
    report(&problems);
}

#[test]
fn files_fit_on_a_few_screens() {
    let mut problems = Vec::new();
    let files = rust_files();
    let mut long = 0;
    for path in &files {
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        long += usize::from(lines > LONG);
        if lines > LONGEST {
            problems.push(format!("{}: {lines} lines, more than {LONGEST}", path.display()));
        }
    }
    if long * 10 > files.len() {
        problems
            .push(format!("{long} of {} files are longer than {LONG} lines, more than a tenth", files.len()));
    }
    report(&problems);
}

#[test]
fn crates_use_only_what_the_design_allows() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "corten" {
            continue;
        }
        let manifest = std::fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        let Some(edges) = allowed.get(name.as_str()) else {
            problems.push(format!("crate {name} is not in the graph"));
            continue;
        };
        // Tests may use what they like of our crates.
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for line in dependencies.lines() {
            let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = allowed.contains_key(used) || used == "corten";
            if ours && line.contains("workspace") && used != name && !edges.contains(&used) {
                problems.push(format!("crate {name} must not use {used}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn nothing_unfinished_or_private_is_committed() {
    let mut problems = Vec::new();
    for path in rust_files() {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let unfinished = ["TODO", "FIXME", "XXX:"].iter().any(|word| line.contains(word));
            let private = ["/work/", "/home/"].iter().any(|word| line.contains(word));
            if unfinished || private {
                problems.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    report(&problems);
}
