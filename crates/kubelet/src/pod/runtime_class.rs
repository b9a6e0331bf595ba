//! Runtime classes: which handler of the runtime a pod is for.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use super::spec;

/// The handler of the pod's runtime class; empty for the runtime's default.
pub async fn handler(client: &kube::Client, pod: &Pod) -> Result<String, String> {
    let Some(name) = spec::spec(pod).runtime_class_name.as_deref().filter(|n| !n.is_empty()) else {
        return Ok(String::new());
    };
    let api: Api<RuntimeClass> = Api::all(client.clone());
    match api.get_opt(name).await {
        Ok(Some(class)) => Ok(class.handler),
        Ok(None) => Err(format!("runtimeclass.node.k8s.io {name:?} not found")),
        Err(error) => Err(format!("get runtime class {name:?}: {error}")),
    }
}
