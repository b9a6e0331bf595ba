//! The arena that types live in: plain data, children by index. [`crate::Node`] is the way to read it.

use smol_str::SmolStr;

use crate::attrs::{Attrs, Union};
use crate::names::GroupVersionKind;

/// Index of a node in its arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub u32);

/// Index of an object type in its arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ObjectId(pub u32);

/// The shape of a value, children by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object(ObjectId),
    Map(NodeId),
    List(NodeId),
    Variant(Variant, NodeId),
    Scalar(Scalar),
}

/// Types without children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    Int32,
    Int64,
    Number,
    Boolean,
    IntOrString,
    Quantity,
    Time,
    MicroTime,
    Duration,
    Bytes,
    Any,
}

/// JSON forms of the three `JSONSchemaProps...` types that are either a schema or something simpler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A schema, or a list of schemas (`JSONSchemaPropsOrArray`).
    OrList,
    /// A schema, or a boolean (`JSONSchemaPropsOrBool`).
    OrBool,
    /// A schema, or a list of strings (`JSONSchemaPropsOrStringArray`).
    OrStrings,
}

/// When Go writes a field, and so which zero values a typed object keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// A pointer: written when set, a zero value counts as set, null as not set.
    #[default]
    Optional,
    /// `omitempty` on a plain value: a zero value, empty list or empty map is not written.
    OmitZero,
    /// A field of a custom kind: kept as it came, null included.
    Verbatim,
    /// Always written: a missing value is filled with Go's zero value (`""`, `0`, `{}`; null for lists and maps).
    Always,
}

/// The protobuf side of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proto {
    /// Field number.
    pub number: u32,
    /// Go's generated code writes the field even when it is zero: plain scalars and structs, not pointers.
    pub always: bool,
}

#[derive(Debug)]
pub(crate) struct NodeData {
    pub shape: Shape,
    pub attrs: Option<Box<Attrs>>,
}

#[derive(Debug, Clone)]
pub(crate) struct FieldData {
    pub name: SmolStr,
    pub node: NodeId,
    pub required: bool,
    pub presence: Presence,
    pub proto: Option<Proto>,
    /// Comes from an inlined protobuf container; has no number of its own here.
    pub inlined: bool,
    pub deprecated: bool,
}

/// A protobuf message whose fields JSON writes into the object that holds it.
#[derive(Debug, Clone)]
pub(crate) struct InlineData {
    pub name: SmolStr,
    pub proto: Proto,
    pub object: ObjectId,
}

#[derive(Debug, Default)]
pub(crate) struct ObjectData {
    /// Full type name, e.g. `io.k8s.api.core.v1.PodSpec`; empty for anonymous ones.
    pub name: SmolStr,
    pub description: SmolStr,
    /// Sorted by name, inlined fields included.
    pub fields: Vec<FieldData>,
    pub inlines: Vec<InlineData>,
    /// Sorted by number: indices into `fields`, or into `inlines` past `fields.len()`.
    pub by_number: Vec<(u32, u32)>,
    pub unions: Vec<Union>,
    pub kinds: Vec<GroupVersionKind>,
}

#[derive(Debug, Default)]
pub(crate) struct Arena {
    pub nodes: Vec<NodeData>,
    pub objects: Vec<ObjectData>,
}
