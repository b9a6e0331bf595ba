//! NamespaceLifecycle: nothing is made in namespaces that are not there or are going, and some namespaces stay.

use async_trait::async_trait;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::{Registry, meta};
use crate::status::{ApiError, ApiResult, GroupResource};

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// See the module.
pub struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update | Operation::Delete)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let is_namespace =
            attributes.resource.group.is_empty() && attributes.resource.resource == "namespaces";
        if is_namespace {
            let protected = attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name);
            return match protected {
                true => Err(attributes.forbidden("this namespace may not be deleted")),
                false => Ok(()),
            };
        }
        // A review of access asks about a namespace and makes nothing in it.
        let review = attributes.resource.group == "authorization.k8s.io";
        if attributes.namespace.is_empty() || attributes.operation != Operation::Create || review {
            return Ok(());
        }
        let namespace = registry.find("", "namespaces", "", attributes.namespace)?;
        let Some(namespace) = namespace else {
            return Err(ApiError::not_found(GroupResource::new("", "namespaces"), attributes.namespace));
        };
        if !meta::is_deleting(&namespace) && namespace.str_at("status.phase") != Some("Terminating") {
            return Ok(());
        }
        let name = attributes.namespace;
        let refusal = attributes.forbidden(format!(
            "unable to create new content in namespace {name} because it is being terminated"
        ));
        Err(refusal.with_cause(
            "NamespaceTerminating",
            format!("namespace {name} is being terminated"),
            "metadata.namespace",
        ))
    }
}
