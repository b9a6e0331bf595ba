//! Files in kubeconfig form that say where a webhook is.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderValue};
use schema::Value;

use super::{Endpoint, Trust};
use crate::Error;

/// The server and the credentials of the current context of a kubeconfig file.
pub fn from_kubeconfig(path: &Path) -> Result<Endpoint, Error> {
    let text = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    parse(&text, path).map_err(|reason| Error::Config { path: path.to_owned(), reason })
}

fn parse(text: &[u8], path: &Path) -> Result<Endpoint, String> {
    let config = codec::yaml::parse(text).map_err(|e| e.to_string())?;
    let context = named(&config, "contexts", config.str_at("current-context").unwrap_or_default());
    let context = context.map(|c| &c["context"]).ok_or("there is no current context")?;
    let cluster_name = context.str_at("cluster").unwrap_or_default();
    let cluster = named(&config, "clusters", cluster_name).map(|c| &c["cluster"]);
    let cluster = cluster.ok_or_else(|| format!("there is no cluster {cluster_name:?}"))?;
    let none = Value::Null;
    let user_name = context.str_at("user").unwrap_or_default();
    let user = named(&config, "users", user_name).map_or(&none, |u| &u["user"]);
    for missing in ["exec", "auth-provider"] {
        if !user[missing].is_null() {
            return Err(format!("user {user_name:?}: credentials by {missing} are not implemented"));
        }
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let chain = content(user, "client-certificate", folder)?;
    let key = content(user, "client-key", folder)?;
    let trust = Trust {
        authorities: content(cluster, "certificate-authority", folder)?.unwrap_or_default(),
        anybody: cluster.bool_at("insecure-skip-tls-verify") == Some(true),
        identity: chain.zip(key),
        identity_files: None,
    };
    let server = cluster.str_at("server").unwrap_or_default();
    let mut endpoint = Endpoint::new(server, &trust).map_err(|e| e.to_string())?;
    endpoint.tls.server_name = cluster.str_at("tls-server-name").filter(|n| !n.is_empty()).map(str::to_owned);
    if let Some(credentials) = credentials(user, folder)? {
        let mut value = HeaderValue::from_str(&credentials).map_err(|e| e.to_string())?;
        value.set_sensitive(true);
        endpoint.headers.insert(AUTHORIZATION, value);
    }
    Ok(endpoint)
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config.items_at(list).iter().find(|item| item.str_at("name") == Some(name))
}

/// What stands in `FIELD-data`, or in the file that `FIELD` names.
fn content(value: &Value, field: &str, folder: &Path) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = value.str_at(&format!("{field}-data")).filter(|d| !d.is_empty()) {
        return STANDARD.decode(data).map(Some).map_err(|e| format!("{field}-data: {e}"));
    }
    let Some(file) = value.str_at(field).filter(|f| !f.is_empty()) else { return Ok(None) };
    let file = folder.join(PathBuf::from(file));
    std::fs::read(&file).map(Some).map_err(|e| format!("{}: {e}", file.display()))
}

fn credentials(user: &Value, folder: &Path) -> Result<Option<String>, String> {
    if let Some(token) = user.str_at("token").filter(|t| !t.is_empty()) {
        return Ok(Some(format!("Bearer {token}")));
    }
    if let Some(file) = user.str_at("tokenFile").filter(|f| !f.is_empty()) {
        let file = folder.join(file);
        let token = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        return Ok(Some(format!("Bearer {}", token.trim())));
    }
    if let Some(name) = user.str_at("username").filter(|n| !n.is_empty()) {
        let pair = format!("{name}:{}", user.str_at("password").unwrap_or_default());
        return Ok(Some(format!("Basic {}", STANDARD.encode(pair))));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(String, Option<String>), String> {
        let endpoint = parse(text.as_bytes(), Path::new("/x/config"))?;
        let credentials = endpoint.headers.get(AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
        Ok((endpoint.url.to_string(), credentials))
    }

    #[test]
    fn the_current_context_says_where_to_ask() {
        let file = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
            clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1/x'}}]\n\
            users: [{name: u, user: {token: t}}]\n\
            contexts: [{name: a, context: {cluster: c, user: u}}]\n";
        assert_eq!(check(file), Ok(("http://127.0.0.1:1/x".to_owned(), Some("Bearer t".to_owned()))));
        assert_eq!(check("clusters: []"), Err("there is no current context".to_owned()));
        let exec = file.replace("token: t", "exec: {command: x}");
        assert_eq!(check(&exec).unwrap_err(), "user \"u\": credentials by exec are not implemented");
    }
}
