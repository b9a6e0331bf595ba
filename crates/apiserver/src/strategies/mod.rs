//! What a table cannot say of a kind: one small [`Strategy`] each, in a file of its own.

mod custom;
pub(crate) mod daemon_sets;
mod definitions;
mod events;
mod generic;
mod jobs;
mod kinds;
mod limit_ranges;
mod namespaces;
mod pods;
mod secrets;
mod service_families;
mod services;
mod storage_drivers;
mod traits;

use std::sync::Arc;

use base::UserInfo;
use rules::FieldError;
use schema::Value;

use crate::registry::options::DeleteOptions;
use crate::registry::{Registry, Rider};
use crate::status::ApiResult;

pub use generic::Generic;
pub use kinds::{custom_strategy, strategy_for};
pub use traits::{Generation, StatusMetadata, Traits};

/// The write that a strategy is asked about.
pub struct Context<'a> {
    /// Reads of other objects.
    pub registry: &'a Registry,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Empty at cluster scope.
    pub namespace: &'a str,
    /// Empty for the resource itself, else `status`, `scale`, `ephemeralcontainers`, ...
    pub subresource: &'a str,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Now, RFC 3339 with whole seconds.
    pub now: &'a str,
}

/// Called once the write it was made for has been stored (`true`) or has failed.
pub type Finish = Box<dyn FnOnce(bool) + Send>;

/// The rules of one kind beyond its schema (`rest.RESTCreateStrategy` and its siblings). Values are in the storage
/// version. Every method has a default; the registry does names, metadata, status separation and generation by
/// [`Traits`] before asking.
pub trait Strategy: Send + Sync + 'static {
    /// The part that all kinds have; what is not overridden here is asked there.
    fn generic(&self) -> &Generic;

    /// Facts that the registry acts on.
    fn traits(&self) -> &Traits {
        self.generic().traits()
    }

    /// Defaults that depend on other fields; after the schema's own, on every decoded object of any version.
    fn default_fields(&self, object: &mut Value) {
        self.generic().default_fields(object);
    }

    /// Clears what a client may not set on a new object, and sets what it may leave out.
    fn prepare_for_create(&self, context: &Context<'_>, object: &mut Value) {
        self.generic().prepare_for_create(context, object);
    }

    /// Puts back what this update may not change. For `status` the registry has kept `spec` and metadata already.
    fn prepare_for_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        self.generic().prepare_for_update(context, new, old);
    }

    /// What is wrong with a new object. Schema constraints and metadata have been checked by the registry.
    fn validate(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.generic().validate(context, object)
    }

    /// What is wrong with a change. Unless a subresource says otherwise this includes [`Strategy::validate`].
    fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        self.generic().validate_update(context, new, old)
    }

    /// Words for the client about a new object that is valid all the same.
    fn warnings_on_create(&self, context: &Context<'_>, object: &Value) -> Vec<String> {
        let _ = context;
        self.generic().warnings(object, None)
    }

    /// The same for a change.
    fn warnings_on_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<String> {
        let _ = context;
        self.generic().warnings(new, Some(old))
    }

    /// The same for a deletion.
    fn warnings_on_delete(&self, options: &DeleteOptions) -> Vec<String> {
        let _ = options;
        Vec::new()
    }

    /// Brings a valid object into its one stored form.
    fn canonicalize(&self, object: &mut Value) {
        let _ = object;
    }

    /// For kinds that go down slowly: the grace period in seconds when `asked` was given, `None` to delete at once.
    fn graceful_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let _ = (object, asked);
        None
    }

    /// Reserves what a new object needs outside itself (addresses, ports) and writes it into the object. The closure
    /// gives it back if the write fails.
    fn begin_create(&self, context: &Context<'_>, object: &mut Value) -> ApiResult<Option<Finish>> {
        let _ = (context, object);
        Ok(None)
    }

    /// The same for a change: the closure releases what the old object no longer needs, or the new one reserved.
    fn begin_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) -> ApiResult<Option<Finish>> {
        let _ = (context, new, old);
        Ok(None)
    }

    /// What is stored in one transaction with a creation (`old` is None), a change, or a deletion (`new` is None).
    fn riders(
        &self,
        context: &Context<'_>,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> ApiResult<Vec<Rider>> {
        let _ = (context, new, old);
        Ok(Vec::new())
    }

    /// True while the object itself holds off its deletion beyond finalizers (`spec.finalizers` of namespaces).
    fn deletion_blocked(&self, object: &Value) -> bool {
        let _ = object;
        false
    }

    /// Deletion was asked for and the object stays for now: what is to be said in it (`status.phase`).
    fn mark_deleting(&self, object: &mut Value, now: &str) {
        let _ = (object, now);
    }

    /// True for a changed object that nothing holds any more: it is deleted instead of written.
    fn is_finished(&self, object: &Value) -> bool {
        !object["metadata"]["deletionTimestamp"].is_null()
            && object.items_at("metadata.finalizers").is_empty()
            && object.int_at("metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
            && !self.deletion_blocked(object)
    }

    /// The object is gone from the store.
    fn after_delete(&self, context: &Context<'_>, object: &Value) {
        let _ = (context, object);
    }
}

/// A strategy shared by all versions of its kind.
pub type SharedStrategy = Arc<dyn Strategy>;
