//! Static pods from files.

use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::pod::spec::{HASH_ANNOTATION, SEEN_ANNOTATION, SOURCE_ANNOTATION};

/// The pod in a YAML or JSON file, with the identity that a static pod has on this node.
pub fn read(path: &Path, node_name: &str, now: &Time) -> Result<Pod, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    parse(&text, path, node_name, now)
}

fn parse(text: &str, path: &Path, node_name: &str, now: &Time) -> Result<Pod, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let kind = value.get("kind").and_then(Value::as_str);
    if kind != Some("Pod") || value.get("apiVersion").and_then(Value::as_str) != Some("v1") {
        return Err(format!("not a v1 Pod but {kind:?}"));
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let spec = pod.spec.as_mut().ok_or("the pod has no spec")?;
    if spec.containers.is_empty() {
        return Err("the pod has no containers".to_owned());
    }
    spec.node_name = Some(node_name.to_owned());
    // Static pods stay whatever happens to the node.
    let tolerate = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(tolerate);
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    let name = pod.metadata.name.clone().filter(|n| !n.is_empty()).ok_or("the pod has no name")?;
    pod.metadata.name = Some(format!("{name}-{}", node_name.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let hash = hash(text, path, node_name);
    pod.metadata.uid = Some(hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH_ANNOTATION.to_owned(), hash);
    annotations.insert(SOURCE_ANNOTATION.to_owned(), "file".to_owned());
    annotations.insert(SEEN_ANNOTATION.to_owned(), now.0.to_string());
    Ok(pod)
}

/// The same for the same file on the same node, another for another content: two FNV-1a hashes, as 32 hex digits.
fn hash(text: &str, path: &Path, node_name: &str) -> String {
    let fnv = |seed: u64| {
        let path = path.as_os_str().as_encoded_bytes();
        let bytes = node_name.bytes().chain([0]).chain(path.iter().copied()).chain([0]).chain(text.bytes());
        bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    format!("{:016x}{:016x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x6c62_272e_07bb_0142))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: i}\n";
        let now = Time("2024-01-01T00:00:00Z".parse().unwrap());
        let read = |text: &str| parse(text, Path::new("/m/web.yaml"), "Node-1", &now);
        let pod = read(text).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(pod.metadata.uid, read(text).unwrap().metadata.uid);
        assert_ne!(pod.metadata.uid, read(&text.replace("image: i", "image: j")).unwrap().metadata.uid);
        assert!(crate::pod::spec::is_static(&pod));
        for wrong in [
            "",
            "kind: Pod",
            "apiVersion: v1\nkind: Service",
            "{",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
