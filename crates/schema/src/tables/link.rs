//! Definitions into nodes: type names become indices, inlined containers become fields of their holders.

use std::collections::HashMap;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::attributes;
use super::parse::{FieldDef, Form, Table, TypeDef};
use crate::arena::{
    Arena, FieldData, InlineData, NodeData, NodeId, ObjectData, ObjectId, Presence, Proto, Scalar, Shape,
    Variant,
};
use crate::attrs::{Attrs, Union};
use crate::error::Error;
use crate::names::GroupVersionKind;

/// All types of all tables.
pub(super) struct Types {
    pub arena: Arc<Arena>,
    /// Full type name to its node without attributes of a field.
    pub by_name: HashMap<SmolStr, NodeId>,
    /// Kinds in their own group and version.
    pub kinds: HashMap<GroupVersionKind, NodeId>,
}

/// Resolves and builds everything.
pub(super) fn link(tables: &[Table<'_>]) -> Result<Types, Error> {
    let mut linker = Linker::default();
    linker.declare(tables);
    for table in tables {
        for def in &table.types {
            linker.define(table, def).map_err(|(line, reason)| Error::Table {
                table: table.name.into(),
                line,
                reason,
            })?;
        }
    }
    for id in 0..linker.arena.objects.len() {
        linker.flatten(id);
    }
    linker.arena.objects.iter_mut().for_each(finish);
    Ok(Types { arena: Arc::new(linker.arena), by_name: linker.by_name, kinds: linker.kinds })
}

#[derive(Default)]
struct Linker<'a> {
    arena: Arena,
    /// `apps/v1.Deployment` to its object and type attributes.
    objects: HashMap<(&'a str, &'a str), (ObjectId, &'a str)>,
    /// Nodes that fields share: table (empty for plain scalars), type and attributes as text.
    cache: HashMap<(&'a str, &'a str, &'a str), NodeId>,
    by_name: HashMap<SmolStr, NodeId>,
    kinds: HashMap<GroupVersionKind, NodeId>,
    flattened: Vec<bool>,
}

type Reason = (usize, String);

impl<'a> Linker<'a> {
    fn declare(&mut self, tables: &[Table<'a>]) {
        for table in tables {
            for def in &table.types {
                let id = ObjectId(self.arena.objects.len() as u32);
                let name = format_smolstr!("{}.{}", table.package, def.name);
                self.arena.objects.push(ObjectData { name, ..ObjectData::default() });
                self.objects.insert((table.name, def.name), (id, def.attrs));
            }
        }
        self.flattened = vec![false; self.arena.objects.len()];
    }

    fn define(&mut self, table: &Table<'a>, def: &TypeDef<'a>) -> Result<(), Reason> {
        let (id, _) = self.objects[&(table.name, def.name)];
        let mut object =
            ObjectData { name: self.arena.objects[id.0 as usize].name.clone(), ..ObjectData::default() };
        let node = self.node(table, def.name, "").map_err(|reason| (def.line, reason))?;
        self.by_name.insert(object.name.clone(), node);
        if matches!(def.form, Form::Kind | Form::List(_)) {
            for name in ["apiVersion", "kind"] {
                object.fields.push(self.plain_string(table, name).map_err(|reason| (def.line, reason))?);
            }
        }
        if def.form != Form::Type {
            object.kinds = kinds(table, def.name);
            for kind in &object.kinds {
                self.kinds.insert(kind.clone(), node);
            }
        }
        if let Form::List(item) = def.form {
            let items = self.list_of(table, item).map_err(|reason| (def.line, reason))?;
            let meta = self.node(table, "meta/v1.ListMeta", "").map_err(|reason| (def.line, reason))?;
            object.fields.push(always("metadata", meta, Proto { number: 1, always: true }, false));
            object.fields.push(always("items", items, Proto { number: 2, always: false }, true));
        }
        for field in &def.fields {
            self.member(table, field, &mut object).map_err(|reason| (field.line, reason))?;
        }
        let of_type = attributes::parse(def.attrs).map_err(|reason| (def.line, reason))?.own;
        object.description = of_type.description.unwrap_or_default();
        object.unions = def.unions.iter().map(|text| union(text)).collect();
        self.arena.objects[id.0 as usize] = object;
        Ok(())
    }

    fn plain_string(&mut self, table: &Table<'a>, name: &str) -> Result<FieldData, String> {
        Ok(FieldData {
            name: name.into(),
            node: self.node(table, "string", "")?,
            required: false,
            presence: Presence::OmitZero,
            proto: None,
            inlined: false,
            deprecated: false,
        })
    }

    fn list_of(&mut self, table: &Table<'a>, item: &'a str) -> Result<NodeId, String> {
        let items = self.node(table, item, "")?;
        Ok(self.push(Shape::List(items), Attrs::default()))
    }

    fn member(
        &mut self,
        table: &Table<'a>,
        def: &FieldDef<'a>,
        object: &mut ObjectData,
    ) -> Result<(), String> {
        if let Some(container) = def.kind.strip_prefix("...") {
            let (target, _) = self.resolve(table, container)?;
            let proto = Proto { number: def.number, always: true };
            object.inlines.push(InlineData { name: def.name.into(), proto, object: target });
            return Ok(());
        }
        let pointer = def.kind.starts_with('*');
        let kind = def.kind.strip_prefix('*').unwrap_or(def.kind);
        let (kind, presence) = match (kind.strip_suffix('!'), pointer) {
            (Some(kind), _) => (kind, Presence::Always),
            (None, true) => (kind, Presence::Optional),
            (None, false) => (kind, Presence::OmitZero),
        };
        let parsed = attributes::parse(def.attrs)?;
        let node = self.node(table, kind, def.attrs)?;
        let repeated = kind.starts_with("[]") || kind.starts_with("map<") || kind == "bytes";
        let proto = (def.number != 0).then_some(Proto { number: def.number, always: !pointer && !repeated });
        let (required, deprecated) = (parsed.required, parsed.deprecated);
        object.fields.push(FieldData {
            name: def.name.into(),
            node,
            required,
            presence,
            proto,
            inlined: false,
            deprecated,
        });
        Ok(())
    }

    /// The node of a type in text form with attributes in text form; equal texts give the same node.
    fn node(&mut self, table: &Table<'a>, kind: &'a str, attrs: &'a str) -> Result<NodeId, String> {
        let scope = if scalar(kind.trim_start_matches("[]")).is_some() { "" } else { table.name };
        if let Some(id) = self.cache.get(&(scope, kind, attrs)) {
            return Ok(*id);
        }
        let parsed = attributes::parse(attrs)?;
        let id = self.build(table, kind, parsed.own, Some(parsed.item))?;
        self.cache.insert((scope, kind, attrs), id);
        Ok(id)
    }

    fn build(
        &mut self,
        table: &Table<'a>,
        kind: &'a str,
        mut attrs: Attrs,
        item: Option<Attrs>,
    ) -> Result<NodeId, String> {
        let child = |this: &mut Self, kind: &'a str, item: Option<Attrs>| match item {
            Some(item) if item != Attrs::EMPTY && !kind.starts_with("[]") && !kind.starts_with("map<") => {
                this.build(table, kind, item, None)
            }
            Some(item) if item != Attrs::EMPTY => this.build(table, kind, Attrs::default(), Some(item)),
            _ => this.node(table, kind, ""),
        };
        if let Some(items) = kind.strip_prefix("wrap[]") {
            attrs.wrapped = true;
            let items = child(self, items, item)?;
            return Ok(self.push(Shape::List(items), attrs));
        }
        if let Some(items) = kind.strip_prefix("[]") {
            let items = child(self, items, item)?;
            return Ok(self.push(Shape::List(items), attrs));
        }
        if let Some(values) = kind.strip_prefix("map<").and_then(|k| k.strip_suffix('>')) {
            let values = child(self, values, item)?;
            return Ok(self.push(Shape::Map(values), attrs));
        }
        if let Some(scalar) = scalar(kind) {
            return Ok(self.push(Shape::Scalar(scalar), attrs));
        }
        if let Some(variant) = variant(kind) {
            let schema = self.node(table, "JSONSchemaProps", "")?;
            return Ok(self.push(Shape::Variant(variant, schema), attrs));
        }
        let (object, type_attrs) = self.resolve(table, kind)?;
        let of_type = attributes::parse(type_attrs)?.own;
        attrs.map_type = attrs.map_type.or(of_type.map_type);
        attrs.validations = of_type.validations;
        Ok(self.push(Shape::Object(object), attrs))
    }

    fn resolve(&self, table: &Table<'a>, name: &'a str) -> Result<(ObjectId, &'a str), String> {
        let key = name.rsplit_once('.').unwrap_or((table.name, name));
        self.objects.get(&key).copied().ok_or_else(|| format!("no type {name}"))
    }

    fn push(&mut self, shape: Shape, attrs: Attrs) -> NodeId {
        let attrs = (attrs != Attrs::EMPTY).then(|| Box::new(attrs));
        self.arena.nodes.push(NodeData { shape, attrs });
        NodeId(self.arena.nodes.len() as u32 - 1)
    }

    /// Adds the fields of inlined containers, theirs first.
    fn flatten(&mut self, id: usize) {
        if std::mem::replace(&mut self.flattened[id], true) {
            return;
        }
        for inline in self.arena.objects[id].inlines.clone() {
            let from = inline.object.0 as usize;
            self.flatten(from);
            let fields = self.arena.objects[from].fields.clone();
            let inlined = fields.into_iter().map(|f| FieldData { proto: None, inlined: true, ..f });
            self.arena.objects[id].fields.extend(inlined);
        }
    }
}

fn always(name: &str, node: NodeId, proto: Proto, required: bool) -> FieldData {
    FieldData {
        name: name.into(),
        node,
        required,
        presence: Presence::Always,
        proto: Some(proto),
        inlined: false,
        deprecated: false,
    }
}

/// The kinds that a type is known by. Those of `meta/v1` belong to the core group and to `meta.k8s.io`.
fn kinds(table: &Table<'_>, name: &str) -> Vec<GroupVersionKind> {
    match table.group {
        Some(group) => vec![GroupVersionKind::new(group, table.version, name)],
        None => [("", "v1"), ("meta.k8s.io", "v1"), ("meta.k8s.io", "v1beta1")]
            .map(|(group, version)| GroupVersionKind::new(group, version, name))
            .into(),
    }
}

fn scalar(kind: &str) -> Option<Scalar> {
    Some(match kind {
        "string" => Scalar::String,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "double" => Scalar::Number,
        "bool" => Scalar::Boolean,
        "intstr" => Scalar::IntOrString,
        "quantity" => Scalar::Quantity,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "duration" => Scalar::Duration,
        "bytes" => Scalar::Bytes,
        "raw" => Scalar::Any,
        _ => return None,
    })
}

fn variant(kind: &str) -> Option<Variant> {
    Some(match kind {
        "schema-or-list" => Variant::OrList,
        "schema-or-bool" => Variant::OrBool,
        "schema-or-strings" => Variant::OrStrings,
        _ => return None,
    })
}

fn union(text: &str) -> Union {
    let mut union = Union::default();
    for (name, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        match name {
            "discriminator" => union.discriminator = Some(value.into()),
            _ => union.fields.push((name.into(), value.into())),
        }
    }
    union
}

/// Sorts the fields by name and indexes them by number.
pub(crate) fn finish(object: &mut ObjectData) {
    object.fields.sort_by(|a, b| a.name.cmp(&b.name));
    object.fields.dedup_by(|b, a| a.name == b.name);
    let fields = object.fields.iter().enumerate().filter_map(|(i, f)| Some((f.proto?.number, i as u32)));
    let past = object.fields.len() as u32;
    let inlines = object.inlines.iter().enumerate().map(|(i, c)| (c.proto.number, past + i as u32));
    object.by_number = fields.chain(inlines).collect();
    object.by_number.sort_unstable();
}
