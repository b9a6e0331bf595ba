//! A resource as it is served: schema, strategy, conversion to the stored version.

use std::collections::HashMap;
use std::sync::Arc;

use schema::{Catalog, GroupVersion, GroupVersionResource, Resource, SmolStr};

use super::convert::{Converter, conversion_for};
use crate::status::GroupResource;
use crate::strategies::{SharedStrategy, strategy_for};

/// One resource in one version.
pub struct Served {
    /// Names, verbs, schema.
    pub resource: Arc<Resource>,
    /// The same resource in the version that is stored, which is this one for most.
    pub hub: Arc<Resource>,
    /// Between `resource` and `hub`; `None` when fields are the same.
    pub conversion: Option<Converter>,
    /// The kind's own rules.
    pub strategy: SharedStrategy,
    /// Deprecation warning for every use; empty for none.
    pub deprecation: String,
    /// Facts of a custom resource's definition.
    pub custom: Option<Arc<crate::crd::CustomFacts>>,
}

impl Served {
    /// A built-in resource; `hub` is the same in the stored version.
    pub fn builtin(resource: Arc<Resource>, hub: Arc<Resource>) -> Self {
        let conversion = conversion_for(&resource, &hub);
        let strategy = strategy_for(&resource, &hub);
        let deprecation = deprecation(&resource);
        Self { resource, hub, conversion, strategy, deprecation, custom: None }
    }

    /// In errors.
    pub fn group_resource(&self) -> GroupResource<'_> {
        GroupResource::new(&self.resource.group, &self.resource.plural)
    }

    /// Where an object is stored.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        self.hub.key(namespace, name)
    }

    /// Where all objects are stored, or those of a namespace.
    pub fn key_prefix(&self, namespace: Option<&str>) -> String {
        self.hub.key_prefix(namespace.filter(|n| !n.is_empty()))
    }

    /// True for this group and plural name, in any version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }
}

/// Resources whose use draws a warning (`APILifecycleDeprecated` upstream).
fn deprecation(resource: &Resource) -> String {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "endpoints") => {
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()
        }
        ("", "componentstatuses") => "v1 ComponentStatus is deprecated in v1.19+".to_owned(),
        _ => String::new(),
    }
}

/// Everything that is served, in discovery's order.
#[derive(Default)]
pub struct ResourceTable {
    all: Vec<Arc<Served>>,
    by_name: HashMap<GroupVersionResource, usize>,
    by_storage: HashMap<(SmolStr, SmolStr), usize>,
}

impl ResourceTable {
    /// From a list in discovery's order.
    pub fn new(all: Vec<Arc<Served>>) -> Self {
        let mut table = Self { by_name: HashMap::new(), by_storage: HashMap::new(), all };
        for (at, served) in table.all.iter().enumerate() {
            table.by_name.insert(served.resource.gvr(), at);
            let id = (served.resource.group.clone(), served.resource.plural.clone());
            if served.hub.version == served.resource.version && served.hub.group == served.resource.group {
                table.by_storage.insert(id, at);
            } else {
                table.by_storage.entry(id).or_insert(at);
            }
        }
        table
    }

    /// The built-in resources.
    pub fn builtin(catalog: &Catalog) -> Self {
        Self::new(
            catalog
                .resources()
                .iter()
                .map(|r| Arc::new(Served::builtin(r.clone(), hub_of(catalog, r))))
                .collect(),
        )
    }

    /// The built-in ones of this table, with `custom` after them.
    pub fn with_custom(&self, custom: Vec<Arc<Served>>) -> Self {
        let builtin = self.all.iter().filter(|s| s.custom.is_none()).cloned();
        Self::new(builtin.chain(custom).collect())
    }

    /// By exact name.
    pub fn get(&self, name: &GroupVersionResource) -> Option<&Arc<Served>> {
        self.by_name.get(name).map(|at| &self.all[*at])
    }

    /// By group and plural name, in the version that is stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Served>> {
        self.by_storage.get(&(group.into(), plural.into())).map(|at| &self.all[*at])
    }

    /// All, in discovery's order.
    pub fn all(&self) -> &[Arc<Served>] {
        &self.all
    }

    /// Whether any resource is served in that group and version.
    pub fn has_version(&self, version: &GroupVersion) -> bool {
        self.all.iter().any(|s| s.resource.group == version.group && s.resource.version == version.version)
    }

    /// Whether any resource is served in that group.
    pub fn has_group(&self, group: &str) -> bool {
        self.all.iter().any(|s| s.resource.group == group)
    }
}

/// The same resource in the version that is stored.
fn hub_of(catalog: &Catalog, resource: &Arc<Resource>) -> Arc<Resource> {
    let version = &resource.storage.version;
    if *version == resource.group_version() {
        return resource.clone();
    }
    catalog.resource(&version.resource(resource.plural.clone())).unwrap_or(resource).clone()
}
