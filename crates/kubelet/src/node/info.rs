//! `status.nodeInfo` and the labels that every node has.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::api::core::v1::NodeSystemInfo;

/// The architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The labels of a node called `name`.
pub fn default_labels(name: &str) -> BTreeMap<String, String> {
    let labels = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What the system says of itself. `runtime` like `containerd://1.6.20`.
pub fn system_info(runtime: &str, version: &str) -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let machine_id = read("/etc/machine-id");
    let product = read("/sys/class/dmi/id/product_uuid");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime.to_owned(),
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        kube_proxy_version: String::new(),
        kubelet_version: version.to_owned(),
        system_uuid: if product.is_empty() { machine_id.clone() } else { product },
        machine_id,
        operating_system: "linux".to_owned(),
        os_image: os_image(&read("/etc/os-release")),
        ..NodeSystemInfo::default()
    }
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::os_image;

    #[test]
    fn names() {
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_image(""), "Linux");
    }
}
