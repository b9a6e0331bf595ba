//! OwnerReferencesPermissionEnforcement: who cannot delete an object, or set an owner's finalizers, does not change who
//! owns it.

use std::sync::Arc;

use async_trait::async_trait;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::authz::{self, Authorizer};
use crate::registry::{Registry, meta};
use crate::status::ApiResult;

/// See the module.
pub struct OwnerReferences(pub Arc<dyn Authorizer>);

fn owners(object: &Value) -> &[Value] {
    object.items_at("metadata.ownerReferences")
}

fn is_blocking(reference: &Value) -> bool {
    reference.bool_at("blockOwnerDeletion") == Some(true)
}

#[async_trait]
impl Admission for OwnerReferences {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let status_only = attributes.subresource == "status";
        let before = owners(attributes.old_object).to_vec();
        let now = owners(&attributes.object).to_vec();
        if status_only || before == now {
            return Ok(());
        }
        // Whoever makes an object may say who owns it.
        if attributes.operation == Operation::Update && !self.may_delete(attributes).await {
            return Err(attributes.forbidden("cannot set an ownerRef on a resource you can't delete"));
        }
        let same = |a: &Value, b: &Value| a["uid"] == b["uid"] && is_blocking(a) == is_blocking(b);
        for reference in now.iter().filter(|r| is_blocking(r)) {
            if before.iter().any(|other| same(reference, other)) {
                continue;
            }
            if !self.may_finalize(attributes, reference, registry).await {
                return Err(attributes.forbidden(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on",
                ));
            }
        }
        Ok(())
    }
}

impl OwnerReferences {
    async fn may_delete(&self, attributes: &Attributes<'_>) -> bool {
        let asked = authz::Attributes {
            user: attributes.user.clone(),
            verb: "delete".to_owned(),
            is_resource: true,
            api_group: attributes.resource.group.to_string(),
            api_version: attributes.resource.version.to_string(),
            namespace: attributes.namespace.to_owned(),
            resource: attributes.resource.resource.to_string(),
            name: match attributes.name {
                "" => meta::name(&attributes.object).to_owned(),
                name => name.to_owned(),
            },
            ..authz::Attributes::default()
        };
        self.0.authorize(&asked).await.is_allowed()
    }

    async fn may_finalize(
        &self,
        attributes: &Attributes<'_>,
        reference: &Value,
        registry: &Registry,
    ) -> bool {
        let version = reference.str_at("apiVersion").unwrap_or_default();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = reference.str_at("kind").unwrap_or_default();
        let table = registry.resources.load();
        let owner =
            table.all().iter().map(|served| &served.resource).find(|resource| {
                resource.group == group && resource.version == version && resource.kind == kind
            });
        let Some(owner) = owner else { return false };
        let asked = authz::Attributes {
            user: attributes.user.clone(),
            verb: "update".to_owned(),
            is_resource: true,
            api_group: group.to_owned(),
            api_version: version.to_owned(),
            namespace: if owner.namespaced { attributes.namespace.to_owned() } else { String::new() },
            resource: owner.plural.to_string(),
            subresource: "finalizers".to_owned(),
            name: reference.str_at("name").unwrap_or_default().to_owned(),
            ..authz::Attributes::default()
        };
        self.0.authorize(&asked).await.is_allowed()
    }
}
