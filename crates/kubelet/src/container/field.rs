//! The downward API: fields of the pod and resources of its containers as text.

use std::collections::BTreeMap;

use base::Quantity;
use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use crate::pod::resources::{self, Amounts};
use crate::pod::spec;

/// What fields are read from.
#[derive(Debug)]
pub struct FieldSource<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses, which its status may not have yet.
    pub pod_ips: &'a [String],
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// What the node has for pods: the limits of a container that has none.
    pub allocatable: &'a Amounts,
}

/// The text of `path` (`fieldRef.fieldPath`), or why there is none.
pub fn field(source: &FieldSource<'_>, path: &str) -> Result<String, String> {
    let pod = source.pod;
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => text(&spec::spec(pod).node_name),
        "spec.serviceAccountName" => text(&spec::spec(pod).service_account_name),
        "status.hostIP" => source.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => source.host_ips.join(","),
        "status.podIP" => source.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => source.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` by line, sorted, values quoted as Go does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text of a resource of the container `name` (`resourceFieldRef`), in units of its divisor, rounded up.
pub fn resource(
    source: &FieldSource<'_>,
    selector: &ResourceFieldSelector,
    name: &str,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(name);
    let Some(container) = spec::find_container(source.pod, name) else {
        return Err(format!("container {name} not found"));
    };
    let Some((list, resource)) = selector.resource.split_once('.') else {
        return Err(format!("unsupported container resource : {}", selector.resource));
    };
    let divisor =
        selector.divisor.as_ref().map(|d| Quantity::parse(&d.0).map_err(|e| e.to_string())).transpose()?;
    let divisor = divisor.filter(|d| !d.is_zero()).unwrap_or(Quantity::from_milli(1000));
    let amount = match list {
        "requests" => resources::request(&container.container, resource),
        "limits" => resources::limit(&container.container, resource)
            .filter(|q| !q.is_zero())
            .or_else(|| source.allocatable.get(resource).copied()),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let amount = amount.unwrap_or(Quantity::ZERO);
    let (amount, divisor) = match resource {
        "cpu" => (amount.milli_value(), divisor.milli_value()),
        _ => (amount.value(), divisor.value()),
    };
    let divisor = divisor.max(1);
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "x\"y", "a": "1\n"}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "100Mi"}, "limits": {"cpu": "1500m"}}}
            ]},
        }))
        .unwrap();
        let allocatable = Amounts::from([("memory".to_owned(), Quantity::parse("2Gi").unwrap())]);
        let ips = ["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let source = FieldSource { pod: &pod, pod_ips: &ips, host_ips: &ips[..1], allocatable: &allocatable };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"1\\n\"\nb=\"x\\\"y\""),
            ("metadata.labels['b']", "x\"y"),
            ("metadata.annotations['none']", ""),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
            ("status.hostIPs", "10.0.0.1"),
        ] {
            assert_eq!(field(&source, path).as_deref(), Ok(expected), "{path}");
        }
        assert!(field(&source, "spec.other").is_err());
        for (name, divisor, expected) in [
            ("requests.cpu", None, "1"),
            ("requests.cpu", Some("1m"), "250"),
            ("limits.cpu", Some("1m"), "1500"),
            ("limits.memory", Some("1Mi"), "2048"),
            ("requests.memory", Some("1Mi"), "100"),
            ("requests.memory", None, "104857600"),
            ("requests.ephemeral-storage", None, "0"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(serde_json::json!({"resource": name, "divisor": divisor})).unwrap();
            assert_eq!(resource(&source, &selector, "c").as_deref(), Ok(expected), "{name}");
        }
    }
}
