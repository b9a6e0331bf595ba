//! The types of the language.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

/// A type. Prints as cel-go prints it: `list(string)`, `map(string, dyn)`, `kubernetes.Quantity`.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Not known before evaluation.
    Dyn,
    /// What follows an error; fits everywhere.
    Error,
    /// Only `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// 64 bits, signed.
    Int,
    /// 64 bits, unsigned.
    Uint,
    /// IEEE 754 of 64 bits.
    Double,
    /// Text.
    String,
    /// Octets.
    Bytes,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// Items of one type.
    List(Arc<Type>),
    /// Keys and values of one type each.
    Map(Arc<Type>, Arc<Type>),
    /// Named fields.
    Object(Arc<ObjectType>),
    /// A type of a library or of the embedder, known by its name alone.
    Opaque(SmolStr),
    /// A value or none.
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A parameter of a generic function; numbered while checking.
    Param(u32),
}

/// A type with named fields.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectType {
    /// Its name in messages.
    pub name: SmolStr,
    /// Types by field name, as expressions write it (escaped).
    pub fields: BTreeMap<SmolStr, Type>,
    /// Fields that are not listed are [`Type::Dyn`] instead of an error.
    pub open: bool,
}

impl Type {
    /// A list of `items`.
    pub fn list(items: Type) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map from `keys` to `values`.
    pub fn map(keys: Type, values: Type) -> Self {
        Self::Map(Arc::new(keys), Arc::new(values))
    }

    /// An object with these fields and no others.
    pub fn object<N: Into<SmolStr>>(
        name: impl Into<SmolStr>,
        fields: impl IntoIterator<Item = (N, Type)>,
    ) -> Self {
        let fields = fields.into_iter().map(|(name, of)| (name.into(), of)).collect();
        Self::Object(Arc::new(ObjectType { name: name.into(), fields, open: false }))
    }

    /// An object of which no fields are known: each is [`Type::Dyn`].
    pub fn open_object(name: impl Into<SmolStr>) -> Self {
        Self::Object(Arc::new(ObjectType { name: name.into(), fields: BTreeMap::new(), open: true }))
    }

    /// A type known by its name alone.
    pub fn opaque(name: impl Into<SmolStr>) -> Self {
        Self::Opaque(name.into())
    }

    /// `of` or none.
    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// The type of `authorizer`.
    pub fn authorizer() -> Self {
        Self::Opaque(SmolStr::new_static("kubernetes.authorization.Authorizer"))
    }

    /// The type of `authorizer.requestResource`.
    pub fn resource_check() -> Self {
        Self::Opaque(SmolStr::new_static("kubernetes.authorization.ResourceCheck"))
    }

    /// Anything goes.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(items) => write!(f, "list({items})"),
            Self::Map(keys, values) => write!(f, "map({keys}, {values})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Opaque(name) => f.write_str(name),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Param(number) => write!(f, "_var{number}"),
        }
    }
}
