//! Types as OpenAPI schemas: what is reachable from the kinds that are added.

use std::collections::BTreeMap;

use schema::{
    Catalog, Field, GroupVersion, GroupVersionKind, Kind, ListType, Map, MapType, Node, Object, Presence,
    Resource, SmolStr, Value, value,
};

use super::Version;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const PRESERVE_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// Collects schemas by full type name.
pub(super) struct Schemas {
    version: Version,
    done: BTreeMap<SmolStr, Value>,
}

/// The name under which a kind's schema is published.
pub(super) fn component_name(resource: &Resource) -> String {
    if !resource.custom {
        return resource.schema.root().type_name().to_owned();
    }
    let reversed: Vec<&str> = resource.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), resource.version, resource.kind)
}

/// A reference to a published type.
pub(super) fn reference(name: &str, version: Version) -> Value {
    let prefix = if version == Version::V3 { "#/components/schemas/" } else { "#/definitions/" };
    value!({"$ref": (format!("{prefix}{name}"))})
}

impl Schemas {
    pub fn new(version: Version) -> Self {
        Self { version, done: BTreeMap::new() }
    }

    /// All collected, by name.
    pub fn finish(self) -> Value {
        Value::Map(self.done.into_iter().collect())
    }

    /// The kinds that a resource takes and gives, its list included.
    pub fn add_resource(&mut self, resource: &Resource) {
        if resource.custom {
            self.add_custom(resource);
        } else {
            self.add(resource.schema.root());
            let list = resource.group_version().kind(resource.list_kind.clone());
            if let Some(list) = Catalog::builtin().kind(&list) {
                self.add(list.root());
            }
        }
        resource
            .subresources
            .iter()
            .filter(|s| !s.schema.is_custom())
            .for_each(|s| self.add(s.schema.root()));
    }

    /// What every group and version refers to: `Status`, `DeleteOptions`, `WatchEvent`, `Patch`.
    pub fn add_version(&mut self, gv: &GroupVersion) {
        for name in ["Status", "DeleteOptions", "WatchEvent"] {
            if let Some(schema) = Catalog::builtin().type_named(&format!("{META}.{name}")) {
                self.add(schema.root());
            }
            if name != "Status" {
                self.add_kind(name, gv);
            }
        }
        self.done.entry(SmolStr::from(format!("{META}.Patch"))).or_insert_with(|| value!({"type": "object"}));
    }

    /// States that a shared type is also a kind of this group and version.
    fn add_kind(&mut self, name: &str, gv: &GroupVersion) {
        let kind = kind_value(&gv.kind(name));
        if let Some(schema) = self.done.get_mut(format!("{META}.{name}").as_str()) {
            let kinds = schema.make_map().entry_list("x-kubernetes-group-version-kind");
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }

    fn add(&mut self, node: Node<'_>) {
        if let Some(object) = node.as_object().filter(|o| !o.name().is_empty()) {
            self.add_object(object, node);
        }
    }

    fn add_object(&mut self, object: Object<'_>, node: Node<'_>) {
        if self.done.contains_key(object.name()) {
            return;
        }
        // Types may contain themselves: mark first.
        self.done.insert(object.name().into(), Value::Null);
        let schema = self.object(object, node);
        self.done.insert(object.name().into(), schema);
    }

    fn object(&mut self, object: Object<'_>, node: Node<'_>) -> Value {
        let mut schema = value!({"type": "object"});
        let description = if object.name().is_empty() { node.description() } else { object.description() };
        if !description.is_empty() {
            schema.insert("description", description);
        }
        let properties: Map = object.fields().map(|f| (f.name(), self.property(f, object))).collect();
        if !properties.is_empty() {
            schema.insert("properties", properties);
        }
        let required: Vec<&str> = object.fields().filter(|f| f.required()).map(|f| f.name()).collect();
        if !required.is_empty() {
            schema.insert("required", required);
        }
        let kinds = object.kinds().iter().filter(|k| k.group != "meta.k8s.io");
        let kinds: Vec<Value> = kinds.map(kind_value).collect();
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind", kinds);
        }
        if let Some(map_type) = node.stated_map_type() {
            schema.insert("x-kubernetes-map-type", map_type_name(map_type));
        }
        let unions: Vec<Value> = object.unions().iter().map(union).collect();
        if !unions.is_empty() {
            schema.insert("x-kubernetes-unions", unions);
        }
        schema
    }

