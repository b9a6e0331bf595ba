//! The schema proper: an arena of nodes and a cheap cursor over it.
//!
//! Built-in types share one arena; a custom resource has its own. Types may refer to themselves, so nodes refer to
//! each other by index and a [`Node`] is a copyable pair of arena and index.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::Value;
use crate::attrs::{Attrs, Constraints, ListType, MapType, PatchStrategy, Union, Validation};
use crate::names::GroupVersionKind;
use crate::path::{Path, Segment};

static EMPTY: Attrs = Attrs::EMPTY;

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

/// A cursor on an object type.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    arena: &'a Arena,
    id: ObjectId,
}

impl<'a> Object<'a> {
    pub(crate) fn data(self) -> &'a ObjectData {
        &self.arena.objects[self.id.0 as usize]
    }

    fn wrap(self, data: &'a FieldData) -> Field<'a> {
        Field { arena: self.arena, data }
    }

    /// Full type name; empty for anonymous types.
    pub fn name(self) -> &'a str {
        &self.data().name
    }

    /// The field of that JSON name.
    pub fn field(self, name: &str) -> Option<Field<'a>> {
        let fields = &self.data().fields;
        let at = fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok()?;
        Some(self.wrap(&fields[at]))
    }

    /// All fields by ascending JSON name. Walks in step with a [`crate::Map`], which has the same order.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field<'a>> + DoubleEndedIterator {
        self.data().fields.iter().map(move |data| self.wrap(data))
    }

    /// What protobuf writes, by ascending number.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        self.data().by_number.iter().map(move |(_, at)| self.member_at(*at))
    }

    /// What has that protobuf number.
    pub fn member(self, number: u32) -> Option<Member<'a>> {
        let by_number = &self.data().by_number;
        let at = by_number.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        Some(self.member_at(by_number[at].1))
    }

    fn member_at(self, at: u32) -> Member<'a> {
        let data = self.data();
        match data.fields.get(at as usize) {
            Some(field) => Member::Field(self.wrap(field)),
            None => {
                let inline = &data.inlines[at as usize - data.fields.len()];
                Member::Inline(Inline {
                    name: &inline.name,
                    proto: inline.proto,
                    object: Object { arena: self.arena, id: inline.object },
                })
            }
        }
    }

    /// Fields of which at most one is set.
    pub fn unions(self) -> &'a [Union] {
        &self.data().unions
    }

    /// The kinds that this type is; empty for parts of kinds.
    pub fn kinds(self) -> &'a [GroupVersionKind] {
        &self.data().kinds
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.name())
    }
}

/// One entry of an object's protobuf form.
#[derive(Debug, Clone, Copy)]
pub enum Member<'a> {
    /// A field with a number.
    Field(Field<'a>),
    /// A message whose fields JSON writes into the object itself (`Volume.volumeSource`).
    Inline(Inline<'a>),
}

/// A protobuf container whose content is inlined in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Inline<'a> {
    /// Its protobuf name, e.g. `volumeSource`.
    pub name: &'a str,
    /// Its number and presence.
    pub proto: Proto,
    /// Its fields, which are also fields of the holder.
    pub object: Object<'a>,
}

/// A cursor on one field of an object.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    arena: &'a Arena,
    data: &'a FieldData,
}

impl<'a> Field<'a> {
    /// JSON name.
    pub fn name(self) -> &'a str {
        &self.data.name
    }

    /// JSON name as the cheaply cloned type.
    pub fn smol_name(self) -> &'a SmolStr {
        &self.data.name
    }

    /// The type and attributes of its value. List type, default, constraints, immutability are read there.
    pub fn node(self) -> Node<'a> {
        Node { arena: self.arena, id: self.data.node }
    }

    /// Must be there.
    pub fn required(self) -> bool {
        self.data.required
    }

    /// Which zero values are kept and written.
    pub fn presence(self) -> Presence {
        self.data.presence
    }

    /// Number and presence in protobuf; `None` for `apiVersion`, `kind`, inlined fields and custom kinds.
    pub fn proto(self) -> Option<Proto> {
        self.data.proto
    }

    /// Comes from a protobuf container that JSON inlines.
    pub fn inlined(self) -> bool {
        self.data.inlined
    }

    /// Use draws a warning.
    pub fn deprecated(self) -> bool {
        self.data.deprecated
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name(), self.node())
    }
}
