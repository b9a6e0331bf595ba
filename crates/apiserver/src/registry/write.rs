//! What every write shares: its context, managed fields, and the transaction.

use std::sync::Arc;
use std::time::Instant;

use base::UserInfo;
use bytes::Bytes;
use merge::{FieldManager, Set, Versions};
use parking_lot::Mutex;
use schema::{GroupVersionKind, Kind, Node, Presence, Resource, Schema, SmolStr, Value};
use store::{Durability, Entry, LeaseId, Put, Revision};

use super::riders::{Refused, Rider};
use super::{Conversions, Registry, Served, meta, stored};
use crate::admission::{AdmissionChain, Attributes, Operation};
use crate::metrics::families::{STORE_DURATION, STORE_ERRORS, STORE_REQUESTS};
use crate::status::{ApiError, ApiResult};
use crate::strategies::{Context, StatusMetadata};

pub use super::options::WriteOptions;

/// Warnings for the client, each once, in order.
#[derive(Debug, Default)]
pub struct Warnings {
    texts: Mutex<Vec<String>>,
    /// For the audit log: what admission says of the request.
    annotations: Mutex<Vec<(String, String)>>,
}

/// Warnings of one response at most, and their length together (upstream: 4 KiB of headers).
const MAX_WARNINGS: usize = 100;

impl Warnings {
    /// Adds one unless it is there already or there are too many.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.texts.lock();
        if !text.is_empty() && all.len() < MAX_WARNINGS && !all.contains(&text) {
            all.push(text);
        }
    }

    /// All so far, leaving none.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.texts.lock())
    }

    /// Adds what admission says of the request to its audit record.
    pub fn annotate(&self, annotations: impl IntoIterator<Item = (String, String)>) {
        let mut all = self.annotations.lock();
        let room = MAX_WARNINGS.saturating_sub(all.len());
        all.extend(annotations.into_iter().take(room));
    }

    /// All annotations so far, leaving none.
    pub fn take_annotations(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.annotations.lock())
    }
}

/// One write request after authorization.
pub struct WriteContext<'a> {
    /// Where objects are.
    pub registry: &'a Registry,
    /// The resource written to, in the version of the request.
    pub served: &'a Arc<Served>,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty at cluster scope.
    pub namespace: &'a str,
    /// Empty while unknown.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// The request's options.
    pub options: &'a WriteOptions,
    /// The options as admission sees them.
    pub options_value: &'a Value,
    /// Who may still change or refuse it.
    pub admission: &'a AdmissionChain,
    /// Where warnings go.
    pub warnings: &'a Warnings,
    /// Conversions that field ownership needs.
    pub conversions: Conversions,
}

/// An object after a write.
#[derive(Debug, Clone)]
pub struct Saved {
    /// In the stored version, with its resourceVersion (none after a dry run of a create).
    pub object: Value,
    /// The entry, unless nothing was stored.
    pub entry: Option<Arc<Entry>>,
}

impl<'a> WriteContext<'a> {
    /// Brings a valid object into its one stored form.
    pub fn canonicalize(&self, object: &mut Value) {
        self.served.strategy.canonicalize(object);
        if !self.served.resource.custom {
            empties_to_null(self.served.hub.schema.root(), object);
        }
    }

    /// What the kind's strategy is told.
    pub fn strategy_context<'b>(&'b self, now: &'b str) -> Context<'b> {
        Context {
            registry: self.registry,
            user: self.user,
            namespace: self.namespace,
            subresource: self.subresource,
            dry_run: self.options.dry_run,
            now,
        }
    }

