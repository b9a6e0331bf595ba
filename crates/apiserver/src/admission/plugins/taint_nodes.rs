//! TaintNodesByCondition: a new node is tainted until it is known to be ready.

use async_trait::async_trait;
use schema::value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// See the module.
pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        if !attributes.is("", "nodes") {
            return Ok(());
        }
        let has = attributes.object.items_at("spec.taints").iter().any(|taint| {
            taint.str_at("key") == Some(NOT_READY) && taint.str_at("effect") == Some("NoSchedule")
        });
        if !has {
            let spec = attributes.object.make_map().entry_map("spec");
            spec.entry_list("taints").push(value!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
