//! Credentials of registries from a pod's image pull secrets.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use proto::cri::v1::AuthConfig;
use serde::Deserialize;

const DOCKER_CONFIG_JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
const DOCKER_CFG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

/// What the secrets hold for the image repository (`host/path`), best match first. Secrets of other types are passed
/// over.
pub fn for_repository(secrets: &[Secret], repository: &str) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for (address, entry) in secrets.iter().flat_map(entries) {
        let key = normalized(&address);
        if matches(&key, repository) {
            found.push((key.len(), auth(entry, address)));
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data =
        |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice()).unwrap_or_default();
    match secret.type_.as_deref() {
        Some(kind) if kind == DOCKER_CONFIG_JSON.0 => {
            serde_json::from_slice::<DockerConfigJson>(data(DOCKER_CONFIG_JSON.1))
                .map(|c| c.auths)
                .unwrap_or_default()
        }
        Some(kind) if kind == DOCKER_CFG.0 => serde_json::from_slice(data(DOCKER_CFG.1)).unwrap_or_default(),
        _ => BTreeMap::new(),
    }
}

/// `https://index.docker.io/v1/` and the like as `host/path`.
fn normalized(address: &str) -> String {
    let bare = address.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare.split_once('/') {
        None if bare == "index.docker.io" => "docker.io".to_owned(),
        Some(("index.docker.io", path)) => format!("docker.io/{path}"),
        _ => bare.to_owned(),
    }
}

/// The host matches part by part, `*` standing within one part; the path is a prefix by whole parts.
fn matches(key: &str, repository: &str) -> bool {
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let host_matches = key_host.split('.').count() == host.split('.').count()
        && key_host.split('.').zip(host.split('.')).all(|(pattern, part)| glob(pattern, part));
    let path_matches = key_path.is_empty()
        || path.strip_prefix(key_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    host_matches && path_matches
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        }
    }
}

fn auth(entry: Entry, address: String) -> AuthConfig {
    let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = match pair {
        Some((username, password)) if entry.username.is_empty() => (username.to_owned(), password.to_owned()),
        _ => (entry.username, entry.password),
    };
    AuthConfig {
        username,
        password,
        identity_token: entry.identitytoken,
        server_address: address,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_entry_comes_first() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:pass:word")},
            "reg.io": {"username": "all", "password": "p"},
            "reg.io/team": {"username": "team", "password": "p"},
            "*.corp.io": {"username": "corp", "password": "p"},
        }});
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": STANDARD.encode(config.to_string())},
        }))
        .unwrap();
        for (repository, expected) in [
            ("docker.io/library/nginx", "hub/pass:word"),
            ("reg.io/team/app", "team/p all/p"),
            ("reg.io/teams/app", "all/p"),
            ("a.corp.io/x", "corp/p"),
            ("corp.io/x", ""),
        ] {
            let found = for_repository(std::slice::from_ref(&secret), repository);
            let shown: Vec<_> = found.iter().map(|a| format!("{}/{}", a.username, a.password)).collect();
            assert_eq!(shown.join(" "), expected, "{repository}");
        }
    }
}
