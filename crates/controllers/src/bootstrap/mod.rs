//! Bootstrap tokens: signs the public cluster information with them, and removes expired ones (upstream's bootstrap
//! signer and token cleaner).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{ObjectKey, Outcome, Selector, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, time};
use crate::context::Context;
use crate::token_secrets::base64url;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const SECRET_NAMESPACE: &str = "kube-system";
const SECRET_PREFIX: &str = "bootstrap-token-";
const INFO_NAMESPACE: &str = "kube-public";
const INFO_NAME: &str = "cluster-info";
const KUBECONFIG_KEY: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

fn text(secret: &Secret, key: &str) -> String {
    let value = secret.data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.clone()).unwrap_or_default();
    String::from_utf8(value).unwrap_or_default()
}

/// How long until a token expires; zero if it has, None if it does not.
fn expires_in(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let at: Timestamp = text(secret, "expiration").parse().ok()?;
    Some(time::until(now, at))
}

/// Id and secret of a token that may sign.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let (id, key) = (text(secret, "token-id"), text(secret, "token-secret"));
    let named = secret.metadata.name.as_deref() == Some(&format!("{SECRET_PREFIX}{id}"));
    let expired = expires_in(secret, now).is_some_and(|left| left.is_zero());
    let usable = secret.type_.as_deref() == Some(SECRET_TYPE) && named && !key.is_empty() && !expired;
    (usable && text(secret, "usage-bootstrap-signing") == "true").then_some((id, key))
}

/// A detached JSON web signature (HS256) of `content`, the public cluster information, by the token of this id and key.
pub fn signature(content: &str, id: &str, key: &str) -> String {
    let header = base64url(json!({"alg": "HS256", "kid": id}).to_string().as_bytes());
    let message = format!("{header}.{}", base64url(content.as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    format!("{header}..{}", base64url(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
}

/// The content that the cluster information is to have; None if it has it.
fn plan(info: &ConfigMap, secrets: &[Arc<Secret>], now: Timestamp) -> Option<BTreeMap<String, String>> {
    let before = info.data.clone().unwrap_or_default();
    let content = before.get(KUBECONFIG_KEY)?;
    let mut wanted: BTreeMap<String, String> = before
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for (id, key) in secrets.iter().filter_map(|s| signing_token(s, now)) {
        wanted.insert(format!("{SIGNATURE_PREFIX}{id}"), signature(content, &id, &key));
    }
    (wanted != before).then_some(wanted)
}

fn tokens() -> Selector {
    Selector::fields(format!("type={SECRET_TYPE}"))
}

fn is_token(secret: &Secret) -> bool {
    secret.metadata.namespace.as_deref() == Some(SECRET_NAMESPACE)
        && secret.type_.as_deref() == Some(SECRET_TYPE)
}

/// Starts the signer.
pub(crate) async fn start_signing(context: Context) -> Result<(), Error> {
    let secrets = context.informers.get_selected::<Secret>(tokens());
    let infos =
        context.informers.get_selected::<ConfigMap>(Selector::fields(format!("metadata.name={INFO_NAME}")));
    let queue = WorkQueue::new("bootstrap-signer");
    let key = || ObjectKey::namespaced(INFO_NAMESPACE, INFO_NAME);
    let (of_secrets, of_infos) = (queue.clone(), queue.clone());
    secrets.on_event(move |_| of_secrets.add(key()));
    infos.on_event(move |_| of_infos.add(key()));
    secrets.synced().await;
    infos.synced().await;
    let (secrets, infos, client) = (secrets.cache(), infos.cache(), context.client.clone());
    run_workers(&context.scope, queue, 1, move |key: ObjectKey| {
        let (secrets, infos, client) = (secrets.clone(), infos.clone(), client.clone());
        async move {
            let tokens = secrets.list_where(is_token);
            let planned =
                infos.get_key(&key).and_then(|info| Some((plan(&info, &tokens, time::now())?, info)));
            if let Some((data, info)) = planned {
                let maps: Api<ConfigMap> = Api::namespaced(client, INFO_NAMESPACE);
                let wanted = ConfigMap { data: Some(data), ..ConfigMap::clone(&info) };
                api::ignore_not_found(maps.replace(INFO_NAME, &PostParams::default(), &wanted).await)?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

/// Starts the cleaner.
pub(crate) async fn start_cleaning(context: Context) -> Result<(), Error> {
    let secrets = context.informers.get_selected::<Secret>(tokens());
    let queue = WorkQueue::new("token-cleaner");
    watch_keys(&secrets, &queue);
    secrets.synced().await;
    let (cache, client) = (secrets.cache(), context.client.clone());
    run_workers(&context.scope, queue, 1, move |key: ObjectKey| {
        let (secret, client) = (cache.get_key(&key).filter(|s| is_token(s)), client.clone());
        async move {
            let left = secret.as_ref().and_then(|s| expires_in(s, time::now()));
            match (secret, left) {
                (Some(secret), Some(left)) if left.is_zero() => {
                    let secrets: Api<Secret> = Api::namespaced(client, SECRET_NAMESPACE);
                    let options = api::delete_uid(secret.metadata.uid.as_ref());
                    api::ignore_not_found(secrets.delete(&key.name, &options).await)?;
                    Ok::<_, Error>(Outcome::Done)
                }
                (Some(_), Some(left)) => Ok(Outcome::RequeueAfter(left)),
                _ => Ok(Outcome::Done),
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use k8s_openapi::ByteString;

    fn token(id: &str, expiration: &str) -> Arc<Secret> {
        let mut secret: Secret =
            object(json!({"metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "type": SECRET_TYPE}));
        let data = [
            ("token-id", id),
            ("token-secret", "s3cret"),
            ("usage-bootstrap-signing", "true"),
            ("expiration", expiration),
        ];
        secret.data =
            Some(data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.as_bytes().to_vec()))).collect());
        Arc::new(secret)
    }

    #[test]
    fn live_tokens_sign_and_others_do_not() {
        let info: ConfigMap =
            object(json!({"metadata": {}, "data": {"kubeconfig": "x", "jws-kubeconfig-old": "y"}}));
        let tokens = [token("abcdef", "2026-01-02T00:00:00Z"), token("dead00", "2026-01-01T00:00:00Z")];
        let now = at("2026-01-01T12:00:00Z");
        let data = plan(&info, &tokens, now).unwrap();
        assert_eq!(
            data.keys().map(String::as_str).collect::<Vec<_>>(),
            ["jws-kubeconfig-abcdef", "kubeconfig"]
        );
        let signed = ConfigMap { data: Some(data), ..info };
        assert_eq!(plan(&signed, &tokens, now), None);
        assert_eq!(expires_in(&tokens[0], now).unwrap().as_secs(), 12 * 3600);
    }
}
