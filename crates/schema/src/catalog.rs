//! The built-in types and resources, read once from the tables under `api/`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use crate::arena::{Arena, NodeId};
use crate::names::{GroupVersion, GroupVersionKind, GroupVersionResource};
use crate::node::{Node, Schema};
use crate::resource::Resource;

/// Kinds that every group and version knows.
const EVERYWHERE: [&str; 7] = [
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "WatchEvent",
];
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One served group with its versions in order of preference.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name; empty for core.
    pub name: SmolStr,
    /// Served versions, preferred first.
    pub versions: Vec<SmolStr>,
}

/// Built-in kinds and resources. Immutable; custom resources live beside it, not in it.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) groups: Vec<Group>,
    pub(crate) kinds: HashMap<GroupVersionKind, Schema>,
    pub(crate) types: HashMap<SmolStr, NodeId>,
    pub(crate) arena: Arc<Arena>,
    pub(crate) by_gvr: HashMap<GroupVersionResource, usize>,
    pub(crate) by_gvk: HashMap<GroupVersionKind, usize>,
}

impl Catalog {
    /// The built-in tables, parsed at the first call.
    ///
    /// # Panics
    /// When a table is malformed; a test of this crate reads them all.
    pub fn builtin() -> &'static Catalog {
        static BUILTIN: OnceLock<Catalog> = OnceLock::new();
        BUILTIN.get_or_init(crate::tables::load)
    }

    /// A number that changes with the tables, for entity tags of documents made from them.
    pub fn fingerprint() -> u64 {
        static FINGERPRINT: OnceLock<u64> = OnceLock::new();
        *FINGERPRINT.get_or_init(|| {
            let bytes =
                crate::tables::TABLES.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
            // FNV-1a: no secret depends on it.
            bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        })
    }

    /// Served resources in discovery's order: core first, then by group, version and resource.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Served groups in discovery's order, core first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The served resource of that name.
    pub fn resource(&self, gvr: &GroupVersionResource) -> Option<&Arc<Resource>> {
        self.by_gvr.get(gvr).map(|i| &self.resources[*i])
    }

    /// The served resource of that kind; kinds that are only subresources (`Scale`, `Eviction`) have none.
    pub fn resource_of_kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<Resource>> {
        self.by_gvk.get(gvk).map(|i| &self.resources[*i])
    }

    /// The served resources of one group and version, in discovery's order.
    pub fn resources_in(&self, gv: &GroupVersion) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter().filter(move |r| r.group == gv.group && r.version == gv.version)
    }

    /// The type of any known kind, served or not: `PodList`, `Scale`, `DeleteOptions`, `Status`, old versions.
    ///
    /// Request options and `WatchEvent` are known in every group and version.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&Schema> {
        self.kinds.get(gvk).or_else(|| {
            let everywhere = EVERYWHERE.contains(&gvk.kind.as_str());
            everywhere.then(|| self.kinds.get(&GroupVersionKind::new("", "v1", gvk.kind.clone())))?
        })
    }

    /// The type of that full name, e.g. `io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta`.
    pub fn type_named(&self, name: &str) -> Option<Schema> {
        self.types.get(name).map(|id| Schema { arena: self.arena.clone(), root: *id, openapi: None })
    }

    /// All types by full name, in no order.
    pub fn types(&self) -> impl Iterator<Item = (&SmolStr, Node<'_>)> {
        self.types.iter().map(|(name, id)| (name, Node { arena: &self.arena, id: *id }))
    }

    /// `metav1.ObjectMeta`.
    pub fn object_meta(&self) -> Schema {
        self.type_named(OBJECT_META).unwrap_or_else(Schema::any)
    }

    /// All known kinds, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = (&GroupVersionKind, &Schema)> {
        self.kinds.iter()
    }
}
