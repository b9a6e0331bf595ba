//! The documents of discovery, made anew when the resources change.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use schema::Value;

use super::{aggregated, legacy};
use crate::registry::{Registry, ResourceTable};

/// Serves documents by path.
#[derive(Default)]
pub struct Documents(ArcSwapOption<Made>);

struct Made {
    of: Arc<ResourceTable>,
    by_path: HashMap<String, Bytes>,
    core: Bytes,
    groups: Bytes,
}

impl Documents {
    /// The plain document at `/apis`, `/apis/GROUP`, `/apis/GROUP/VERSION` or `/api/v1`.
    pub fn plain(&self, registry: &Registry, path: &str) -> Option<Bytes> {
        self.current(registry).by_path.get(path).cloned()
    }

    /// The aggregated document of `/api` (`core`) or `/apis`.
    pub fn aggregated(&self, registry: &Registry, core: bool) -> Bytes {
        let made = self.current(registry);
        if core { made.core.clone() } else { made.groups.clone() }
    }

    fn current(&self, registry: &Registry) -> Arc<Made> {
        let table = registry.resources.load_full();
        if let Some(made) = self.0.load_full().filter(|made| Arc::ptr_eq(&made.of, &table)) {
            return made;
        }
        let made = Arc::new(Made::new(table));
        self.0.store(Some(made.clone()));
        made
    }
}

impl Made {
    fn new(of: Arc<ResourceTable>) -> Self {
        let mut by_path: HashMap<String, Bytes> = HashMap::new();
        let groups = legacy::groups(&of);
        for group in &groups {
            by_path.insert(format!("/apis/{}", group.name), json(&legacy::api_group(group)));
            for version in &group.versions {
                let path = format!("/apis/{}/{version}", group.name);
                by_path.insert(path, json(&legacy::resources(&of, &group.name, version)));
            }
        }
        by_path.insert("/apis".to_owned(), json(&legacy::group_list(&groups)));
        by_path.insert("/api/v1".to_owned(), json(&legacy::resources(&of, "", "v1")));
        let core = json(&aggregated::core(&of));
        let groups = json(&aggregated::groups(&of, &groups));
        Self { by_path, core, groups, of }
    }
}

fn json(value: &Value) -> Bytes {
    let mut out = codec::json::encode(value);
    out.push(b'\n');
    out.into()
}
