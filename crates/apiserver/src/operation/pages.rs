//! `/statusz`, `/flagz`, `/configz`, and `/debug`, which there is not.

use std::fmt::Write;

use http::Response;
use jiff::Timestamp;

use crate::core::Core;
use crate::http::{Body, respond};

/// What the text pages begin with (upstream's `zpages`).
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";

/// Serves one of the pages; `None` for other paths.
pub fn serve(core: &Core, path: &str) -> Option<Response<Body>> {
    match path {
        "/statusz" => Some(respond::text(200, statusz(core))),
        "/flagz" => Some(respond::text(200, flagz(core))),
        "/configz" => Some(respond::bytes(200, "application/json", "{}\n")),
        path if path == "/debug" || path.starts_with("/debug/pprof") || path.starts_with("/debug/flags") => {
            let words = "profiling is not implemented: this server is no Go program; use perf\n";
            Some(respond::text(501, words))
        }
        _ => None,
    }
}

fn statusz(core: &Core) -> String {
    let now = Timestamp::now();
    let up = now.as_second() - core.started.as_second();
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    format!(
        "\nkube-apiserver statusz\n{WARNING}\n\nStarted: {}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\n\
         Go version: none\nBinary version: {}\nEmulation version: 1.36\n\
         Paths: /configz /flagz /healthz /livez /metrics /readyz /statusz /version\n",
        core.started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        base::KUBERNETES_VERSION
    )
}

/// The flags that were given, in order of their names. Values that may hold secrets are none of them: those are files.
fn flagz(core: &Core) -> String {
    let mut flags: Vec<&(String, String)> = core.options.flags.iter().collect();
    flags.sort();
    let mut out = format!("\nkube-apiserver flagz\n{WARNING}\n\n");
    for (name, value) in flags {
        let _ = writeln!(out, "{name}={value}");
    }
    out
}
