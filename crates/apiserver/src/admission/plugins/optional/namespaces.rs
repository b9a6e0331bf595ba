//! NamespaceExists and NamespaceAutoProvision.

use async_trait::async_trait;
use schema::value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::{ApiError, ApiResult, GroupResource};

fn is_within_namespace(attributes: &Attributes<'_>) -> bool {
    let is_namespace = attributes.resource.group.is_empty() && attributes.resource.resource == "namespaces";
    !attributes.namespace.is_empty() && !is_namespace
}

/// NamespaceExists: nothing is written in namespaces that are not there.
pub struct NamespaceExists;

#[async_trait]
impl Admission for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if is_within_namespace(attributes)
            && registry.find("", "namespaces", "", attributes.namespace)?.is_none()
        {
            return Err(ApiError::not_found(GroupResource::new("", "namespaces"), attributes.namespace));
        }
        Ok(())
    }
}

/// NamespaceAutoProvision: a namespace that is not there is made by its first object.
pub struct NamespaceAutoProvision;

#[async_trait]
impl Admission for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !is_within_namespace(attributes)
            || attributes.dry_run
            || registry.find("", "namespaces", "", attributes.namespace)?.is_some()
        {
            return Ok(());
        }
        let Some(served) = registry.stored_resource("", "namespaces") else { return Ok(()) };
        let namespace =
            value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": (attributes.namespace)}});
        match registry.own().create(&served, "", namespace).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        }
    }
}