    /// What admission is told. `name` may be known only by now.
    pub fn attributes<'b>(
        &'b self,
        operation: Operation,
        name: &'b str,
        object: Value,
        old_object: &'b Value,
    ) -> Attributes<'b> {
        let resource = &self.served.resource;
        let kind = match resource.subresource(self.subresource) {
            Some(subresource) if !matches!(self.subresource, "status") => subresource.kind.clone(),
            _ => resource.gvk(),
        };
        let namespace =
            if resource.group.is_empty() && resource.plural == "namespaces" { name } else { self.namespace };
        Attributes {
            operation,
            kind,
            resource: resource.gvr(),
            subresource: self.subresource,
            namespace,
            name,
            object,
            old_object,
            user: self.user,
            dry_run: self.options.dry_run,
            options: self.options_value,
            warnings: Vec::new(),
            audit_annotations: Vec::new(),
            reinvocation: crate::admission::Reinvocation::default(),
            riders: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Lets admission change or refuse. Warnings reach the client of a refused request as well.
    pub async fn admit(&self, attributes: &mut Attributes<'_>) -> ApiResult<()> {
        let outcome = self.admission.admit(attributes, self.registry).await;
        attributes.warnings.drain(..).for_each(|warning| self.warnings.add(warning));
        self.warnings.annotate(attributes.audit_annotations.drain(..));
        outcome
    }

    /// Lets admission refuse what will be stored.
    pub async fn validate_admission(&self, attributes: &mut Attributes<'_>) -> ApiResult<()> {
        let outcome = self.admission.validate(attributes, self.registry).await;
        attributes.warnings.drain(..).for_each(|warning| self.warnings.add(warning));
        self.warnings.annotate(attributes.audit_annotations.drain(..));
        outcome
    }

    /// Both for a POST to a subresource whose body is an object of its own (a binding, an eviction, a token request);
    /// the body as admission leaves it.
    pub async fn admit_body(&self, body: Value) -> ApiResult<Value> {
        let mut attributes = self.attributes(Operation::Create, self.name, body, &Value::Null);
        self.admit(&mut attributes).await?;
        self.validate_admission(&mut attributes).await?;
        Ok(std::mem::take(&mut attributes.object))
    }

    /// Records in `new` who owns what it changes of `live`; both in the version of the request.
    pub fn track_fields(&self, live: Option<&Value>, new: &mut Value, now: &str) {
        let reset = reset_fields(self.served, self.subresource);
        let schema = &self.served.resource.schema;
        let api_version = self.served.resource.api_version();
        let manager = FieldManager {
            schema,
            api_version: &api_version,
            kind: &self.served.resource.kind,
            subresource: self.subresource,
            reset_fields: &reset,
            versions: &OtherVersions {
                registry: self.registry,
                served: self.served,
                memo: &self.conversions,
            },
            now: SmolStr::new(now),
        };
        manager.update(live, new, self.options.manager());
    }

    /// The field manager for an apply.
    pub fn apply_fields(
        &self,
        live: Option<&Value>,
        applied: &Value,
        now: &str,
    ) -> Result<Value, merge::ApplyError> {
        let reset = reset_fields(self.served, self.subresource);
        let api_version = self.served.resource.api_version();
        let manager = FieldManager {
            schema: &self.served.resource.schema,
            api_version: &api_version,
            kind: &self.served.resource.kind,
            subresource: self.subresource,
            reset_fields: &reset,
            versions: &OtherVersions {
                registry: self.registry,
                served: self.served,
                memo: &self.conversions,
            },
            now: SmolStr::new(now),
        };
        manager.apply(live, applied, self.options.manager(), self.options.force)
    }

    /// Writes the entry if it is still at `revision` (zero: not there), and `riders` with it.
    pub async fn put(
        &self,
        object: &Value,
        key: &str,
        revision: Revision,
        riders: Vec<Rider>,
    ) -> ApiResult<Result<Arc<Entry>, Refused>> {
        self.put_encoded(stored::encode(object, &self.served.hub)?, key, revision, riders).await
    }

    /// [`WriteContext::put`] of an object that [`stored::encode`] has encoded.
    pub async fn put_encoded(
        &self,
        encoded: (Bytes, Arc<stored::ObjectMemo>),
        key: &str,
        revision: Revision,
        riders: Vec<Rider>,
    ) -> ApiResult<Result<Arc<Entry>, Refused>> {
        let encryption = self.registry.encryption.as_deref();
        let (bytes, memo) = stored::seal(encoded, &self.served.hub, key, encryption)?;
        let lease = match self.served.strategy.traits().ttl_s {
            Some(_) => {
                let ttl_s = self.registry.event_ttl_s;
                self.registry.leases.lease_for(&*self.registry.store, ttl_s).await?
            }
            None => LeaseId::NONE,
        };
        let put = Put::new(key, bytes).with_memo(memo).with_lease(lease);
        let since = Instant::now();
        let outcome = if riders.is_empty() {
            match self.registry.store.update_if(put, revision, self.durability()).await {
                Ok(outcome) => Ok(outcome.map_err(|_| Refused::Object)),
                Err(error) => Err(error.into()),
            }
        } else {
            super::riders::put(&*self.registry.store, put, revision, riders).await
        };
        let operation = if revision == Revision::ZERO { "create" } else { "update" };
        let labels = [self.served.hub.group.as_str(), operation, self.served.hub.plural.as_str()];
        STORE_REQUESTS.count(&labels);
        STORE_DURATION.took(&labels, since.elapsed());
        if outcome.is_err() {
            STORE_ERRORS.count(&labels);
        }
        outcome
    }

    /// Node heartbeats may reach the disk a moment later; nothing else may.
    fn durability(&self) -> Durability {
        let heartbeat =
            self.served.is("coordination.k8s.io", "leases") && self.namespace == "kube-node-lease";
        if heartbeat { Durability::Relaxed } else { Durability::Synced }
    }

    /// The resource in errors.
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(self.served.group_resource(), name)
    }
}

