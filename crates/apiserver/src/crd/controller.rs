//! Watches definitions, gives them their status, and serves what they define.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::TaskScope;
use schema::Value;
use store::Revision;

use super::names::{condition, is_true, set_condition, status_of};
use super::resource::served_by;
use super::{CLEANUP_FINALIZER, CustomFacts, GROUP, PLURAL};
use crate::Error;
use crate::core::Core;
use crate::registry::options::DeleteOptions;
use crate::registry::stored::memo;
use crate::registry::{Registry, Served, meta};
use crate::status::{ApiError, ApiResult};

/// Objects of a definition that are deleted before others get a turn.
const CLEANUP_BATCH: usize = 500;

/// Serves the definitions that are stored, then follows their changes in a task of `scope`.
pub(crate) async fn run(core: &Arc<Core>, scope: &TaskScope) -> Result<(), Error> {
    let bootstrap = |source| Error::Bootstrap { what: PLURAL.to_owned(), source };
    let registry = &core.registry;
    let definitions =
        registry.stored_resource(GROUP, PLURAL).ok_or_else(|| bootstrap(ApiError::unknown_resource()))?;
    let webhooks = core.webhooks.clone();
    let mut known = Definitions {
        definitions,
        webhooks,
        all: BTreeMap::new(),
        read_at: BTreeMap::new(),
        served: BTreeMap::new(),
    };
    known.reload(registry).map_err(bootstrap)?;
    known.publish(registry);
    let core = core.clone();
    scope.spawn(async move {
        let registry = &core.registry;
        let mut follower = registry.follow(&known.definitions);
        while follower.next().await.is_some() {
            follower.skip_known();
            known.reconcile_all(registry).await;
        }
    });
    Ok(())
}

struct Definitions {
    definitions: Arc<Served>,
    webhooks: Arc<crate::webhook::WebhookClient>,
    /// By name.
    all: BTreeMap<String, Value>,
    /// The revision that each was read at.
    read_at: BTreeMap<String, Revision>,
    /// What each definition serves.
    served: BTreeMap<String, Made>,
}

/// What a definition serves, and of what state of it that was made.
struct Made {
    /// The definition's resourceVersion.
    seen: String,
    /// See [`made_of`].
    of: Value,
    deleting: bool,
    /// Empty until it is established.
    served: Vec<Arc<Served>>,
}

impl Definitions {
    /// Reads the definitions that changed since they were read.
    fn reload(&mut self, registry: &Registry) -> ApiResult<()> {
        let mut read_at = BTreeMap::new();
        for entry in registry.entries(&self.definitions, None)? {
            let key = String::from_utf8_lossy(&entry.key);
            let name = key.rsplit('/').next().unwrap_or_default().to_owned();
            if self.read_at.get(&name) != Some(&entry.mod_revision) {
                self.all.insert(name.clone(), memo(&entry).decode(&entry)?);
            }
            read_at.insert(name, entry.mod_revision);
        }
        self.all.retain(|name, _| read_at.contains_key(name));
        self.read_at = read_at;
        Ok(())
    }