    /// A field with its own attributes around its type.
    fn property(&mut self, field: Field<'_>, holder: Object<'_>) -> Value {
        let node = field.node();
        let mut attributes = Map::new();
        let description = match (node.description(), field.name()) {
            ("", "apiVersion") if !holder.kinds().is_empty() => {
                "Group and version of this representation of the object."
            }
            ("", "kind") if !holder.kinds().is_empty() => "Kind of the object.",
            (description, _) => description,
        };
        if !description.is_empty() {
            attributes.insert("description", description);
        }
        if let Some(default) = node.default() {
            attributes.insert("default", default);
        } else if field.presence() == Presence::Always && node.as_object().is_some() {
            attributes.insert("default", Value::map());
        }
        extensions(node, &mut attributes);
        let of_type = self.of_type(node);
        if of_type.get("$ref").is_none() {
            let mut schema = of_type;
            attributes.into_iter().for_each(|(name, value)| drop(schema.insert(name, value)));
            return schema;
        }
        match (attributes.is_empty(), self.version) {
            (true, _) => of_type,
            // Siblings of a reference are ignored in v3.
            (false, Version::V3) => {
                attributes.insert("allOf", vec![of_type]);
                Value::Map(attributes)
            }
            (false, Version::V2) => {
                attributes.remove("default");
                attributes.insert("$ref", &of_type["$ref"]);
                Value::Map(attributes)
            }
        }
    }

    fn of_type(&mut self, node: Node<'_>) -> Value {
        match node.kind() {
            Kind::Object(object) if object.name().is_empty() => self.object(object, node),
            Kind::Object(object) => {
                self.add_object(object, node);
                reference(object.name(), self.version)
            }
            Kind::Map(values) => value!({"type": "object", "additionalProperties": (self.of_type(values))}),
            Kind::List(items) => value!({"type": "array", "items": (self.item(items))}),
            Kind::Variant(_, schema) => {
                self.add(schema);
                value!({})
            }
            Kind::String | Kind::Duration => value!({"type": "string"}),
            Kind::Int32 => value!({"type": "integer", "format": "int32"}),
            Kind::Int64 => value!({"type": "integer", "format": "int64"}),
            Kind::Number => value!({"type": "number", "format": "double"}),
            Kind::Boolean => value!({"type": "boolean"}),
            Kind::Bytes => value!({"type": "string", "format": "byte"}),
            Kind::Any => value!({"type": "object"}),
            Kind::IntOrString => self.named(INT_OR_STRING, "int-or-string"),
            Kind::Quantity => self.named(QUANTITY, ""),
            Kind::Time => self.named(&format!("{META}.Time"), "date-time"),
            Kind::MicroTime => self.named(&format!("{META}.MicroTime"), "date-time"),
        }
    }

    /// Items of strings have an empty default in upstream's documents; nothing depends on it.
    fn item(&mut self, items: Node<'_>) -> Value {
        self.of_type(items)
    }

