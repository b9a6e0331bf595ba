//! CSI drivers: a word on tokens that would end up in logs.

use schema::Value;

use super::{Context, Generic, Strategy};

/// See the module.
pub struct StorageDrivers(pub Generic);

const TOKENS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                      prevent possible logging of tokens in volume attributes";

impl Strategy for StorageDrivers {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn warnings_on_create(&self, _: &Context<'_>, driver: &Value) -> Vec<String> {
        warnings(driver)
    }

    fn warnings_on_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<String> {
        if new["spec"] == old["spec"] { Vec::new() } else { warnings(new) }
    }
}

fn warnings(driver: &Value) -> Vec<String> {
    let spec = &driver["spec"];
    let unset = !spec["tokenRequests"].is_zero() && spec["serviceAccountTokenInSecrets"].is_null();
    if unset { vec![TOKENS.to_owned()] } else { Vec::new() }
}
