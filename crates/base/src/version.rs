//! Which Kubernetes this is.

/// The upstream release whose API and behaviour are implemented.
pub const KUBERNETES_VERSION: &str = "1.36.2";

/// What every component says its version is (`gitVersion`): upstream's, and ours as build metadata.
pub const GIT_VERSION: &str = concat!("v1.36.2+corten-", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_name_one_release() {
        assert!(GIT_VERSION.starts_with(&format!("v{KUBERNETES_VERSION}+corten-")));
    }
}
