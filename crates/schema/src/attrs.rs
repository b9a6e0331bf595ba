//! What a schema says of a value beyond its type: defaults, merge behaviour, constraints, rules.

use smol_str::SmolStr;

use crate::Value;
use crate::arena::NodeId;

/// How server-side apply treats a list (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// Replaced as a whole; also when nothing is said.
    #[default]
    Atomic,
    /// Scalars, each at most once, each owned by itself.
    Set,
    /// Objects told apart by the values of their keys.
    Map,
}

/// How server-side apply treats an object or map (`x-kubernetes-map-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapType {
    /// Fields are owned one by one.
    #[default]
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists merge item by item (by the merge key when there is one). Without it lists are replaced.
    pub merge: bool,
    /// Fields of an object that the patch does not name may be cleared by `$retainKeys`.
    pub retain_keys: bool,
    /// Stated as `replace` explicitly: an object is replaced instead of merged.
    pub replace: bool,
}

/// Limits on a single value, as OpenAPI names them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Constraints {
    /// Allowed values; empty for any.
    pub enumeration: Vec<Value>,
    /// Least number.
    pub minimum: Option<f64>,
    /// Greatest number.
    pub maximum: Option<f64>,
    /// `minimum` itself is not allowed.
    pub exclusive_minimum: bool,
    /// `maximum` itself is not allowed.
    pub exclusive_maximum: bool,
    /// The number must be a multiple of this.
    pub multiple_of: Option<f64>,
    /// Least number of characters.
    pub min_length: Option<u64>,
    /// Greatest number of characters.
    pub max_length: Option<u64>,
    /// Regular expression that must match somewhere in the string.
    pub pattern: Option<SmolStr>,
    /// Named form of a string: OpenAPI's (`date-time`, `ipv4`), or for built-in kinds that of a validation function
    /// (`dns1123-label`, `dns1123-subdomain`, `qualified-name`, `label-value`, ... see `api/README.md`).
    pub format: Option<SmolStr>,
    /// Least number of items.
    pub min_items: Option<u64>,
    /// Greatest number of items.
    pub max_items: Option<u64>,
    /// No two items are equal.
    pub unique_items: bool,
    /// Least number of entries.
    pub min_properties: Option<u64>,
    /// Greatest number of entries.
    pub max_properties: Option<u64>,
    /// Fields that must be there (custom kinds; also names that no property describes).
    pub required: Vec<SmolStr>,
    /// Schemas that must all hold (value validation only, as structural schemas allow).
    pub(crate) all_of: Vec<NodeId>,
    /// Schemas of which one must hold.
    pub(crate) any_of: Vec<NodeId>,
    /// Schemas of which exactly one must hold.
    pub(crate) one_of: Vec<NodeId>,
    /// A schema that must not hold.
    pub(crate) not: Option<NodeId>,
}

/// One CEL rule of `x-kubernetes-validations`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    /// The expression; `self` and `oldSelf` are the value.
    pub rule: SmolStr,
    /// Message when it does not hold.
    pub message: Option<SmolStr>,
    /// Expression that makes the message.
    pub message_expression: Option<SmolStr>,
    /// Reason: `FieldValueInvalid`, `FieldValueForbidden`, `FieldValueRequired`, `FieldValueDuplicate`.
    pub reason: Option<SmolStr>,
    /// Field that the error names, relative to the value.
    pub field_path: Option<SmolStr>,
    /// A transition rule that also runs when there is no old value.
    pub optional_old_self: Option<bool>,
}

/// A group of fields of which at most one is set (`x-kubernetes-unions`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Union {
    /// The field that names the one that is set, if there is one.
    pub discriminator: Option<SmolStr>,
    /// JSON field name and the discriminator's value for it.
    pub fields: Vec<(SmolStr, SmolStr)>,
}

/// All attributes of one node. Most nodes have none and share an empty one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Attrs {
    pub default: Option<Value>,
    pub description: Option<SmolStr>,
    pub title: Option<SmolStr>,
    pub nullable: bool,
    pub list_type: Option<ListType>,
    pub list_keys: Vec<SmolStr>,
    pub map_type: Option<MapType>,
    pub patch: PatchStrategy,
    pub merge_key: Option<SmolStr>,
    pub immutable: bool,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub validations: Vec<Validation>,
    pub constraints: Constraints,
    /// A list whose protobuf form is a message holding it as field 1 (`ExtraValue`, `Verbs`).
    pub wrapped: bool,
}

impl Attrs {
    pub(crate) const EMPTY: Attrs = Attrs {
        default: None,
        description: None,
        title: None,
        nullable: false,
        list_type: None,
        list_keys: Vec::new(),
        map_type: None,
        patch: PatchStrategy { merge: false, retain_keys: false, replace: false },
        merge_key: None,
        immutable: false,
        preserve_unknown: false,
        embedded_resource: false,
        validations: Vec::new(),
        constraints: Constraints {
            enumeration: Vec::new(),
            minimum: None,
            maximum: None,
            exclusive_minimum: false,
            exclusive_maximum: false,
            multiple_of: None,
            min_length: None,
            max_length: None,
            pattern: None,
            format: None,
            min_items: None,
            max_items: None,
            unique_items: false,
            min_properties: None,
            max_properties: None,
            required: Vec::new(),
            all_of: Vec::new(),
            any_of: Vec::new(),
            one_of: Vec::new(),
            not: None,
        },
        wrapped: false,
    };
}
