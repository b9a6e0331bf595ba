//! Loads the OpenAPI v3 schema of a custom resource into a [`Schema`].

use std::collections::HashMap;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::arena::{
    Arena, FieldData, InlineData, NodeData, NodeId, ObjectData, ObjectId, Presence, Scalar, Shape,
};
use crate::attrs::{Attrs, Constraints, Validation};
use crate::node::Node;
use crate::tables::{finish, list_type, map_type};
use crate::{Catalog, Error, Path, Schema, Value};

/// Schemas nest no deeper than upstream's decoder lets them.
const DEPTH_MAX: usize = 512;

impl Schema {
    /// A structural schema (`CustomResourceDefinition` `.spec.versions[].schema.openAPIV3Schema`) as a [`Schema`].
    ///
    /// With `root`, the top level is a whole object: `apiVersion`, `kind` and `metadata` are linked from the
    /// built-in `ObjectMeta`. Without it, the schema is taken as it stands. Whether the schema is structural is not
    /// checked here; what cannot be read is the error. Fields of the result are [`Presence::Verbatim`].
    pub fn from_openapi(openapi: &Value, root: bool) -> Result<Schema, Error> {
        let mut loader = Loader::default();
        let id = loader.node(openapi, &Path::root(), 0, root)?;
        loader.arena.objects.iter_mut().for_each(finish);
        Ok(Schema { arena: Arc::new(loader.arena), root: id, openapi: Some(Arc::new(openapi.clone())) })
    }
}

#[derive(Default)]
struct Loader {
    arena: Arena,
    /// Built-in nodes and objects already copied.
    copied_nodes: HashMap<NodeId, NodeId>,
    copied_objects: HashMap<ObjectId, ObjectId>,
}

impl Loader {
    fn push(&mut self, shape: Shape, attrs: Attrs) -> NodeId {
        let attrs = (attrs != Attrs::EMPTY).then(|| Box::new(attrs));
        self.arena.nodes.push(NodeData { shape, attrs });
        NodeId(self.arena.nodes.len() as u32 - 1)
    }

    fn object(&mut self, data: ObjectData) -> Shape {
        self.arena.objects.push(data);
        Shape::Object(ObjectId(self.arena.objects.len() as u32 - 1))
    }

    /// `whole` for the root of a kind and for embedded resources.
    fn node(&mut self, openapi: &Value, path: &Path, depth: usize, whole: bool) -> Result<NodeId, Error> {
        let fail = |reason: &str| Error::OpenApi { path: path.to_string(), reason: reason.to_owned() };
        if depth > DEPTH_MAX {
            return Err(fail("schema is nested too deeply"));
        }
        if !matches!(openapi, Value::Map(_)) {
            return Err(fail("schema must be an object"));
        }
        let mut attrs = attributes(openapi);
        self.nested(openapi, path, depth, &mut attrs.constraints)?;
        let embedded = attrs.embedded_resource;
        let shape = self.shape(openapi, path, depth, whole || embedded, &attrs)?;
        Ok(self.push(shape, attrs))
    }

    fn shape(
        &mut self,
        openapi: &Value,
        path: &Path,
        depth: usize,
        whole: bool,
        attrs: &Attrs,
    ) -> Result<Shape, Error> {
        let kind = openapi.str_at("type").unwrap_or_default();
        let properties = openapi.map_at("properties").filter(|p| !p.is_empty());
        if openapi.bool_at("x-kubernetes-int-or-string") == Some(true) {
            return Ok(Shape::Scalar(Scalar::IntOrString));
        }
        Ok(match (kind, openapi.get("additionalProperties"), openapi.get("items")) {
            ("object" | "", Some(values @ Value::Map(_)), _) if properties.is_none() && !whole => {
                Shape::Map(self.node(values, &path.child("additionalProperties"), depth + 1, false)?)
            }
            ("object" | "", Some(Value::Bool(true)), _) if properties.is_none() && !whole => {
                Shape::Map(self.push(Shape::Scalar(Scalar::Any), Attrs::default()))
            }
            ("object", ..) => self.fields(openapi, path, depth, whole)?,
            ("", ..) if properties.is_some() || whole => self.fields(openapi, path, depth, whole)?,
            ("array", _, Some(items)) | ("", _, Some(items)) => {
                Shape::List(self.node(items, &path.child("items"), depth + 1, false)?)
            }
            ("array", ..) => Shape::List(self.push(Shape::Scalar(Scalar::Any), Attrs::default())),
            ("string", ..) => Shape::Scalar(Scalar::String),
            ("integer", ..) => Shape::Scalar(Scalar::Int64),
            ("number", ..) => Shape::Scalar(Scalar::Number),
            ("boolean", ..) => Shape::Scalar(Scalar::Boolean),
            ("", ..) if !attrs.constraints.required.is_empty() => self.fields(openapi, path, depth, false)?,
            ("", ..) => Shape::Scalar(Scalar::Any),
            (other, ..) => {
                let reason = format!("unsupported type {other:?}");
                return Err(Error::OpenApi { path: path.child("type").to_string(), reason });
            }
        })
    }

