//! What of a schema matters to merging: leaf, list or map, and what their parts are.

use schema::{Kind, ListType, MapType, Node, SmolStr, Value};

use crate::fields::Element;

/// A type: one of the schema's, or one deduced from the value where the schema keeps unknown fields.
#[derive(Clone, Copy)]
pub(crate) enum Type<'a> {
    Known(Node<'a>),
    /// Maps are granular, lists atomic, all the way down.
    Deduced,
    /// Whatever is there is one leaf.
    Leaf,
}

/// How values of a type are taken apart.
#[derive(Clone, Copy)]
pub(crate) enum Shape<'a> {
    /// A scalar, or an atomic list or map.
    Leaf,
    /// A set, or a list with keys.
    List(ListShape<'a>),
    /// An object or map whose fields are owned one by one.
    Map(MapShape<'a>),
}

#[derive(Clone, Copy)]
pub(crate) struct ListShape<'a> {
    pub items: Type<'a>,
    /// Empty for sets.
    pub keys: &'a [SmolStr],
    item_node: Node<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum MapShape<'a> {
    Node(Node<'a>),
    Deduced,
}

impl<'a> Type<'a> {
    pub fn shape(self, value: &Value) -> Shape<'a> {
        let node = match self {
            Self::Leaf => return Shape::Leaf,
            Self::Deduced => {
                return match value {
                    Value::Map(_) => Shape::Map(MapShape::Deduced),
                    _ => Shape::Leaf,
                };
            }
            Self::Known(node) => node,
        };
        match node.kind() {
            Kind::Object(_) | Kind::Map(_) if node.map_type() == MapType::Granular => {
                Shape::Map(MapShape::Node(node))
            }
            Kind::List(items) => match node.list_type() {
                ListType::Atomic => Shape::Leaf,
                ListType::Set => {
                    Shape::List(ListShape { items: Self::Known(items), keys: &[], item_node: items })
                }
                ListType::Map => Shape::List(ListShape {
                    items: Self::Known(items),
                    keys: node.list_keys(),
                    item_node: items,
                }),
            },
            Kind::Any if node.preserve_unknown() => Self::Deduced.shape(value),
            _ => Shape::Leaf,
        }
    }
}

impl<'a> MapShape<'a> {
    /// The type of a field or of a map's values; `None` when there is no such field.
    pub fn field(self, name: &str) -> Option<Type<'a>> {
        let Self::Node(node) = self else { return Some(Type::Deduced) };
        match node.kind() {
            Kind::Map(values) => Some(Type::Known(values)),
            Kind::Object(object) => match object.field(name) {
                Some(field) => Some(Type::Known(field.node())),
                None if node.preserve_unknown() => Some(Type::Deduced),
                None => None,
            },
            _ => None,
        }
    }

    /// The type to go on with; an unknown field is a leaf.
    pub fn field_or_leaf(self, name: &str) -> Type<'a> {
        self.field(name).unwrap_or(Type::Leaf)
    }

    /// True for fields that the schema names, false for keys of maps.
    pub fn is_named(self, name: &str) -> bool {
        match self {
            Self::Node(node) => node.field(name).is_some(),
            Self::Deduced => false,
        }
    }
}

/// What a reference without a name is called.
static UNNAMED: Value = Value::Str(schema::SmolStr::new_static(""));

/// The path element of a list's item. The error is upstream's text.
pub(crate) fn list_element(list: &ListShape<'_>, item: &Value) -> Result<Element, String> {
    if list.keys.is_empty() {
        return match item {
            Value::Map(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::List(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".to_owned())
            }
            scalar => Ok(Element::Value(scalar.clone())),
        };
    }
    let Value::Map(map) = item else {
        return Err(match item {
            Value::Null => "associative list with keys may not have a null element",
            _ => "associative list with keys may not have non-map elements",
        }
        .to_owned());
    };
    let mut keys = Vec::with_capacity(list.keys.len());
    for name in list.keys {
        let default = || list.item_node.field(name).and_then(|field| field.node().default());
        // References within a namespace name nothing by default.
        let unnamed = || list.item_node.type_name().ends_with(".LocalObjectReference").then_some(&UNNAMED);
        let value = map.get(name).or_else(default).or_else(unnamed).ok_or_else(|| {
            format!(
                "associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
                name.as_str()
            )
        })?;
        keys.push((name.clone(), value.clone()));
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(keys))
}
