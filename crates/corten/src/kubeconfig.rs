//! Kubeconfig files: the administrator's with everything inside, the components' naming files that are renewed.

use anyhow::Context;
use base64::Engine;
use serde_json::{Value, json};

use crate::certs::Certificates;
use crate::layout::Layout;
use crate::settings::Settings;

/// Component files below the kubeconfigs folder, with the certificate each uses.
const COMPONENTS: [(&str, &str); 4] = [
    ("kubelet.conf", "kubelet-client"),
    ("scheduler.conf", "scheduler"),
    ("controller-manager.conf", "controller-manager"),
    ("kube-proxy.conf", "kube-proxy"),
];

/// Writes every kubeconfig of the cluster.
pub fn write_all(settings: &Settings, layout: &Layout, certificates: &Certificates) -> anyhow::Result<()> {
    let server = format!("https://127.0.0.1:{}", settings.secure_port);
    let data = |path: &std::path::Path| -> anyhow::Result<String> {
        let content = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(base64::engine::general_purpose::STANDARD.encode(content))
    };
    let admin = certificates.pair("admin");
    let cluster = json!({"server": server, "certificate-authority-data": data(&certificates.authority())?});
    let user = json!({
        "client-certificate-data": data(&admin.certificate)?,
        "client-key-data": data(&admin.key)?,
    });
    write(&layout.kubeconfig(), &document(&settings.name, "admin", &cluster, &user))?;
    for (file, name) in COMPONENTS {
        let pair = certificates.pair(name);
        let cluster = json!({"server": server, "certificate-authority": certificates.authority()});
        let user = json!({"client-certificate": pair.certificate, "client-key": pair.key});
        write(&layout.credentials().join(file), &document(&settings.name, name, &cluster, &user))?;
    }
    Ok(())
}

fn document(cluster_name: &str, user_name: &str, cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster_name, "cluster": cluster}],
        "users": [{"name": user_name, "user": user}],
        "contexts": [{"name": cluster_name, "context": {"cluster": cluster_name, "user": user_name}}],
        "current-context": cluster_name,
    })
}

/// JSON is YAML, and kubectl reads it. An unchanged file is left alone.
fn write(path: &std::path::Path, document: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)? + "\n";
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    Ok(pki::write_private(path, text.as_bytes())?)
}
