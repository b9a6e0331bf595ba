//! Changing an object: by PUT, by a patch, or by apply.

use merge::keep_times_if_unchanged;
use rules::{FieldError, Path};
use schema::Value;
use store::Revision;

use super::riders::{Refused, Rider};
use super::write::{Saved, WriteContext, saved};
use super::{meta, metadata_rules, stored};
use crate::admission::Operation;
use crate::status::{ApiError, ApiResult};
use crate::strategies::{Generation, StatusMetadata};

/// How often a change that meets another one is tried on the newer object.
const CONFLICT_ATTEMPTS: usize = 100;

/// How often a change is made anew since its field owners wanted other versions; merging asks in two steps.
const CONVERSION_ROUNDS: usize = 4;

/// Makes the new object out of the one that is there (`None`: none is), both in the version of the request.
pub type Transform<'a> = dyn Fn(Option<&Value>) -> ApiResult<Value> + Send + Sync + 'a;

/// A change.
pub struct Update<'a> {
    /// How.
    pub transform: &'a Transform<'a>,
    /// The transform keeps managed fields itself (apply).
    pub fields_tracked: bool,
    /// Create the object if it is not there, whatever the kind says (apply).
    pub force_create: bool,
}

/// What a change came to.
pub struct Updated {
    /// The object.
    pub saved: Saved,
    /// It was not there before.
    pub created: bool,
}

enum Attempt {
    Done(Updated),
    Again,
}

