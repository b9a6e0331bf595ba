//! The schema proper: a cheap cursor over an arena of nodes.
//!
//! Built-in types share one arena; a custom resource has its own. Types may refer to themselves, so nodes refer to
//! each other by index and a [`Node`] is a copyable pair of arena and index.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::Value;
use crate::arena::{Arena, NodeData, NodeId, Scalar, Shape, Variant};
use crate::attrs::{Attrs, Constraints, ListType, MapType, PatchStrategy, Validation};
use crate::object::{Field, Object};
use crate::path::{Path, Segment};

static EMPTY: Attrs = Attrs::EMPTY;

/// A type: an arena of nodes and the one to start from. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    pub(crate) arena: Arc<Arena>,
    pub(crate) root: NodeId,
    pub(crate) openapi: Option<Arc<Value>>,
}

impl Schema {
    /// A schema of which nothing is known: every value is kept as it is.
    pub fn any() -> Self {
        let node = NodeData { shape: Shape::Scalar(Scalar::Any), attrs: None };
        Self {
            arena: Arc::new(Arena { nodes: vec![node], objects: Vec::new() }),
            root: NodeId(0),
            openapi: None,
        }
    }

    /// The type of the whole object.
    pub fn root(&self) -> Node<'_> {
        Node { arena: &self.arena, id: self.root }
    }

    /// The OpenAPI v3 schema that a custom kind was loaded from.
    pub fn openapi(&self) -> Option<&Value> {
        self.openapi.as_deref()
    }

    /// True for the schema of a custom kind.
    pub fn is_custom(&self) -> bool {
        self.openapi.is_some()
    }

    /// A schema whose root is the node at dotted field names (lists and maps are passed through by `*`).
    pub fn sub_schema(&self, dotted: &str) -> Option<Schema> {
        let node = dotted.split('.').try_fold(self.root(), |node, name| match name {
            "*" => node.child(),
            name => node.field(name).map(|f| f.node()),
        })?;
        Some(Schema { arena: self.arena.clone(), root: node.id, openapi: None })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({:?})", self.root())
    }
}

/// A cursor on one type of a schema.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) id: NodeId,
}

