//! Clients made from kubeconfig files.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use pki::KeyPairFiles;
use secrecy::ExposeSecret;

use crate::{Error, RemoteConfig, remote};

/// A client of `component`, e.g. `kube-scheduler`, for the current context of the kubeconfig at `path`.
///
/// Credentials are files (`client-certificate`, `certificate-authority`, `tokenFile`), which are read again when they
/// change, inline data, or a `token`. Exec plugins are refused with an error that says so.
pub fn from_kubeconfig(path: &Path, component: &'static str) -> Result<kube::Client, Error> {
    remote(RemoteConfig { component, ..read(path)? })
}

fn read(path: &Path) -> Result<RemoteConfig, Error> {
    let wrong = |reason: String| Error::Kubeconfig { path: path.display().to_string(), reason };
    let file = Kubeconfig::read_from(path).map_err(|e| wrong(e.to_string()))?;
    let context_name = file.current_context.as_deref().unwrap_or_default();
    let context = file
        .contexts
        .iter()
        .find(|c| c.name == context_name)
        .and_then(|c| c.context.as_ref())
        .ok_or_else(|| wrong(format!("no context {context_name:?}")))?;
    let cluster = file
        .clusters
        .iter()
        .find(|c| c.name == context.cluster)
        .and_then(|c| c.cluster.as_ref())
        .ok_or_else(|| wrong(format!("no cluster {:?}", context.cluster)))?;
    let user_name = context.user.clone().unwrap_or_default();
    let user = file
        .auth_infos
        .iter()
        .find(|u| u.name == user_name)
        .and_then(|u| u.auth_info.clone())
        .unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("."));
    config(cluster, &user, folder).map_err(wrong)
}

fn config(cluster: &Cluster, user: &AuthInfo, folder: &Path) -> Result<RemoteConfig, String> {
    let mut inline = Vec::new();
    let file = |name: &String| -> PathBuf { folder.join(name) };
    // As kubectl: data wins over a file.
    let mut either = |data: Option<&str>, name: &Option<String>| -> Result<Option<PathBuf>, String> {
        let Some(data) = data else { return Ok(name.as_ref().map(file)) };
        let (path, kept) = in_memory(data)?;
        inline.push(Arc::new(kept));
        Ok(Some(path))
    };
    let authority = either(cluster.certificate_authority_data.as_deref(), &cluster.certificate_authority)?;
    let certificate = either(user.client_certificate_data.as_deref(), &user.client_certificate)?;
    let key = either(user.client_key_data.as_ref().map(|data| data.expose_secret()), &user.client_key)?;
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err("exec and auth-provider credentials are not supported".to_owned());
    }
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err("insecure-skip-tls-verify is not supported".to_owned());
    }
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(KeyPairFiles { certificate, key }),
        (None, None) => None,
        _ => return Err("client-certificate and client-key go together".to_owned()),
    };
    Ok(RemoteConfig {
        component: "",
        server: cluster.server.clone().ok_or("the cluster has no server")?,
        authorities: authority.into_iter().collect(),
        unverified: false,
        identity,
        token_file: user.token_file.as_ref().map(file),
        token: user.token.as_ref().map(|t| t.expose_secret().to_owned()),
        inline,
    })
}

/// A file of the decoded `data` that is on no disk, and what keeps it.
fn in_memory(data: &str) -> Result<(PathBuf, OwnedFd), String> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
    let content = decoded.map_err(|e| format!("inline data: {e}"))?;
    let made = rustix::fs::memfd_create("kubeconfig", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(made.map_err(|e| format!("inline data: {e}"))?);
    file.write_all(&content).map_err(|e| format!("inline data: {e}"))?;
    let kept = OwnedFd::from(file);
    Ok((PathBuf::from(format!("/proc/self/fd/{}", kept.as_raw_fd())), kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_data_is_read_from_memory_and_wins_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let path = folder.path().join("config");
        let document = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {
                "server": "https://127.0.0.1:6443",
                "certificate-authority": "absent.crt", "certificate-authority-data": encode("ca")}}],
            "users": [{"name": "u", "user": {
                "client-certificate": "there.crt", "client-key-data": encode("key")}}],
        });
        std::fs::write(&path, document.to_string()).unwrap();
        let config = read(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&config.authorities[0]).unwrap(), "ca");
        let identity = config.identity.unwrap();
        assert_eq!(identity.certificate, folder.path().join("there.crt"));
        assert_eq!(std::fs::read_to_string(&identity.key).unwrap(), "key");
    }
}
