//! Creating an object.

use schema::{Presence, Value};
use store::Revision;

use super::riders::{Refused, Rider};
use super::write::{Saved, WriteContext, saved};
use super::{meta, metadata_rules};
use crate::admission::Operation;
use crate::status::{ApiError, ApiResult};
use crate::strategies::Generation;

/// How often a generated name that is taken is made anew (`maxNameGenerationCreateAttempts`).
const NAME_ATTEMPTS: usize = 8;
/// How often a creation is tried again because what is stored with it (a quota, an address) changed meanwhile.
const CONFLICT_ATTEMPTS: usize = 100;

/// What an attempt came to.
enum Attempt {
    Done(Saved),
    /// Something that is to be stored with the object changed meanwhile.
    Again,
}

impl WriteContext<'_> {
    /// Creates an object, given decoded and defaulted in the version of the request.
    pub async fn create(&self, mut object: Value) -> ApiResult<Saved> {
        let now = self.registry.now();
        for field in
            ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
        {
            meta::remove(&mut object, field);
        }
        metadata_rules::match_namespace(self.served, self.namespace, &mut object)?;
        metadata_rules::dedup_owners(&mut object, self.warnings);
        self.track_fields(None, &mut object, &now);
        self.create_tracked(object, &now).await
    }

    /// Creates an object whose managed fields are right already.
    pub(super) async fn create_tracked(&self, object: Value, now: &str) -> ApiResult<Saved> {
        let object = self.served.convert_to_hub(object).await?;
        let name = meta::name(&object).to_owned();
        let mut attributes = self.attributes(Operation::Create, &name, object, &Value::Null);
        self.admit(&mut attributes).await?;
        let admitted = std::mem::take(&mut attributes.object);
        let generated = meta::name(&admitted).is_empty() && !meta::text(&admitted, "generateName").is_empty();
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        let mut taken = None;
        for _ in 0..attempts {
            match self.create_retrying(&admitted, now).await {
                Err(error) if generated && error.reason == "AlreadyExists" => taken = Some(error),
                outcome => return outcome,
            }
        }
        Err(match taken {
            Some(mut error) => {
                error.message.push_str(", the server was not able to generate a unique name for the object");
                error
            }
            None => ApiError::internal("no attempt was made to create the object"),
        })
    }

    async fn create_retrying(&self, admitted: &Value, now: &str) -> ApiResult<Saved> {
        for _ in 0..CONFLICT_ATTEMPTS {
            if let Attempt::Done(saved) = self.create_once(admitted.clone(), now).await? {
                return Ok(saved);
            }
        }
        Err(ApiError::modified(self.served.group_resource(), meta::name(admitted)))
    }

    async fn create_once(&self, mut object: Value, now: &str) -> ApiResult<Attempt> {
        let strategy = &self.served.strategy;
        let context = self.strategy_context(now);
        meta::set(&mut object, "creationTimestamp", now);
        meta::set(&mut object, "uid", meta::new_uid());
        let prefix = meta::text(&object, "generateName").to_owned();
        if meta::name(&object).is_empty() && !prefix.is_empty() {
            // An address cannot be made up; validation says so of the prefix itself.
            let name = match self.served.is("networking.k8s.io", "ipaddresses") {
                true => prefix,
                false => meta::generate_name(&prefix),
            };
            meta::set(&mut object, "name", name);
        }
        let finish = strategy.begin_create(&context, &mut object)?;
        let outcome = self.create_begun(object, &context).await;
        if let Some(finish) = finish {
            finish(matches!(outcome, Ok(Attempt::Done(_))) && !self.options.dry_run);
        }
        outcome
    }

    async fn create_begun(
        &self,
        mut object: Value,
        context: &crate::strategies::Context<'_>,
    ) -> ApiResult<Attempt> {
        let strategy = &self.served.strategy;
        self.prepare_new(&mut object);
        strategy.prepare_for_create(context, &mut object);
        if self.served.resource.custom {
            // Status was taken away; what its schema has by default comes back, as it does on every read upstream.
            rules::apply_defaults(self.served.resource.schema.root(), &mut object);
        }
        let mut errors = strategy.validate(context, &object);
        let mut all = metadata_rules::validate_new(self.served, &object);
        all.append(&mut errors);
        if !all.is_empty() {
            rules::show_values(&mut all, self.served.hub.schema.root());
            let kind = &self.served.hub;
            return Err(ApiError::invalid(&kind.group, &kind.kind, meta::name(&object), &all));
        }
        for warning in strategy.warnings_on_create(context, &object) {
            self.warnings.add(warning);
        }
        self.canonicalize(&mut object);
        let name = meta::name(&object).to_owned();
        let mut attributes = self.attributes(Operation::Create, &name, object, &Value::Null);
        self.validate_admission(&mut attributes).await?;
        if !meta::resource_version(&attributes.object).is_empty() {
            return Err(ApiError::internal_plain(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.admission.charge(&mut attributes, self.registry).await?;
        let mut riders = std::mem::take(&mut attributes.riders);
        let object = std::mem::take(&mut attributes.object);
        if !self.options.dry_run {
            riders.extend(strategy.riders(context, Some(&object), None)?);
        }
        let mut outcome = self.insert(object, &name, riders).await;
        let Ok(Attempt::Done(saved)) = &mut outcome else {
            self.admission.finished(&attributes, false).await;
            return outcome;
        };
        std::mem::swap(&mut attributes.object, &mut saved.object);
        self.admission.finished(&attributes, !self.options.dry_run).await;
        std::mem::swap(&mut attributes.object, &mut saved.object);
        outcome
    }

    /// What the registry itself does to new objects.
    fn prepare_new(&self, object: &mut Value) {
        let traits = self.served.strategy.traits();
        // A kubelet makes its node with the status that it has.
        if traits.status && !self.served.is("", "nodes") {
            // As Go writes an empty status: nothing, `{}`, or fields that are always there.
            let field = self.served.hub.schema.root().field("status");
            match field.filter(|f| f.presence() == Presence::Always) {
                Some(field) => object.insert("status", merge::typed::zero(field.node())),
                None => object.remove("status"),
            };
        }
        if traits.generation == Generation::None {
            meta::remove(object, "generation");
        } else if traits.generation != Generation::ByStrategy {
            meta::set(object, "generation", 1);
        }
    }

    async fn insert(&self, object: Value, name: &str, riders: Vec<Rider>) -> ApiResult<Attempt> {
        let key = self.served.key(self.namespace, name);
        let exists = || ApiError::already_exists(self.served.group_resource(), name);
        if self.options.dry_run {
            return match self.registry.store.get(key.as_bytes())? {
                Some(_) => Err(exists()),
                None => Ok(Attempt::Done(Saved { object, entry: None })),
            };
        }
        match self.put(&object, &key, Revision::ZERO, riders).await? {
            Ok(entry) => Ok(Attempt::Done(saved(object, entry))),
            Err(Refused::Object) => Err(exists()),
            Err(Refused::Rider) => Ok(Attempt::Again),
        }
    }
}
