//! Why an apply failed.

use schema::SmolStr;

use crate::managed::{ManagedError, Owner};

/// One field that another owner has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Who owns it.
    pub owner: Owner,
    /// The field, e.g. `.spec.replicas`.
    pub path: String,
}

impl Conflict {
    /// The message of the Status cause; its reason is `FieldManagerConflict`, its field [`Conflict::path`].
    pub fn message(&self) -> String {
        format!("conflict with {}", self.owner)
    }
}

/// Why an apply failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Other owners have other values: answered 409 with reason `Conflict` and a cause for each.
    #[error("{}", conflicts_text(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration is of another kind or version: answered 400.
    #[error("invalid object type: {version}, Kind={kind}")]
    WrongKind {
        /// Its apiVersion.
        version: SmolStr,
        /// Its kind.
        kind: SmolStr,
    },
    /// A configuration may not say who owns it: answered 400.
    #[error("metadata.managedFields must be nil")]
    AppliedManaged,
    /// The configuration does not fit the schema: answered 500, as upstream does.
    #[error("failed to create typed patch object ({what}): {reason}")]
    Invalid {
        /// `namespace/name; version, Kind=kind`.
        what: String,
        /// What does not fit, and where.
        reason: String,
    },
    /// The stored managedFields cannot be read: answered 500.
    #[error("failed to decode managed fields: {0}")]
    LiveManaged(#[source] ManagedError),
}

fn conflicts_text(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", only.message(), only.path);
    }
    let mut lines: Vec<String> = Vec::new();
    let mut last: Option<&Owner> = None;
    for conflict in conflicts {
        if last != Some(&conflict.owner) {
            lines.push(format!("conflicts with {}:", conflict.owner));
            last = Some(&conflict.owner);
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