    async fn reconcile_all(&mut self, registry: &Registry) {
        if let Err(error) = self.reload(registry) {
            return tracing::error!(%error, "read custom resource definitions");
        }
        self.publish(registry);
        let (going, staying): (Vec<_>, Vec<_>) = self.all.iter().partition(|(_, d)| meta::is_deleting(d));
        let names: Vec<String> = going.into_iter().chain(staying).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Err(error) = self.reconcile(registry, &name).await {
                tracing::warn!(definition = name, %error, "reconcile a custom resource definition");
            }
        }
        self.publish(registry);
    }

    /// Brings one definition on: its status, or its end.
    async fn reconcile(&mut self, registry: &Registry, name: &str) -> ApiResult<()> {
        let Some(definition) = self.all.get(name) else { return Ok(()) };
        if meta::is_deleting(definition) {
            return self.clean_up(registry, name).await;
        }
        let group = definition["spec"]["group"].clone();
        let others: Vec<&Value> = self.all.values().filter(|d| d["spec"]["group"] == group).collect();
        let status = status_of(definition, &others, &registry.now());
        if status == definition["status"] {
            return Ok(());
        }
        let saved = self.write_status(registry, name, status).await?;
        self.all.insert(name.to_owned(), saved);
        Ok(())
    }

    async fn write_status(&self, registry: &Registry, name: &str, status: Value) -> ApiResult<Value> {
        let transform = |live: Option<&Value>| {
            let mut object =
                live.cloned().ok_or_else(|| ApiError::not_found(self.definitions.group_resource(), name))?;
            object.insert("status", status.clone());
            Ok(object)
        };
        Ok(registry.own().update(&self.definitions, "status", ("", name), &transform).await?.object)
    }

    /// Deletes the objects of a definition that is being deleted, then lets it go.
    async fn clean_up(&mut self, registry: &Registry, name: &str) -> ApiResult<()> {
        let Some(definition) = self.all.get(name).cloned() else { return Ok(()) };
        if !meta::finalizers(&definition).any(|f| f == CLEANUP_FINALIZER) {
            return Ok(());
        }
        if is_true(&definition["status"], "Established") {
            self.delete_objects(registry, &definition).await?;
        }
        let transform = |live: Option<&Value>| {
            let mut object =
                live.cloned().ok_or_else(|| ApiError::not_found(self.definitions.group_resource(), name))?;
            let rest: Vec<String> =
                meta::finalizers(&object).filter(|f| *f != CLEANUP_FINALIZER).map(str::to_owned).collect();
            meta::set(&mut object, "finalizers", rest);
            Ok(object)
        };
        registry.own().update(&self.definitions, "", ("", name), &transform).await?;
        if registry.entry(&self.definitions, "", name)?.is_none() {
            self.all.remove(name);
        }
        Ok(())
    }

    async fn delete_objects(&self, registry: &Registry, definition: &Value) -> ApiResult<()> {
        let served = match self.served.get(meta::name(definition)).and_then(|made| made.served.first()) {
            Some(served) => served.clone(),
            None => match served_by(definition, &self.webhooks).into_iter().next() {
                Some(served) => served,
                None => return Ok(()),
            },
        };
        let mut left = registry.entries(&served, None)?;
        while !left.is_empty() {
            for entry in left.drain(..left.len().min(CLEANUP_BATCH)) {
                let object = memo(&entry).decode(&entry)?;
                let id = (meta::namespace(&object), meta::name(&object));
                match registry.own().delete(&served, id, &DeleteOptions::default()).await {
                    Ok(_) => {}
                    Err(error) if error.code == 404 => {}
                    Err(error) => return Err(error),
                }
            }
            tokio::task::yield_now().await;
        }
        let held = registry.entries(&served, None)?.len();
        if held > 0 {
            return self.say_waiting(registry, definition, held).await;
        }
        Ok(())
    }

    /// Objects with finalizers hold the definition: said in its condition; it is tried again at its next change.
    async fn say_waiting(&self, registry: &Registry, definition: &Value, held: usize) -> ApiResult<()> {
        let mut status = definition["status"].clone();
        let words = format!("CustomResource deletion is in progress: {held} objects have finalizers");
        let now = registry.now();
        set_condition(
            &mut status,
            condition("Terminating", "True", "InstanceDeletionInProgress", &words, &now),
        );
        if status != definition["status"] {
            self.write_status(registry, meta::name(definition), status).await?;
        }
        Err(ApiError::conflict(self.definitions.group_resource(), meta::name(definition), words))
    }

    /// Serves what is established.
    fn publish(&mut self, registry: &Registry) {
        let mut changed = false;
        self.served.retain(|name, _| {
            let keep = self.all.contains_key(name);
            changed |= !keep;
            keep
        });
        for (name, definition) in &self.all {
            let seen = definition.str_at("metadata.resourceVersion").unwrap_or_default();
            let before = self.served.get(name);
            if before.is_some_and(|made| made.seen == seen) {
                continue;
            }
            let (of, deleting) = (made_of(definition), meta::is_deleting(definition));
            let same = before.is_some_and(|made| made.of == of);
            let served = match before {
                Some(made) if same && made.deleting == deleting => made.served.clone(),
                Some(made) if same && deleting => {
                    made.served.iter().map(|s| Arc::new(terminating(s))).collect()
                }
                _ if is_true(&definition["status"], "Established") => served_by(definition, &self.webhooks),
                _ => Vec::new(),
            };
            let unchanged = before.is_some_and(|made| same && made.deleting == deleting);
            changed |= !unchanged && (!served.is_empty() || before.is_some());
            self.served.insert(name.clone(), Made { seen: seen.to_owned(), of, deleting, served });
        }
        if !changed {
            return;
        }
        let custom = self.served.values().flat_map(|made| made.served.iter().cloned()).collect();
        let table = registry.resources.load().with_custom(custom);
        registry.set_resources(table);
    }
}

/// What of a definition decides what it serves.
fn made_of(definition: &Value) -> Value {
    let status = &definition["status"];
    schema::value!({
        "spec": (definition["spec"].clone()), "names": (status["acceptedNames"].clone()),
        "established": (is_true(status, "Established"))
    })
}

/// The same resource, of which nothing new is created any more.
fn terminating(served: &Served) -> Served {
    let facts = served.custom.as_deref().cloned().unwrap_or_default();
    Served {
        resource: served.resource.clone(),
        hub: served.hub.clone(),
        conversion: served.conversion.clone(),
        strategy: served.strategy.clone(),
        deprecation: served.deprecation.clone(),
        custom: Some(Arc::new(CustomFacts { terminating: true, ..facts })),
    }
}
