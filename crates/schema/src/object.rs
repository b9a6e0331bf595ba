//! Cursors on object types, their fields and their protobuf members.

use std::fmt;

use smol_str::SmolStr;

use crate::arena::{Arena, FieldData, ObjectData, ObjectId, Presence, Proto};
use crate::attrs::Union;
use crate::names::GroupVersionKind;
use crate::node::Node;

/// A cursor on an object type.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) id: ObjectId,
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

    /// What the type is for; empty when nothing is said.
    pub fn description(self) -> &'a str {
        &self.data().description
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
