//! Limit ranges: one without a name gets a random one.

use schema::Value;

use super::{Context, Generic, Strategy};
use crate::registry::meta;

/// See the module.
pub struct LimitRanges(pub Generic);

impl Strategy for LimitRanges {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn prepare_for_create(&self, context: &Context<'_>, range: &mut Value) {
        if meta::name(range).is_empty() {
            meta::set(range, "name", meta::new_uid());
        }
        self.0.prepare_for_create(context, range);
    }
}
