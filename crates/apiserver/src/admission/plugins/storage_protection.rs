//! StorageObjectInUseProtection: claims and volumes cannot vanish while they are used.

use async_trait::async_trait;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

/// See the module.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        let finalizer = match attributes.resource.resource.as_str() {
            "persistentvolumeclaims" if attributes.is("", "persistentvolumeclaims") => {
                "kubernetes.io/pvc-protection"
            }
            "persistentvolumes" if attributes.is("", "persistentvolumes") => "kubernetes.io/pv-protection",
            _ => return Ok(()),
        };
        let metadata = attributes.object.make_map().entry_map("metadata");
        let finalizers = metadata.entry_list("finalizers");
        if !finalizers.iter().any(|one| one.as_str() == Some(finalizer)) {
            finalizers.push(Value::str(finalizer));
        }
        Ok(())
    }
}
