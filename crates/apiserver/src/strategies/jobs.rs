//! Jobs: what becomes of their pods is said when they are deleted.

use super::{Generic, Strategy};
use crate::registry::options::DeleteOptions;

/// See the module.
pub struct Jobs(pub Generic);

impl Strategy for Jobs {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn warnings_on_delete(&self, options: &DeleteOptions) -> Vec<String> {
        if options.orphan_dependents.is_some() || options.propagation.is_some() {
            return Vec::new();
        }
        vec![
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning"
                .to_owned(),
        ]
    }
}