/// What a node is, with cursors on its children.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// Named fields. Unknown ones are an error or pruned, unless [`Node::preserve_unknown`].
    Object(Object<'a>),
    /// String keys to values of one type.
    Map(Node<'a>),
    /// Items of one type.
    List(Node<'a>),
    /// A schema or something simpler; the node is the schema's type.
    Variant(Variant, Node<'a>),
    /// A string.
    String,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A floating-point number.
    Number,
    /// A boolean.
    Boolean,
    /// A whole number of 32 bits, or a string (`intstr.IntOrString`).
    IntOrString,
    /// `resource.Quantity`: a string; a number is accepted too.
    Quantity,
    /// `metav1.Time`: RFC 3339 with whole seconds.
    Time,
    /// `metav1.MicroTime`: RFC 3339 with microseconds.
    MicroTime,
    /// `metav1.Duration`: Go's text, `1m30s`.
    Duration,
    /// Bytes: base64 in JSON.
    Bytes,
    /// Anything, kept as it is (`RawExtension`, `FieldsV1`, `JSON`, preserve-unknown-fields without properties).
    Any,
}

impl<'a> Node<'a> {
    fn data(self) -> &'a NodeData {
        &self.arena.nodes[self.id.0 as usize]
    }

    fn attrs(self) -> &'a Attrs {
        self.data().attrs.as_deref().unwrap_or(&EMPTY)
    }

    fn with(self, id: NodeId) -> Node<'a> {
        Node { arena: self.arena, id }
    }

    /// What it is.
    pub fn kind(self) -> Kind<'a> {
        match self.data().shape {
            Shape::Object(id) => Kind::Object(Object { arena: self.arena, id }),
            Shape::Map(values) => Kind::Map(self.with(values)),
            Shape::List(items) => Kind::List(self.with(items)),
            Shape::Variant(variant, schema) => Kind::Variant(variant, self.with(schema)),
            Shape::Scalar(scalar) => match scalar {
                Scalar::String => Kind::String,
                Scalar::Int32 => Kind::Int32,
                Scalar::Int64 => Kind::Int64,
                Scalar::Number => Kind::Number,
                Scalar::Boolean => Kind::Boolean,
                Scalar::IntOrString => Kind::IntOrString,
                Scalar::Quantity => Kind::Quantity,
                Scalar::Time => Kind::Time,
                Scalar::MicroTime => Kind::MicroTime,
                Scalar::Duration => Kind::Duration,
                Scalar::Bytes => Kind::Bytes,
                Scalar::Any => Kind::Any,
            },
        }
    }

    /// The object, if it is one.
    pub fn as_object(self) -> Option<Object<'a>> {
        if let Kind::Object(object) = self.kind() { Some(object) } else { None }
    }

    /// The field of that JSON name, if this is an object that has it.
    pub fn field(self, name: &str) -> Option<Field<'a>> {
        self.as_object()?.field(name)
    }

    /// The items of a list or the values of a map.
    pub fn child(self) -> Option<Node<'a>> {
        match self.kind() {
            Kind::Map(child) | Kind::List(child) => Some(child),
            _ => None,
        }
    }

    /// The type at `path`: fields of objects, keys of maps, indices of lists.
    pub fn at_path(self, path: &Path) -> Option<Node<'a>> {
        path.segments().iter().try_fold(self, |node, step| match (node.kind(), step) {
            (Kind::Object(object), Segment::Field(name) | Segment::Key(name)) => {
                Some(object.field(name)?.node())
            }
            (Kind::Map(values), Segment::Field(_) | Segment::Key(_)) => Some(values),
            (Kind::List(items), Segment::Index(_)) => Some(items),
            _ => None,
        })
    }

    /// Full type name, e.g. `io.k8s.api.core.v1.PodSpec`; empty for anonymous types.
    pub fn type_name(self) -> &'a str {
        self.as_object().map_or("", |object| object.name())
    }

    /// What a missing value becomes.
    pub fn default(self) -> Option<&'a Value> {
        self.attrs().default.as_ref()
    }

    /// What it is for; empty when nothing is said.
    pub fn description(self) -> &'a str {
        self.attrs().description.as_deref().unwrap_or("")
    }

    /// OpenAPI title; empty when nothing is said.
    pub fn title(self) -> &'a str {
        self.attrs().title.as_deref().unwrap_or("")
    }

    /// Null is a value (custom kinds); elsewhere null means absent.
    pub fn nullable(self) -> bool {
        self.attrs().nullable
    }

    /// How apply treats this list. Only meaningful for lists.
    pub fn list_type(self) -> ListType {
        self.attrs().list_type.unwrap_or_default()
    }

    /// The list type as stated; `None` when nothing is said (which means atomic).
    pub fn stated_list_type(self) -> Option<ListType> {
        self.attrs().list_type
    }

    /// Fields that tell the items of a [`ListType::Map`] apart.
    pub fn list_keys(self) -> &'a [SmolStr] {
        &self.attrs().list_keys
    }

    /// How apply treats this object or map.
    pub fn map_type(self) -> MapType {
        self.attrs().map_type.unwrap_or_default()
    }

    /// The map type as stated; `None` when nothing is said (which means granular).
    pub fn stated_map_type(self) -> Option<MapType> {
        self.attrs().map_type
    }

    /// How a strategic merge patch treats this field's value.
    pub fn patch_strategy(self) -> PatchStrategy {
        self.attrs().patch
    }

    /// The field that a strategic merge patch tells list items apart by.
    pub fn merge_key(self) -> Option<&'a str> {
        self.attrs().merge_key.as_deref()
    }

    /// Once set it may not change.
    pub fn immutable(self) -> bool {
        self.attrs().immutable
    }

    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub fn preserve_unknown(self) -> bool {
        self.attrs().preserve_unknown
    }

    /// A whole object with `apiVersion`, `kind` and `metadata` (`x-kubernetes-embedded-resource`).
    pub fn embedded_resource(self) -> bool {
        self.attrs().embedded_resource
    }

    /// CEL rules on this value.
    pub fn validations(self) -> &'a [Validation] {
        &self.attrs().validations
    }

    /// Limits on this value.
    pub fn constraints(self) -> &'a Constraints {
        &self.attrs().constraints
    }

    /// True when any limit is stated here, so that walks can skip the rest.
    pub fn has_constraints(self) -> bool {
        self.data().attrs.as_ref().is_some_and(|a| a.constraints != EMPTY.constraints)
    }

    /// Schemas that must all hold.
    pub fn all_of(self) -> impl Iterator<Item = Node<'a>> {
        self.constraints().all_of.iter().map(move |id| self.with(*id))
    }

    /// Schemas of which at least one must hold; none means no condition.
    pub fn any_of(self) -> impl Iterator<Item = Node<'a>> {
        self.constraints().any_of.iter().map(move |id| self.with(*id))
    }

    /// Schemas of which exactly one must hold; none means no condition.
    pub fn one_of(self) -> impl Iterator<Item = Node<'a>> {
        self.constraints().one_of.iter().map(move |id| self.with(*id))
    }

    /// A schema that must not hold (`not`).
    #[expect(clippy::should_implement_trait, reason = "the keyword's name, as the other three")]
    pub fn not(self) -> Option<Node<'a>> {
        self.constraints().not.map(|id| self.with(id))
    }

    /// The protobuf form of this list is a message that holds it as field 1 (`ExtraValue`, `Verbs`).
    pub fn wrapped(self) -> bool {
        self.attrs().wrapped
    }

    /// An identity for caches keyed by type: equal for equal nodes of one schema, and only there.
    pub fn key(self) -> u32 {
        self.id.0
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Object(object) => write!(f, "{object:?}"),
            Kind::Map(values) => write!(f, "Map({values:?})"),
            Kind::List(items) => write!(f, "List({items:?})"),
            Kind::Variant(variant, _) => write!(f, "Variant({variant:?})"),
            _ => write!(f, "{:?}", self.data().shape),
        }
    }
}
