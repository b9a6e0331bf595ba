//! Why bytes are not an object.

/// Errors of this crate. The texts are those that upstream puts into a Status message.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Not JSON. Upstream answers `couldn't get version/kind; json parse error: ...`.
    #[error("{0}")]
    Syntax(String),
    /// Not YAML.
    #[error("{0}")]
    Yaml(String),
    /// JSON of the wrong type, or a text that is no time, quantity or base64.
    #[error("{0}")]
    Type(String),
    /// Deeper nesting than [`crate::DEPTH_MAX`].
    #[error("exceeded max depth")]
    Depth,
    /// Malformed protobuf, or none at all.
    #[error("{0}")]
    Protobuf(String),
    /// The kind has no protobuf form.
    #[error(
        "object {0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NoProtobuf(String),
}