    fn fields(&mut self, openapi: &Value, path: &Path, depth: usize, whole: bool) -> Result<Shape, Error> {
        let mut data = ObjectData::default();
        let required: Vec<&str> = openapi.items_at("required").iter().filter_map(Value::as_str).collect();
        let properties = path.child("properties");
        for (name, schema) in openapi.get("properties").map(Value::entries).unwrap_or_default() {
            let node = match name.as_str() {
                "metadata" if whole => self.metadata(schema, &properties.key("metadata"), depth)?,
                _ => self.node(schema, &properties.key(name.clone()), depth + 1, false)?,
            };
            let presence = if whole && name == "metadata" { Presence::Optional } else { Presence::Verbatim };
            data.fields.push(field(name.clone(), node, required.contains(&name.as_str()), presence));
        }
        if whole {
            for name in ["apiVersion", "kind"] {
                if !data.fields.iter().any(|f| f.name == name) {
                    let node = self.push(Shape::Scalar(Scalar::String), Attrs::default());
                    data.fields.push(field(name.into(), node, false, Presence::OmitZero));
                }
            }
            if !data.fields.iter().any(|f| f.name == "metadata") {
                let node = self.copy(Catalog::builtin().object_meta().root());
                data.fields.push(field("metadata".into(), node, false, Presence::Optional));
            }
        }
        Ok(self.object(data))
    }

    /// Built-in `ObjectMeta`; the schema may only restrict `name` and `generateName` further.
    fn metadata(&mut self, openapi: &Value, path: &Path, depth: usize) -> Result<NodeId, Error> {
        let copy = self.copy(Catalog::builtin().object_meta().root());
        let Shape::Object(id) = self.arena.nodes[copy.0 as usize].shape else { return Ok(copy) };
        let mut restricted = Vec::new();
        for name in ["name", "generateName"] {
            if let Some(schema) = openapi.get("properties").and_then(|p| p.get(name)) {
                let node = self.node(schema, &path.child("properties").key(name), depth + 1, false)?;
                restricted.push((name, node));
            }
        }
        let attrs = Attrs { default: openapi.get("default").cloned(), ..attributes(openapi) };
        let original = &self.arena.objects[id.0 as usize];
        let mut data = ObjectData {
            name: original.name.clone(),
            fields: original.fields.clone(),
            ..ObjectData::default()
        };
        for field in &mut data.fields {
            if let Some((_, node)) = restricted.iter().find(|(name, _)| *name == field.name) {
                field.node = *node;
            }
        }
        let shape = self.object(data);
        Ok(self.push(shape, Attrs { preserve_unknown: false, ..attrs }))
    }

    /// Value validations that combine other schemas.
    fn nested(
        &mut self,
        openapi: &Value,
        path: &Path,
        depth: usize,
        limits: &mut Constraints,
    ) -> Result<(), Error> {
        for (name, into) in
            [("allOf", &mut limits.all_of), ("anyOf", &mut limits.any_of), ("oneOf", &mut limits.one_of)]
        {
            for (i, schema) in openapi.items_at(name).iter().enumerate() {
                into.push(self.node(schema, &path.child(name).index(i), depth + 1, false)?);
            }
        }
        if let Some(schema) = openapi.get("not").filter(|s| !s.is_null()) {
            limits.not = Some(self.node(schema, &path.child("not"), depth + 1, false)?);
        }
        Ok(())
    }

    /// A built-in node with everything below it.
    fn copy(&mut self, from: Node<'_>) -> NodeId {
        if let Some(id) = self.copied_nodes.get(&from.id) {
            return *id;
        }
        let source = &from.arena.nodes[from.id.0 as usize];
        let id = self.push(Shape::Scalar(Scalar::Any), source.attrs.as_deref().cloned().unwrap_or_default());
        self.copied_nodes.insert(from.id, id);
        let child = |id| Node { arena: from.arena, id };
        let shape = match source.shape {
            Shape::Object(object) => Shape::Object(self.copy_object(from.arena, object)),
            Shape::Map(values) => Shape::Map(self.copy(child(values))),
            Shape::List(items) => Shape::List(self.copy(child(items))),
            Shape::Variant(variant, schema) => Shape::Variant(variant, self.copy(child(schema))),
            Shape::Scalar(scalar) => Shape::Scalar(scalar),
        };
        self.arena.nodes[id.0 as usize].shape = shape;
        id
    }

    fn copy_object(&mut self, arena: &Arena, from: ObjectId) -> ObjectId {
        if let Some(id) = self.copied_objects.get(&from) {
            return *id;
        }
        let source = &arena.objects[from.0 as usize];
        let id = ObjectId(self.arena.objects.len() as u32);
        self.arena.objects.push(ObjectData::default());
        self.copied_objects.insert(from, id);
        let fields = source
            .fields
            .iter()
            .map(|f| FieldData { node: self.copy(Node { arena, id: f.node }), ..f.clone() })
            .collect();
        let inlines = source
            .inlines
            .iter()
            .map(|c| InlineData { object: self.copy_object(arena, c.object), ..c.clone() })
            .collect();
        let (name, description) = (source.name.clone(), source.description.clone());
        let (unions, kinds) = (source.unions.clone(), source.kinds.clone());
        self.arena.objects[id.0 as usize] = ObjectData {
            name,
            description,
            fields,
            inlines,
            by_number: source.by_number.clone(),
            unions,
            kinds,
        };
        id
    }
}

