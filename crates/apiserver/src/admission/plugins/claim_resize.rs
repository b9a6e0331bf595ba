//! PersistentVolumeClaimResize: a claim grows only if it is bound and its storage class lets it.

use async_trait::async_trait;
use schema::Value;

use super::pod_amounts;
use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

/// See the module.
pub struct ClaimResize;

#[async_trait]
impl Admission for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let size = |claim: &Value| pod_amounts::read(claim.at("spec.resources.requests")).remove("storage");
        let (old, new) = (size(attributes.old_object), size(&attributes.object));
        let grows = match (old, new) {
            (Some(old), Some(new)) => new > old,
            (None, Some(new)) => !new.is_zero(),
            _ => false,
        };
        if !grows {
            return Ok(());
        }
        if attributes.old_object.str_at("status.phase") != Some("Bound") {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = class_of(&attributes.object);
        let expandable = match class {
            Some(class) if Some(class) == class_of(attributes.old_object) => registry
                .find("storage.k8s.io", "storageclasses", "", class)?
                .is_some_and(|class| class.bool_at("allowVolumeExpansion") == Some(true)),
            _ => false,
        };
        if expandable {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
             support resize",
        ))
    }
}

fn class_of(claim: &Value) -> Option<&str> {
    let older = claim.map_at("metadata.annotations");
    let older = older.and_then(|a| a.get_str("volume.beta.kubernetes.io/storage-class"));
    older.or(claim.str_at("spec.storageClassName")).filter(|class| !class.is_empty())
}
