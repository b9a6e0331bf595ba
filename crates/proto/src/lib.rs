//! Generated gRPC messages and services of CRI, etcd and the plugin protocols.

mod debug;

#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
#[rustfmt::skip]
#[path = "gen/corten_image_v1.rs"]
#[doc(hidden)]
pub mod corten_image_v1;
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
#[rustfmt::skip]
#[path = "gen/cri_v1.rs"]
#[doc(hidden)]
pub mod cri_v1;
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
#[rustfmt::skip]
#[path = "gen/authpb.rs"]
#[doc(hidden)]
pub mod authpb;
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
#[rustfmt::skip]
#[path = "gen/etcdserverpb.rs"]
#[doc(hidden)]
pub mod etcdserverpb;
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
#[rustfmt::skip]
#[path = "gen/mvccpb.rs"]
#[doc(hidden)]
pub mod mvccpb;

#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
#[rustfmt::skip]
#[path = "gen/kms_v2.rs"]
#[doc(hidden)]
pub mod kms_v2;

/// etcd's v3 API.
pub mod etcd {
    /// Users, roles, permissions.
    pub use crate::authpb as auth;
    /// Services and their messages.
    pub use crate::etcdserverpb as rpc;
    /// Keys, values, events.
    pub use crate::mvccpb as kv;
}

/// The container runtime interface.
pub mod cri {
    /// `runtime.v1` of k8s.io/cri-api.
    pub use crate::cri_v1 as v1;
}

/// Plugins of key management services.
pub mod kms {
    /// `v2` of k8s.io/kms, and the stored form of values (`EncryptedObject`).
    pub use crate::kms_v2 as v2;
}

/// Services of Corten's own.
pub mod corten {
    /// Image administration beside CRI: import.
    pub use crate::corten_image_v1 as image_v1;
}
