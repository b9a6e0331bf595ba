//! The `resource` lines of the tables into [`Resource`]s and the finished [`Catalog`].

use std::collections::HashMap;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::link::Types;
use super::parse::{Form, ResourceDef, Table, word};
use crate::arena::NodeId;
use crate::catalog::{Catalog, Group};
use crate::error::Error;
use crate::names::{GroupVersion, GroupVersionKind};
use crate::node::{Kind, Schema};
use crate::resource::{Column, Resource, SelectableField, Storage, Subresource};

const ALL_VERBS: &str = "create,delete,deletecollection,get,list,patch,update,watch";
const NAME_COLUMN: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_COLUMN: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl Column {
    /// The column of the object's name, as every Table begins.
    pub fn name() -> Self {
        Self {
            name: "Name".into(),
            data_type: "string".into(),
            format: "name".into(),
            description: NAME_COLUMN.into(),
            ..Self::default()
        }
    }

    /// The column of the time since creation.
    pub fn age() -> Self {
        Self {
            name: "Age".into(),
            data_type: "string".into(),
            description: AGE_COLUMN.into(),
            ..Self::default()
        }
    }

    /// The column of the creation time, for kinds without columns of their own.
    pub fn created_at() -> Self {
        Self { name: "Created At".into(), data_type: "date".into(), ..Self::age() }
    }
}