fn field(name: SmolStr, node: NodeId, required: bool, presence: Presence) -> FieldData {
    FieldData { name, node, required, presence, proto: None, inlined: false, deprecated: false }
}

/// Everything of a schema but its shape and nested schemas.
fn attributes(openapi: &Value) -> Attrs {
    let text = |name: &str| openapi.str_at(name).map(SmolStr::new);
    let flag = |name: &str| openapi.bool_at(name) == Some(true);
    let names = |name: &str| -> Vec<SmolStr> {
        openapi.items_at(name).iter().filter_map(Value::as_smol).cloned().collect()
    };
    Attrs {
        default: openapi.get("default").cloned(),
        description: text("description"),
        title: text("title"),
        nullable: flag("nullable"),
        list_type: openapi.str_at("x-kubernetes-list-type").and_then(list_type),
        list_keys: names("x-kubernetes-list-map-keys"),
        map_type: openapi.str_at("x-kubernetes-map-type").and_then(map_type),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        validations: openapi.items_at("x-kubernetes-validations").iter().map(validation).collect(),
        constraints: constraints(openapi, names("required")),
        ..Attrs::default()
    }
}

fn constraints(openapi: &Value, required: Vec<SmolStr>) -> Constraints {
    let number = |name: &str| openapi.get(name).and_then(Value::as_f64);
    let count = |name: &str| openapi.int_at(name).and_then(|i| u64::try_from(i).ok());
    let flag = |name: &str| openapi.bool_at(name) == Some(true);
    Constraints {
        enumeration: openapi.items_at("enum").to_vec(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: openapi.str_at("pattern").map(SmolStr::new),
        format: openapi.str_at("format").map(SmolStr::new),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        required,
        ..Constraints::default()
    }
}

fn validation(rule: &Value) -> Validation {
    let text = |name: &str| rule.str_at(name).map(SmolStr::new);
    Validation {
        rule: text("rule").unwrap_or_default(),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: text("reason"),
        field_path: text("fieldPath"),
        optional_old_self: rule.bool_at("optionalOldSelf"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, ListType, value};

    fn widget() -> Schema {
        let spec = value!({"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 3},
            "port": {"x-kubernetes-int-or-string": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                      "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true}
        }, "x-kubernetes-validations": [{"rule": "self.size > 0", "message": "small"}],
           "anyOf": [{"required": ["port"]}, {"required": ["raw"]}]});
        let root = value!({"type": "object", "properties": {"spec": spec}});
        Schema::from_openapi(&root, true).unwrap()
    }

    #[test]
    fn structural_schema_becomes_nodes() {
        let schema = widget();
        let spec = schema.root().field("spec").unwrap().node();
        assert_eq!(spec.field("size").unwrap().node().default(), Some(&Value::Int(3)));
        assert!(spec.field("size").unwrap().required());
        assert!(matches!(spec.field("port").unwrap().node().kind(), Kind::IntOrString));
        assert!(matches!(spec.field("labels").unwrap().node().kind(), Kind::Map(_)));
        let parts = spec.field("parts").unwrap().node();
        assert_eq!((parts.list_type(), parts.list_keys()), (ListType::Map, &["name".into()][..]));
        assert!(spec.field("raw").unwrap().node().preserve_unknown());
        assert_eq!(spec.validations()[0].message.as_deref(), Some("small"));
        assert_eq!(spec.any_of().count(), 2);
        assert_eq!(spec.any_of().next().unwrap().constraints().required, ["port"]);
    }

    #[test]
    fn metadata_is_the_built_in_one() {
        let schema = widget();
        let meta = schema.root().field("metadata").unwrap().node();
        assert!(meta.field("managedFields").is_some());
        let owners = meta.field("ownerReferences").unwrap().node();
        assert_eq!(owners.list_keys(), ["uid"]);
        let template = schema.root().field("spec").unwrap().node().field("template").unwrap().node();
        assert!(template.field("metadata").unwrap().node().field("name").is_some());
    }

    #[test]
    fn metadata_name_may_be_restricted() {
        let root = value!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {
            "name": {"type": "string", "maxLength": 5}}}}});
        let schema = Schema::from_openapi(&root, true).unwrap();
        let name = schema.root().field("metadata").unwrap().node().field("name").unwrap().node();
        assert_eq!(name.constraints().max_length, Some(5));
    }

    #[test]
    fn unknown_type_is_an_error() {
        let root = value!({"type": "object", "properties": {"a": {"type": "wat"}}});
        let error = Schema::from_openapi(&root, true).unwrap_err();
        assert_eq!(error.to_string(), "properties[a].type: unsupported type \"wat\"");
    }
}
