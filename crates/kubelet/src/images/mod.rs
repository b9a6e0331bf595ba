//! Images: names, credentials, pulls with back-off, removal of unused ones.

mod credentials;
mod gc;
mod names;
mod pull;

pub use gc::{ImageGc, UsedImages};
pub use pull::{ImageError, Images, Pulled, go_duration};
