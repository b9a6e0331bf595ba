//! Log lines of servers, on the error stream.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging: what `CORTEN_LOG` asks for (as `RUST_LOG` does elsewhere), else what is worth knowing.
pub fn start() {
    let filter =
        EnvFilter::try_from_env("CORTEN_LOG").unwrap_or_else(|_| EnvFilter::new("info,hyper=warn,h2=warn"));
    // A second start in a process changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        // A full disk may take no line; saying so on the same disk would panic.
        .log_internal_errors(false)
        .try_init();
}