impl WriteContext<'_> {
    /// Changes the object `self.name`.
    pub async fn update(&self, update: &Update<'_>) -> ApiResult<Updated> {
        for _ in 0..CONFLICT_ATTEMPTS {
            match self.attempt(update).await? {
                Attempt::Done(updated) => return Ok(updated),
                Attempt::Again => tracing::debug!(name = self.name, "object changed meanwhile, trying again"),
            }
        }
        Err(ApiError::modified(self.served.group_resource(), self.name))
    }

    async fn attempt(&self, update: &Update<'_>) -> ApiResult<Attempt> {
        let now = self.registry.now();
        let key = self.served.key(self.namespace, self.name);
        let Some(entry) = self.registry.store.get(key.as_bytes())? else {
            return self.create_instead(update, &now).await;
        };
        let old = self.served.bring_to_hub(stored::memo(&entry).decode(&entry)?).await?;
        let live = self.served.convert_from_hub(old.clone()).await?;
        let new = self.changed(update, &live, &now).await?;
        let new = self.served.convert_to_hub(new).await?;
        let new = self.admit_update(new, &old).await?;
        let unconditional = self.check_version(&new, &old)?;
        let mut new = new;
        if unconditional {
            meta::copy(&mut new, &old, "resourceVersion");
        }
        let context = self.strategy_context(&now);
        let finish = self.served.strategy.begin_update(&context, &mut new, &old)?;
        let outcome = self.store_change(new, &old, &entry, &now).await;
        if let Some(finish) = finish {
            finish(matches!(outcome, Ok(Attempt::Done(_))) && !self.options.dry_run);
        }
        outcome
    }

    /// The changed object with its owners. What field ownership wants converted by a webhook becomes known by asking
    /// for it in vain, so that the change is made once more.
    async fn changed(&self, update: &Update<'_>, live: &Value, now: &str) -> ApiResult<Value> {
        let once = || {
            let mut new = (update.transform)(Some(live))?;
            metadata_rules::match_namespace(self.served, self.namespace, &mut new)?;
            metadata_rules::dedup_owners(&mut new, self.warnings);
            if !update.fields_tracked {
                self.track_fields(Some(live), &mut new, now);
            }
            Ok(new)
        };
        for _ in 0..CONVERSION_ROUNDS {
            let outcome = once();
            if !self.conversions.fetch().await {
                return outcome;
            }
        }
        once()
    }

    async fn create_instead(&self, update: &Update<'_>, now: &str) -> ApiResult<Attempt> {
        let allowed = update.force_create || self.served.strategy.traits().allow_create_on_update;
        if !allowed || !self.subresource.is_empty() {
            return Err(self.not_found(self.name));
        }
        let mut object = (update.transform)(None)?;
        if !meta::resource_version(&object).is_empty() && !update.force_create {
            return Err(self.not_found(self.name));
        }
        if !meta::uid(&object).is_empty() {
            return Err(ApiError::conflict(
                self.served.group_resource(),
                self.name,
                format!(
                    "Precondition failed: UID in precondition: {}, UID in object meta: ",
                    meta::uid(&object)
                ),
            ));
        }
        let saved = if update.fields_tracked {
            for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
                meta::remove(&mut object, field);
            }
            metadata_rules::match_namespace(self.served, self.namespace, &mut object)?;
            self.create_tracked(object, now).await
        } else {
            self.create(object).await
        };
        match saved {
            // Somebody was quicker: change theirs.
            Err(error) if error.reason == "AlreadyExists" => Ok(Attempt::Again),
            saved => Ok(Attempt::Done(Updated { saved: saved?, created: true })),
        }
    }

    async fn admit_update(&self, new: Value, old: &Value) -> ApiResult<Value> {
        let mut attributes = self.attributes(Operation::Update, self.name, new, old);
        self.admit(&mut attributes).await?;
        Ok(std::mem::take(&mut attributes.object))
    }

    /// Checks uid and resourceVersion; true when the change is unconditional.
    fn check_version(&self, new: &Value, old: &Value) -> ApiResult<bool> {
        let resource = self.served.group_resource();
        let (given, there) = (meta::uid(new), meta::uid(old));
        if !given.is_empty() && given != there {
            return Err(ApiError::conflict(
                resource,
                self.name,
                format!("Precondition failed: UID in precondition: {given}, UID in object meta: {there}"),
            ));
        }
        let version = meta::resource_version(new);
        if version.is_empty() || version == "0" {
            if self.served.strategy.traits().allow_unconditional_update {
                return Ok(true);
            }
            // Upstream names the resource here where it names the kind elsewhere.
            let path = Path::new("metadata.resourceVersion");
            let shown = rules::BadValue::raw("0");
            let error = FieldError::invalid(&path, shown, "must be specified for an update");
            return Err(ApiError::invalid(resource.group, resource.resource, self.name, &[error]));
        }
        let parsed = version.parse::<u64>().map_err(|_| {
            let kind = &self.served.resource;
            let path = Path::new("metadata.resourceVersion");
            let error = FieldError::invalid(
                &path,
                version,
                format!("strconv.ParseUint: parsing {}: invalid syntax", rules::quote(version)),
            );
            ApiError::invalid(&kind.group, &kind.kind, self.name, &[error])
        })?;
        if parsed.to_string() != meta::resource_version(old) {
            return Err(ApiError::modified(resource, self.name));
        }
        Ok(false)
    }

    async fn store_change(
        &self,
        mut new: Value,
        old: &Value,
        entry: &store::Entry,
        now: &str,
    ) -> ApiResult<Attempt> {
        let strategy = &self.served.strategy;
        let context = self.strategy_context(now);
        self.prepare_changed(&mut new, old);
        strategy.prepare_for_update(&context, &mut new, old);
        self.bump_generation(&mut new, old);
        let mut errors = metadata_rules::validate_change(self.served, &new, old);
        errors.extend(strategy.validate_update(&context, &new, old));
        if !errors.is_empty() {
            rules::show_values(&mut errors, self.served.hub.schema.root());
            let kind = &self.served.hub;
            return Err(ApiError::invalid(&kind.group, &kind.kind, self.name, &errors));
        }
        for warning in strategy.warnings_on_update(&context, &new, old) {
            self.warnings.add(warning);
        }
        self.canonicalize(&mut new);
        let mut attributes = self.attributes(Operation::Update, self.name, new, old);
        self.validate_admission(&mut attributes).await?;
        self.admission.charge(&mut attributes, self.registry).await?;
        let mut riders = std::mem::take(&mut attributes.riders);
        let new = std::mem::take(&mut attributes.object);
        if !self.options.dry_run {
            riders.extend(strategy.riders(&context, Some(&new), Some(old))?);
        }
        let outcome = self.replace(new, old, entry, riders).await;
        let done = matches!(outcome, Ok(Attempt::Done(_))) && !self.options.dry_run;
        self.admission.finished(&attributes, done).await;
        outcome
    }

    async fn replace(
        &self,
        mut new: Value,
        old: &Value,
        entry: &store::Entry,
        riders: Vec<Rider>,
    ) -> ApiResult<Attempt> {
        let done = |saved| Ok(Attempt::Done(Updated { saved, created: false }));
        keep_times_if_unchanged(old, &mut new);
        let encoded = stored::encode(&new, &self.served.hub)?;
        let encryption = self.registry.encryption.as_deref();
        let is_stale = encryption.is_some_and(|e| e.is_stale(&self.served.hub, &entry.value));
        if !is_stale && *stored::memo(entry).bytes(entry) == *encoded.0 {
            meta::copy(&mut new, old, "resourceVersion");
            return done(Saved {
                object: new,
                entry: self
                    .registry
                    .store
                    .get(entry.key.as_bytes())?
                    .filter(|e| e.mod_revision == entry.mod_revision),
            });
        }
        if self.options.dry_run {
            return done(Saved { object: new, entry: None });
        }
        if self.served.strategy.is_finished(&new) {
            return match self.delete_entry(entry, old).await? {
                Ok(revision) => {
                    let now = self.registry.now();
                    self.served.strategy.after_delete(&self.strategy_context(&now), &new);
                    meta::set(&mut new, "resourceVersion", revision.0.to_string());
                    done(Saved { object: new, entry: None })
                }
                Err(_) => Ok(Attempt::Again),
            };
        }
        let key = self.served.key(self.namespace, self.name);
        match self.put_encoded(encoded, &key, entry.mod_revision, riders).await? {
            Ok(entry) => done(saved(new, entry)),
            Err(_) => Ok(Attempt::Again),
        }
    }

    /// Deletes the entry with all that is stored with it; `object` is what it holds.
    pub(super) async fn delete_entry(
        &self,
        entry: &store::Entry,
        object: &Value,
    ) -> ApiResult<Result<Revision, Refused>> {
        let now = self.registry.now();
        let riders = self.served.strategy.riders(&self.strategy_context(&now), None, Some(object))?;
        super::riders::delete(&*self.registry.store, entry, riders).await
    }

    /// Puts back what this request may not change.
    fn prepare_changed(&self, new: &mut Value, old: &Value) {
        if meta::uid(new).is_empty() {
            meta::copy(new, old, "uid");
        }
        for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            meta::copy(new, old, field);
        }
        meta::remove(new, "selfLink");
        match self.subresource {
            "" if self.served.strategy.traits().status => restore(new, old, "status"),
            "status" => {
                let kept: Vec<_> = old.entries().iter().map(|(k, _)| k.clone()).collect();
                let given: Vec<_> = new.entries().iter().map(|(k, _)| k.clone()).collect();
                for key in kept.iter().chain(&given) {
                    if !matches!(key.as_str(), "status" | "metadata" | "apiVersion" | "kind") {
                        restore(new, old, key);
                    }
                }
                self.keep_metadata(new, old);
            }
            name => keep_rest(name, new, old),
        }
    }

    /// Puts back what of metadata a write of status may not change.
    fn keep_metadata(&self, new: &mut Value, old: &Value) {
        match self.served.strategy.traits().status_metadata {
            StatusMetadata::Open => {}
            StatusMetadata::OwnersKept => meta::copy(new, old, "ownerReferences"),
            StatusMetadata::LabelsKept => meta::copy(new, old, "labels"),
            StatusMetadata::Kept => {
                let managed = new.at("metadata.managedFields").cloned();
                let version = new.at("metadata.resourceVersion").cloned();
                new.insert("metadata", &old["metadata"]);
                meta::set(new, "managedFields", managed);
                meta::set(new, "resourceVersion", version);
            }
        }
    }

    fn bump_generation(&self, new: &mut Value, old: &Value) {
        let traits = self.served.strategy.traits();
        // Where a pod runs is no wish of its owner's, so binding makes no new generation.
        if matches!(self.subresource, "status" | "binding") {
            return;
        }
        let changed = match traits.generation {
            Generation::None | Generation::ByStrategy => false,
            Generation::OnSpecChange => differs(new, old, traits.status),
            Generation::OnSpecOrLabelsChange => {
                differs(new, old, traits.status) || new["metadata"]["labels"] != old["metadata"]["labels"]
            }
        };
        if changed {
            let generation = old.int_at("metadata.generation").unwrap_or(0);
            meta::set(new, "generation", generation + 1);
        }
    }
}