/// Builds the catalog; `types` must come from the same tables.
pub(super) fn catalog(tables: &[Table<'_>], types: Types) -> Result<Catalog, Error> {
    let mut catalog = Catalog { arena: types.arena, types: types.by_name, ..Catalog::default() };
    catalog.kinds = types.kinds.into_iter().map(|(kind, id)| (kind, catalog.schema(id))).collect();
    for table in tables {
        let lists: HashMap<&str, &str> = table
            .types
            .iter()
            .filter_map(|t| if let Form::List(item) = t.form { Some((item, t.name)) } else { None })
            .collect();
        for def in &table.resources {
            let resource = resource(&catalog, table, &lists, def).map_err(|(line, reason)| Error::Table {
                table: table.name.into(),
                line,
                reason,
            })?;
            catalog.add(resource);
        }
    }
    Ok(catalog)
}

impl Catalog {
    pub(super) fn schema(&self, root: NodeId) -> Schema {
        Schema { arena: self.arena.clone(), root, openapi: None }
    }

    fn add(&mut self, resource: Resource) {
        match self.groups.iter_mut().find(|g| g.name == resource.group) {
            None => self
                .groups
                .push(Group { name: resource.group.clone(), versions: vec![resource.version.clone()] }),
            Some(group) if !group.versions.contains(&resource.version) => {
                group.versions.push(resource.version.clone());
            }
            Some(_) => {}
        }
        let at = self.resources.len();
        self.by_gvr.insert(resource.gvr(), at);
        self.by_gvk.entry(resource.gvk()).or_insert(at);
        self.resources.push(Arc::new(resource));
    }
}

fn resource(
    catalog: &Catalog,
    table: &Table<'_>,
    lists: &HashMap<&str, &str>,
    def: &ResourceDef<'_>,
) -> Result<Resource, (usize, String)> {
    let words: Vec<&str> = def.text.split_whitespace().collect();
    let [plural, singular, kind, scope, verbs, options @ ..] = words.as_slice() else {
        return Err((def.line, "resource needs plural, singular, kind, scope and verbs".to_owned()));
    };
    let group = table.group.unwrap_or_default();
    let own = GroupVersion::new(group, table.version);
    let mut resource = Resource {
        group: group.into(),
        version: table.version.into(),
        plural: (*plural).into(),
        singular: (*singular).into(),
        kind: (*kind).into(),
        list_kind: lists.get(kind).copied().unwrap_or_default().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: *scope == "namespaced",
        verbs: split(if *verbs == "*" { ALL_VERBS } else { verbs }),
        subresources: Vec::new(),
        schema: find(catalog, &own.kind(*kind)).map_err(|reason| (def.line, reason))?,
        columns: Vec::new(),
        selectable_fields: Vec::new(),
        storage: Storage { prefix: format_smolstr!("/registry/{plural}"), version: own.clone() },
        custom: false,
    };
    for option in options {
        match option.split_once('=') {
            Some(("short", names)) => resource.short_names = split(names),
            Some(("categories", names)) => resource.categories = split(names),
            _ => return Err((def.line, format!("no resource option {option}"))),
        }
    }
    for (line, first, rest) in &def.details {
        detail(catalog, &own, &mut resource, first, rest).map_err(|reason| (*line, reason))?;
    }
    Ok(resource)
}

fn detail(
    catalog: &Catalog,
    own: &GroupVersion,
    resource: &mut Resource,
    first: &str,
    rest: &str,
) -> Result<(), String> {
    match first {
        "store" => {
            let (path, version) = word(rest);
            resource.storage.prefix = format_smolstr!("/registry/{path}");
            if !version.is_empty() {
                resource.storage.version =
                    GroupVersion::parse(version).ok_or_else(|| format!("no version {version}"))?;
            }
        }
        "sub" => {
            let (name, rest) = word(rest);
            let (kind, verbs) = word(rest);
            let kind = match kind.rsplit_once('.') {
                Some((gv, kind)) => {
                    GroupVersion::parse(gv).ok_or_else(|| format!("no version {gv}"))?.kind(kind)
                }
                None => own.kind(kind),
            };
            let schema = find(catalog, &kind)?;
            resource.subresources.push(Subresource { name: name.into(), kind, verbs: split(verbs), schema });
        }
        "column" => resource.columns.push(column(rest)?),
        "select" => {
            let (label, paths) = word(rest);
            let paths = if paths.is_empty() { label } else { paths };
            let paths: Vec<Vec<SmolStr>> =
                paths.split_whitespace().map(|path| path.split('.').map(SmolStr::new).collect()).collect();
            let zeros: Vec<_> =
                paths.iter().map(|path| zero_text(&resource.schema, path)).collect::<Result<_, _>>()?;
            let absent = SmolStr::new_static(zeros.first().copied().unwrap_or_default());
            resource.selectable_fields.push(SelectableField { label: label.into(), paths, absent });
        }
        _ => return Err(format!("no resource detail {first}")),
    }
    Ok(())
}

/// The zero value of the field at `path` as Go prints it, which is how upstream's `ToSelectableFields` sees an absent one.
fn zero_text(schema: &Schema, path: &[SmolStr]) -> Result<&'static str, String> {
    let node = path.iter().try_fold(schema.root(), |node, name| Some(node.field(name)?.node()));
    match node.ok_or_else(|| format!("no field {}", path.join(".")))?.kind() {
        Kind::Boolean => Ok("false"),
        Kind::Int32 | Kind::Int64 => Ok("0"),
        _ => Ok(""),
    }
}

/// `name`, `age`, or `type[:format][+priority] Heading | description`.
fn column(text: &str) -> Result<Column, String> {
    match text {
        "name" => return Ok(Column::name()),
        "age" => return Ok(Column::age()),
        _ => {}
    }
    let (head, description) =
        text.split_once(" |").map_or((text, ""), |(head, rest)| (head, rest.trim_start()));
    let (kind, name) = word(head);
    let (kind, priority) = match kind.split_once('+') {
        Some((kind, priority)) => (kind, priority.parse().map_err(|_| format!("no priority {priority}"))?),
        None => (kind, 0),
    };
    let (data_type, format) = kind.split_once(':').unwrap_or((kind, ""));
    Ok(Column {
        name: name.into(),
        data_type: data_type.into(),
        format: format.into(),
        description: description.into(),
        priority,
        json_path: SmolStr::default(),
    })
}

fn find(catalog: &Catalog, kind: &GroupVersionKind) -> Result<Schema, String> {
    catalog.kind(kind).cloned().ok_or_else(|| format!("no kind {kind}"))
}

fn split(text: &str) -> Vec<SmolStr> {
    text.split(',').filter(|s| !s.is_empty()).map(SmolStr::new).collect()
}