/// Sets the resourceVersion of an object that was just stored.
pub(super) fn saved(mut object: Value, entry: Arc<Entry>) -> Saved {
    meta::set(&mut object, "resourceVersion", entry.mod_revision.0.to_string());
    Saved { object, entry: Some(entry) }
}

/// Objects in other served versions of their kind, for managed fields.
struct OtherVersions<'a> {
    registry: &'a Registry,
    served: &'a Served,
    memo: &'a Conversions,
}

impl Versions for OtherVersions<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Schema, Value)> {
        let version = schema::GroupVersion::parse(api_version)?;
        let name = version.resource(self.served.resource.plural.clone());
        let table = self.registry.resources.load();
        let target = table.get(&name)?;
        Some((target.resource.schema.clone(), self.memo.convert(object, self.served, target)?))
    }
}

/// Fields that a write of this resource resets and so nobody comes to own by it (`GetResetFields`).
fn reset_fields(served: &Served, subresource: &str) -> Set {
    let traits = served.strategy.traits();
    match subresource {
        "status" if served.resource.custom => Set::of_fields(&["spec"]),
        "status" => {
            let mut names: Vec<&str> = match traits.status_metadata {
                StatusMetadata::Open => Vec::new(),
                StatusMetadata::OwnersKept => vec!["metadata.deletionTimestamp", "metadata.ownerReferences"],
                StatusMetadata::LabelsKept => vec!["metadata.labels"],
                StatusMetadata::Kept => vec!["metadata"],
            };
            let top = served.resource.schema.root().as_object();
            let top = top.iter().flat_map(|object| object.fields()).map(|f| f.name());
            names.extend(top.filter(|n| !matches!(*n, "status" | "metadata" | "apiVersion" | "kind")));
            Set::of_fields(&names)
        }
        _ if traits.spec_fixed => Set::of_fields(&["spec", "status"]),
        _ if traits.status => Set::of_fields(&["status"]),
        _ => Set::of_fields(&[]),
    }
}

/// Empty lists and maps of fields that are always written become null, as on upstream's way through protobuf.
pub fn empties_to_null(node: Node<'_>, value: &mut Value) {
    match (node.kind(), value) {
        (Kind::Object(object), Value::Map(map)) => {
            for (name, value) in map.iter_mut() {
                let Some(field) = object.field(name) else { continue };
                let collection = matches!(field.node().kind(), Kind::List(_) | Kind::Map(_));
                match value {
                    value if collection && field.presence() == Presence::Always && value.is_zero() => {
                        *value = Value::Null;
                    }
                    Value::Map(_) | Value::List(_) => empties_to_null(field.node(), value),
                    _ => {}
                }
            }
        }
        (Kind::List(items), Value::List(list)) => list.iter_mut().for_each(|v| empties_to_null(items, v)),
        (Kind::Map(values), Value::Map(map)) => map.iter_mut().for_each(|(_, v)| empties_to_null(values, v)),
        _ => {}
    }
}

/// The kind that a subresource takes, as group, version and kind.
pub fn kind_of(resource: &Resource, subresource: &str) -> GroupVersionKind {
    resource.subresource(subresource).map_or_else(|| resource.gvk(), |s| s.kind.clone())
}
