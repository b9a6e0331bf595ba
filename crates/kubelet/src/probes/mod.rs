//! Probes of containers: startup, liveness and readiness, by exec, HTTP, TCP and gRPC.

mod check;
mod grpc;
pub mod http;
mod results;
mod run;

pub use results::{ProbeKind, ProbeResults, ResultMap, SharedResults, Verdict};
pub use run::{ProbeContext, Probes};