    /// A string with a meaning, published under its Go type's name.
    fn named(&mut self, name: &str, format: &str) -> Value {
        let version = self.version;
        self.done.entry(name.into()).or_insert_with(|| match (format, version) {
            ("", Version::V3) => value!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            ("", Version::V2) => value!({"type": "string"}),
            ("int-or-string", Version::V3) => {
                value!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            _ => value!({"type": "string", "format": format}),
        });
        reference(name, version)
    }

    fn add_custom(&mut self, resource: &Resource) {
        let meta = Catalog::builtin().object_meta();
        self.add(meta.root());
        let name = component_name(resource);
        let anything = value!({"type": "object"});
        let mut schema = match resource.schema.openapi() {
            // Older clients take a schema with any property for one that forbids all others.
            Some(schema) if self.version == Version::V2 && schema.bool_at(PRESERVE_UNKNOWN) == Some(true) => {
                anything
            }
            schema => self.with_type_and_metadata(schema.cloned().unwrap_or(anything)),
        };
        schema.insert("x-kubernetes-group-version-kind", vec![kind_value(&resource.gvk())]);
        self.done.insert(name.clone().into(), schema);
        self.add_custom_list(resource, &name);
    }

    fn with_type_and_metadata(&self, mut schema: Value) -> Value {
        if self.version == Version::V2 {
            simplify(&mut schema);
        }
        let mut metadata = reference(&format!("{META}.ObjectMeta"), self.version);
        if self.version == Version::V3 {
            metadata = value!({"allOf": [metadata]});
        }
        let properties = schema.make_map().entry_map("properties");
        properties.insert("metadata", metadata);
        for name in ["apiVersion", "kind"] {
            properties.entry(name, || value!({"type": "string"}));
        }
        schema
    }

    fn add_custom_list(&mut self, resource: &Resource, item: &str) {
        if let Some(meta) = Catalog::builtin().type_named(&format!("{META}.ListMeta")) {
            self.add(meta.root());
        }
        let kind = resource.group_version().kind(resource.list_kind.clone());
        let list = value!({
            "type": "object", "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                "metadata": (reference(&format!("{META}.ListMeta"), self.version)),
                "items": {"type": "array", "items": (reference(item, self.version))},
            },
            "x-kubernetes-group-version-kind": (vec![kind_value(&kind)]),
        });
        self.done.insert(SmolStr::from(format!("{item}List")), list);
    }
}

/// Swagger 2.0 knows no combinations of schemas and no null; what it cannot say is left out.
fn simplify(schema: &mut Value) {
    let Some(map) = schema.as_map_mut() else { return };
    for name in ["anyOf", "oneOf", "allOf", "not", "nullable"] {
        map.remove(name);
    }
    let unknown = map.contains_key(PRESERVE_UNKNOWN);
    for name in ["properties", "additionalProperties", "items"] {
        match map.get_mut(name) {
            // Clients that check by this document would refuse what the server keeps.
            Some(_) if unknown => drop(map.remove(name)),
            Some(Value::Map(properties)) if name == "properties" => {
                properties.iter_mut().for_each(|(_, v)| simplify(v));
            }
            Some(child) => simplify(child),
            None => {}
        }
    }
}

fn kind_value(kind: &GroupVersionKind) -> Value {
    value!({"group": (&kind.group), "version": (&kind.version), "kind": (&kind.kind)})
}

fn union(union: &schema::Union) -> Value {
    let fields: Map = union.fields.iter().map(|(field, value)| (field.clone(), value.clone())).collect();
    let mut out = value!({"fields-to-discriminateBy": (Value::Map(fields))});
    if let Some(discriminator) = &union.discriminator {
        out.insert("discriminator", discriminator);
    }
    out
}

fn map_type_name(map_type: MapType) -> &'static str {
    match map_type {
        MapType::Granular => "granular",
        MapType::Atomic => "atomic",
    }
}

/// The attributes that apply and patch go by.
fn extensions(node: Node<'_>, attributes: &mut Map) {
    if let Some(list_type) = node.stated_list_type() {
        let name = match list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        attributes.insert("x-kubernetes-list-type", name);
    }
    if !node.list_keys().is_empty() {
        attributes.insert("x-kubernetes-list-map-keys", node.list_keys().to_vec());
    }
    if let Some(map_type) = node.stated_map_type().filter(|_| node.as_object().is_none()) {
        attributes.insert("x-kubernetes-map-type", map_type_name(map_type));
    }
    let patch = node.patch_strategy();
    let strategies: Vec<&str> =
        [(patch.merge, "merge"), (patch.retain_keys, "retainKeys"), (patch.replace, "replace")]
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| *name)
            .collect();
    if !strategies.is_empty() {
        attributes.insert("x-kubernetes-patch-strategy", strategies.join(","));
    }
    if let Some(key) = node.merge_key() {
        attributes.insert("x-kubernetes-patch-merge-key", key);
    }
}
