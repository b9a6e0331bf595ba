//! Where pods come from: the API, and a folder of static pods with their mirrors in the API.

mod api;
mod manifest;
mod mirror;
mod static_pods;

pub use api::follow_api;
pub use static_pods::follow_folder;
