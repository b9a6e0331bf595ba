//! Why a table or an OpenAPI schema does not load.

use smol_str::SmolStr;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of a table is malformed.
    #[error("{table}:{line}: {reason}")]
    Table {
        /// File under `api/`.
        table: SmolStr,
        /// 1-based line.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An OpenAPI v3 schema of a custom resource is not structural or not understood.
    #[error("{path}: {reason}")]
    OpenApi {
        /// Field path within the schema.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
