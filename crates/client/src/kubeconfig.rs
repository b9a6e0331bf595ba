//! Clients made from kubeconfig files.

use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Kubeconfig};
use pki::KeyPairFiles;
use secrecy::ExposeSecret;

use crate::{Error, RemoteConfig, remote};

/// A client for the current context of the kubeconfig at `path`.
///
/// Credentials are files (`client-certificate`, `certificate-authority`, `tokenFile`) or a `token`; inline data and
/// exec plugins are refused with an error that says so, since components reload credentials from files.
pub fn from_kubeconfig(path: &Path) -> Result<kube::Client, Error> {
    remote(read(path)?)
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
    let file = |name: &String| -> PathBuf { folder.join(name) };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err("exec and auth-provider credentials are not supported".to_owned());
    }
    if user.client_certificate_data.is_some() || cluster.certificate_authority_data.is_some() {
        return Err("inline certificate data is not supported; name files".to_owned());
    }
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err("insecure-skip-tls-verify is not supported".to_owned());
    }
    let identity = match (&user.client_certificate, &user.client_key) {
        (Some(certificate), Some(key)) => {
            Some(KeyPairFiles { certificate: file(certificate), key: file(key) })
        }
        (None, None) => None,
        _ => return Err("client-certificate and client-key go together".to_owned()),
    };
    Ok(RemoteConfig {
        server: cluster.server.clone().ok_or("the cluster has no server")?,
        authorities: cluster.certificate_authority.iter().map(file).collect(),
        identity,
        token_file: user.token_file.as_ref().map(file),
        token: user.token.as_ref().map(|t| t.expose_secret().to_owned()),
    })
}
