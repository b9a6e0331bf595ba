//! The `corten` binary: every component of a Kubernetes cluster, by subcommand or by the name it is called.

mod addons;
mod certs;
mod cli;
mod clusters;
mod components;
mod down;
mod elected;
mod identity;
mod image;
mod join;
mod kubeconfig;
mod layout;
mod lock;
mod logging;
mod member;
mod memory;
mod network;
mod node;
mod notify;
mod pod_network;
mod preflight;
mod role;
mod runtime;
mod say;
mod server;
mod settings;
mod status;
mod token;
mod up;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(base_name).unwrap_or_default();
    // Entries that must stay small and single-threaded come before anything else is set up.
    if cli::PLUGINS.contains(&called.as_str()) {
        return cli::plugin(&called);
    }
    if called == "kubectl" {
        eprintln!(
            "kubectl: this is a link to corten, which has no kubectl; put upstream's binary in its place"
        );
        return ExitCode::FAILURE;
    }
    if cli::COMPONENTS.contains(&called.as_str()) {
        args.insert(1, OsString::from(called));
    }
    match args.get(1).and_then(|a| a.to_str()) {
        Some("shim") => cli::shim(args.split_off(2)),
        Some("oci") => cli::oci(&args),
        Some("cni") => cli::plugin(&args.get(2).map(base_name).unwrap_or_default()),
        _ => cli::run(args),
    }
}

fn base_name(path: &OsString) -> String {
    Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
