//! Kubernetes protobuf: the `k8s\0` envelope and messages by the schema's field numbers.
//!
//! The wire form is that of gogo-proto's generated Go code: fields in ascending order, plain scalars and structs
//! written even when zero, maps sorted by key, repeated numbers not packed.

mod decode;
mod encode;
pub(crate) mod wire;

pub use decode::{decode, decode_message, unwrap};
pub use encode::{encode, encode_message, wrap};
pub(crate) use encode::{wrap_end, wrap_start};

/// The first bytes of every object (`application/vnd.kubernetes.protobuf`).
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// `runtime.Unknown` of an envelope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Envelope<'a> {
    /// The object's `apiVersion`.
    pub api_version: &'a str,
    /// The object's `kind`.
    pub kind: &'a str,
    /// The message.
    pub raw: &'a [u8],
}
