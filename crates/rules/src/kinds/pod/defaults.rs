//! Defaults of pods that depend on other fields (`pkg/apis/core/v1/defaults.go`).

use schema::Value;

/// Longest path of an image name without the registry's.
const MAX_IMAGE_PATH_BYTES: usize = 255;
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) fn default_pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    if spec["enableServiceLinks"].is_null() {
        spec.insert("enableServiceLinks", true);
    }
    for kind in ["initContainers", "containers"] {
        if let Some(Value::List(containers)) = spec.get_mut(kind) {
            containers.iter_mut().for_each(request_limits);
        }
    }
    if spec["hostNetwork"].as_bool() == Some(true) {
        for kind in ["initContainers", "containers"] {
            if let Some(Value::List(containers)) = spec.get_mut(kind) {
                containers.iter_mut().for_each(take_host_ports);
            }
        }
    }
    default_pod_spec(spec);
}

/// Requests that are not given are what the limits are.
fn request_limits(container: &mut Value) {
    let limits = container["resources"]["limits"].entries().to_vec();
    if limits.is_empty() {
        return;
    }
    let requests = container.make_map().entry_map("resources").entry_map("requests");
    for (name, limit) in limits {
        requests.entry(name, || limit);
    }
}

fn take_host_ports(container: &mut Value) {
    if let Some(Value::List(ports)) = container.get_mut("ports") {
        for port in ports.iter_mut() {
            if port["hostPort"].is_zero() {
                let own = port["containerPort"].clone();
                port.insert("hostPort", own);
            }
        }
    }
}

/// Pods and templates alike.
pub(in crate::kinds) fn default_pod_spec(spec: &mut Value) {
    link_service_account(spec);
    for kind in CONTAINERS {
        if let Some(Value::List(containers)) = spec.get_mut(kind) {
            for container in containers.iter_mut().filter(|c| c["imagePullPolicy"].is_zero()) {
                let policy = pull_policy(container["image"].as_str().unwrap_or(""));
                container.insert("imagePullPolicy", policy);
            }
        }
    }
    if let Some(Value::List(volumes)) = spec.get_mut("volumes") {
        volumes.iter_mut().for_each(default_volume);
    }
}

/// The older name of the field follows the newer.
fn link_service_account(spec: &mut Value) {
    let text = |spec: &Value, name: &str| spec[name].as_smol().cloned().unwrap_or_default();
    let mut account = text(spec, "serviceAccountName");
    if account.is_empty() {
        account = text(spec, "serviceAccount");
    }
    if !account.is_empty() {
        spec.insert("serviceAccountName", &account);
        spec.insert("serviceAccount", account);
    }
}

fn default_volume(volume: &mut Value) {
    if volume.entries().iter().all(|(name, value)| name == "name" || value.is_null()) {
        volume.insert("emptyDir", Value::map());
    }
    if let Some(image) = volume.get_mut("image")
        && image["pullPolicy"].is_zero()
    {
        let policy = pull_policy(image["reference"].as_str().unwrap_or(""));
        image.insert("pullPolicy", policy);
    }
}

/// `latest` may move on: it is always pulled. So is an image without tag and digest.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        _ if image.is_empty() || !is_image_name(image) => "IfNotPresent",
        _ => "Always",
    }
}

/// A name that the image parser takes: what it refuses has no tag.
fn is_image_name(image: &str) -> bool {
    let path = image.split_once('/').map_or(image, |(_, path)| path);
    !path.is_empty()
        && path.len() <= MAX_IMAGE_PATH_BYTES
        && image.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b':'))
        && !path.bytes().any(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn images_are_pulled_by_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/a", "Always"),
            ("localhost:5000/a:2", "IfNotPresent"),
            ("a@sha256:0", "IfNotPresent"),
            ("Bogus Value!", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn pods() {
        let mut pod = value!({"spec": {
            "serviceAccount": "a",
            "hostNetwork": true,
            "containers": [{"image": "i:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v"}]
        }});
        default_pod(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"].as_str(), Some("a"));
        assert_eq!(spec["enableServiceLinks"].as_bool(), Some(true));
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"].as_int(), Some(80));
        assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"].as_str(), Some("1"));
        assert_eq!(spec["volumes"][0]["emptyDir"], Value::map());
    }
}
