//! AlwaysAdmit, AlwaysDeny and DenyServiceExternalIPs.

use async_trait::async_trait;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

/// AlwaysAdmit: as if it were not there.
pub struct AlwaysAdmit;

#[async_trait]
impl Admission for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn handles(&self, _: Operation) -> bool {
        false
    }
}

/// AlwaysDeny: nothing is written any more.
pub struct AlwaysDeny;

#[async_trait]
impl Admission for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        Err(attributes.forbidden("admission control is denying all modifications"))
    }
}

/// DenyServiceExternalIPs: services get no new external addresses.
pub struct DenyServiceExternalIps;

#[async_trait]
impl Admission for DenyServiceExternalIps {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        if !attributes.is("", "services") {
            return Ok(());
        }
        let addresses = |service: &Value| service.items_at("spec.externalIPs").to_vec();
        let before = addresses(attributes.old_object);
        match addresses(&attributes.object).iter().all(|one| before.contains(one)) {
            true => Ok(()),
            false => Err(attributes.forbidden("Use of external IPs is denied by admission control.")),
        }
    }
}
