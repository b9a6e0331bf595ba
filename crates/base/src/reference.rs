//! Where optional reference data lies, for tests that compare with it.

use std::path::{Path, PathBuf};

/// The folder of recorded facts about the reference implementation: `$CORTEN_REFERENCE`, else `../shared/reference`
/// beside the workspace. `None` when there is none; tests then skip.
pub fn reference_dir() -> Option<PathBuf> {
    let dir = match std::env::var_os("CORTEN_REFERENCE") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference"),
    };
    dir.is_dir().then_some(dir)
}