/// For a subresource that writes one part of the object: takes that part from `new` and all else from `old`.
fn keep_rest(subresource: &str, new: &mut Value, old: &Value) {
    let part = match subresource {
        "ephemeralcontainers" => "spec.ephemeralContainers",
        "approval" => "status.conditions",
        "finalize" => "spec.finalizers",
        _ => return,
    };
    let given = new.at(part).cloned();
    let managed = new.at("metadata.managedFields").cloned();
    let version = new.at("metadata.resourceVersion").cloned();
    let metadata = matches!(subresource, "finalize" | "approval").then(|| new["metadata"].clone());
    *new = old.clone();
    if let Some(metadata) = metadata {
        new.insert("metadata", metadata);
    }
    match given {
        Some(value) => new.set(part, value),
        None => new.remove_at(part),
    };
    meta::set(new, "managedFields", managed);
    meta::set(new, "resourceVersion", version);
}

fn restore(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => {
            new.insert(field, value);
        }
        None => {
            new.remove(field);
        }
    }
}

/// Whether anything but metadata (and status) differs.
fn differs(new: &Value, old: &Value, status: bool) -> bool {
    let rest = |object: &Value| -> Vec<(schema::SmolStr, Value)> {
        object
            .entries()
            .iter()
            .filter(|(k, _)| {
                let set_apart = matches!(k.as_str(), "metadata" | "apiVersion" | "kind");
                !set_apart && (!status || k != "status")
            })
            .cloned()
            .collect()
    };
    rest(new) != rest(old)
}
