//! What operators ask of the server, and what it says of itself in the cluster.

mod identity;
mod pages;
mod process;
mod runtime_config;

pub use identity::run as run_identity;
pub use pages::serve as serve_page;
pub use process::render as render_process;
pub use runtime_config::apply as apply_runtime_config;
