//! How a machine that knows an address, a token and a hash finds out the cluster's authority (kubeadm's discovery).
//!
//! The public cluster information is read from a server that is not verified yet. It is signed by the token, and the
//! authority in it must have the hash that was given: neither suffices alone, since a token may be known to many.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use client::RemoteConfig;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::config::Kubeconfig;

use super::{Target, Token};

/// Namespace and name of the public cluster information.
pub const NAMESPACE: &str = "kube-public";
/// See [`NAMESPACE`].
pub const NAME: &str = "cluster-info";
/// The controllers sign it when they see a new token.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// Finds the authority that `target` means and writes it to `path`.
pub async fn find_authority(target: &Target, path: &Path) -> anyhow::Result<()> {
    let config = RemoteConfig { server: target.server.clone(), unverified: true, ..RemoteConfig::default() };
    let maps: Api<ConfigMap> = Api::namespaced(client::remote(config)?, NAMESPACE);
    let mut complaint = anyhow::anyhow!("no answer");
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let read = match maps.get(NAME).await {
                Ok(info) => authority(info.data.unwrap_or_default(), &target.token),
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(pem) => return pem,
                Err(error) => complaint = error,
            }
            tokio::time::sleep(RETRY).await;
        }
    })
    .await;
    let Ok(pem) = found else {
        return Err(complaint.context(format!("the cluster information of {}", target.server)));
    };
    let unchecked = path.with_extension("unchecked");
    pki::write_public(&unchecked, pem.as_bytes())?;
    let hash = pki::public_key_hash(&unchecked)?;
    if !target.ca_hashes.contains(&hash) {
        let _ = std::fs::remove_file(&unchecked);
        bail!(
            "the authority of {} has the hash {hash}, which is not the one given with --ca-hash",
            target.server
        );
    }
    std::fs::rename(&unchecked, path).with_context(|| format!("write {}", path.display()))
}

/// The authority in the cluster information, in PEM, if the token has signed it.
fn authority(data: BTreeMap<String, String>, token: &Token) -> anyhow::Result<String> {
    let content = data.get("kubeconfig").context("it is not there yet")?;
    let signature = data
        .get(&format!("jws-kubeconfig-{}", token.id()))
        .with_context(|| format!("it is not signed by the token {}: is there such a token?", token.id()))?;
    if *signature != controllers::cluster_info_signature(content, token.id(), token.secret()) {
        bail!("the signature by the token {} is wrong", token.id());
    }
    let file = Kubeconfig::from_yaml(content).context("it is no kubeconfig")?;
    let cluster = file.clusters.into_iter().find_map(|named| named.cluster).context("it names no cluster")?;
    let encoded = cluster.certificate_authority_data.context("it has no authority")?;
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).context("its authority")?;
    String::from_utf8(pem).context("its authority")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_token_signed_is_believed() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let pem = base64::engine::general_purpose::STANDARD.encode("an authority");
        let content = serde_json::json!({"apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "", "cluster": {"server": "x", "certificate-authority-data": pem}}]});
        let content = content.to_string();
        let signature = controllers::cluster_info_signature(&content, token.id(), token.secret());
        let data = |content: &str, signature: &str| {
            let pairs = [("kubeconfig", content), ("jws-kubeconfig-abcdef", signature)];
            pairs.map(|(key, text)| (key.to_owned(), text.to_owned())).into_iter().collect()
        };
        assert_eq!(authority(data(&content, &signature), &token).unwrap(), "an authority");
        assert!(authority(data(&content.replace('x', "y"), &signature), &token).is_err());
        let other: Token = "abcdef.0123456789abcdee".parse().unwrap();
        assert!(authority(data(&content, &signature), &other).is_err());
        assert!(authority(BTreeMap::new(), &token).is_err());
    }
}
