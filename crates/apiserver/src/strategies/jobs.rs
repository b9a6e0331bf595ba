//! Jobs: what becomes of their pods is said when they are deleted.

use schema::Value;

use super::{Generic, Strategy};
use crate::registry::options::DeleteOptions;

/// See the module.
pub struct Jobs(pub Generic);

impl Strategy for Jobs {
    fn generic(&self) -> &Generic {
        &self.0
    }

    /// A job comes by its pods' labels, the generated ones among them, as it is read back.
    fn canonicalize(&self, job: &mut Value) {
        rules::kinds::take_template_labels(job);
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
