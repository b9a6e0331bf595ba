//! What every crate takes from outside: clock, task scopes, identities and quantities; and which Kubernetes this is.
//!
//! `base` knows nothing of Kubernetes objects, of HTTP or of any component.

mod clock;
mod identity;
pub mod quantity;
mod reference;
mod scope;
mod version;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock, system_clock};
pub use identity::UserInfo;
pub use quantity::Quantity;
pub use reference::reference_dir;
pub use scope::{Cancelled, TaskScope};
pub use version::{GIT_VERSION, KUBERNETES_VERSION};
