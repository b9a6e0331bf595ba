//! Small plugins that are off unless enabled.

mod always;
mod namespaces;
mod owner_references;
mod pods;

pub use always::{AlwaysAdmit, AlwaysDeny, DenyServiceExternalIps};
pub use namespaces::{NamespaceAutoProvision, NamespaceExists};
pub use owner_references::OwnerReferences;
pub use pods::{AlwaysPullImages, ExtendedResourceToleration, HardAntiAffinityTopology};
