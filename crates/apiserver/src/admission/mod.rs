//! Admission: plugins that may change or refuse a write, after authorization and before it is stored.

mod chain;
mod dynamic;
mod expressions;
mod matching;
pub mod plugins;
mod policy;
mod reinvocation;
#[cfg(test)]
pub(crate) mod testing;
mod versioned;
mod webhook;

use async_trait::async_trait;
use base::UserInfo;
use schema::{GroupVersionKind, GroupVersionResource, Value};

use crate::registry::{Registry, Rider};
use crate::status::{ApiError, ApiResult, GroupResource};

pub use chain::AdmissionChain;
pub(crate) use dynamic::Dynamic;
pub(crate) use policy::check_types;
pub use reinvocation::Reinvocation;

/// What is done to the object (`admission.Operation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object, or a POST to a subresource.
    Create,
    /// A change, by PUT or any patch.
    Update,
    /// A deletion; of a collection: once per object.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

impl Operation {
    /// As AdmissionReview names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write as admission sees it (`admission.Attributes`).
///
/// Objects are in the storage version of their kind, which differs from the requested one only where fields do
/// (`autoscaling`, events); `kind` and `resource` are the requested ones.
#[derive(Debug)]
pub struct Attributes<'a> {
    /// What is done.
    pub operation: Operation,
    /// Kind of `object`.
    pub kind: GroupVersionKind,
    /// The resource written to.
    pub resource: GroupVersionResource,
    /// E.g. `status`; empty for the resource itself.
    pub subresource: &'a str,
    /// Empty at cluster scope. For a namespace its own name.
    pub namespace: &'a str,
    /// Empty while a name is not generated yet.
    pub name: &'a str,
    /// The new object; null for deletions. Mutating plugins change it.
    pub object: Value,
    /// What is stored; null for creations.
    pub old_object: &'a Value,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions.
    pub options: &'a Value,
    /// Warnings for the client, one per header.
    pub warnings: Vec<String>,
    /// `PLUGIN/KEY` to value, for the audit log.
    pub audit_annotations: Vec<(String, String)>,
    /// What mutating plugins know of each other.
    pub reinvocation: Reinvocation,
    /// Stored in one transaction with the object; [`Admission::charge`] adds to it.
    pub riders: Vec<Rider>,
    /// Kept until the write is stored or has failed: locks.
    pub held: Vec<Box<dyn std::any::Any + Send + Sync>>,
}

impl Attributes<'_> {
    /// True for the resource `plural` of `group` itself (not a subresource).
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.resource.group == group && self.resource.resource == plural
    }

    /// The resource in error messages.
    pub fn group_resource(&self) -> GroupResource<'_> {
        GroupResource::new(&self.resource.group, &self.resource.resource)
    }

    /// The refusal of this write (`admission.NewForbidden`).
    pub fn forbidden(&self, why: impl std::fmt::Display) -> ApiError {
        let name = self.object.str_at("metadata.name").filter(|n| !n.is_empty()).unwrap_or(self.name);
        let prefix = || self.object.str_at("metadata.generateName").filter(|prefix| !prefix.is_empty());
        let name = if name.is_empty() { prefix().unwrap_or("Unknown") } else { name };
        ApiError::forbidden(self.group_resource(), name, why)
    }
}

/// One admission plugin.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Upstream's name of the plugin, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether it cares for that operation at all.
    fn handles(&self, operation: Operation) -> bool;

    /// May change `attributes.object`, or refuse.
    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let _ = (attributes, registry);
        Ok(())
    }

    /// May refuse. Runs after all changes, on the object as it will be stored.
    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let _ = (attributes, registry);
        Ok(())
    }

    /// Adds to `attributes.riders` what must be stored with the object, or refuses. Runs after all of validation, and
    /// again when one of the riders has changed meanwhile.
    async fn charge(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let _ = (attributes, registry);
        Ok(())
    }

    /// A write that was admitted has been stored, or has failed: the place to give back what `validate` reserved.
    async fn finished(&self, attributes: &Attributes<'_>, stored: bool) {
        let _ = (attributes, stored);
    }
}
