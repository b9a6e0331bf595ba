//! Fills Secrets of type service-account-token, and removes those whose account is gone (upstream's tokens controller).

mod jwt;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Cache, ObjectKey, Outcome, Selector, WorkQueue, run_workers};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use self::jwt::{Claims, Signer};
use crate::Error;
use crate::common::api;
use crate::common::watching::watch_keys;
use crate::context::Context;

pub(crate) use self::jwt::base64url;

const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const NAME_ANNOTATION: &str = "kubernetes.io/service-account.name";
const UID_ANNOTATION: &str = "kubernetes.io/service-account.uid";

/// What is to be done with a Secret.
#[derive(Debug, PartialEq)]
enum Action {
    Delete,
    Fill(BTreeMap<String, Vec<u8>>),
}

/// The account that a Secret names.
fn account_of(secret: &Secret) -> Option<&str> {
    secret.metadata.annotations.as_ref()?.get(NAME_ANNOTATION).map(String::as_str).filter(|n| !n.is_empty())
}

fn plan(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    ca: Option<&[u8]>,
    token: impl FnOnce() -> Option<String>,
) -> Option<Action> {
    account_of(secret)?;
    let Some(account) = account else { return Some(Action::Delete) };
    let uid = secret.metadata.annotations.as_ref().and_then(|a| a.get(UID_ANNOTATION));
    if uid.is_some_and(|uid| Some(uid) != account.metadata.uid.as_ref()) {
        return Some(Action::Delete);
    }
    let present = |key: &str| {
        secret.data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.as_slice()).filter(|v| !v.is_empty())
    };
    let mut missing = BTreeMap::new();
    if let Some(ca) = ca.filter(|ca| present("ca.crt") != Some(*ca)) {
        missing.insert("ca.crt".to_owned(), ca.to_vec());
    }
    if present("namespace").is_none() {
        missing.insert(
            "namespace".to_owned(),
            secret.metadata.namespace.clone().unwrap_or_default().into_bytes(),
        );
    }
    if present("token").is_none()
        && let Some(token) = token()
    {
        missing.insert("token".to_owned(), token.into_bytes());
    }
    (!missing.is_empty() || uid.is_none()).then_some(Action::Fill(missing))
}

struct Controller {
    client: kube::Client,
    secrets: Cache<Secret>,
    accounts: Cache<ServiceAccount>,
    signer: Signer,
    ca: Option<Vec<u8>>,
}

/// Starts the controller, if there is a key to sign with.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let Some(path) = context.config.service_account_key_file.clone() else {
        tracing::info!("no service account key is configured, Secrets get no tokens");
        return Ok(());
    };
    let key = pki::read_key(&path)?;
    let signer = Signer::new(key.secret_der())
        .ok_or_else(|| Error::Again(format!("{}: neither a P-256 nor an RSA key", path.display())))?;
    let ca = match &context.config.root_ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source })?),
        None => None,
    };
    let secrets = context.informers.get_selected::<Secret>(Selector::fields(format!("type={SECRET_TYPE}")));
    let accounts = context.informers.get::<ServiceAccount>();
    let queue = WorkQueue::new("service-account-tokens");
    watch_keys(&secrets, &queue);
    let (of_accounts, cache) = (queue.clone(), secrets.cache());
    accounts.on_event(move |event| {
        let account = event.object();
        let of_namespace = cache.list_namespace(account.metadata.namespace.as_deref().unwrap_or_default());
        for secret in of_namespace.iter().filter(|s| account_of(s) == account.metadata.name.as_deref()) {
            of_accounts.add(ObjectKey::of(secret.as_ref()));
        }
    });
    secrets.synced().await;
    accounts.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        secrets: secrets.cache(),
        accounts: accounts.cache(),
        signer,
        ca,
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(secret) = self.secrets.get_key(key).filter(|s| s.type_.as_deref() == Some(SECRET_TYPE))
        else {
            return Ok(Outcome::Done);
        };
        let Some(name) = account_of(&secret) else { return Ok(Outcome::Done) };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let account = match self.accounts.get(key.namespace.as_deref(), name) {
            Some(account) => Some(ServiceAccount::clone(&account)),
            // The cache may be behind, and a deleted token does not come back.
            None => accounts.get_opt(name).await?,
        };
        let uid = account.as_ref().and_then(|a| a.metadata.uid.clone()).unwrap_or_default();
        let claims =
            Claims { namespace: key.namespace_or_empty(), secret: &key.name, account: name, uid: &uid };
        let planned = plan(&secret, account.as_ref(), self.ca.as_deref(), || self.signer.token(&claims));
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        match planned {
            None => {}
            Some(Action::Delete) => {
                let options = api::delete_uid(secret.metadata.uid.as_ref());
                api::ignore_not_found(secrets.delete(&key.name, &options).await)?;
            }
            Some(Action::Fill(missing)) => {
                let mut filled = Secret::clone(&secret);
                let data = filled.data.get_or_insert_default();
                data.extend(missing.into_iter().map(|(key, value)| (key, ByteString(value))));
                filled
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(UID_ANNOTATION.to_owned(), uid.clone());
                api::ignore_not_found(secrets.replace(&key.name, &PostParams::default(), &filled).await)?;
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::{Value, json};

    #[test]
    fn secrets_are_filled_or_removed() {
        let account: ServiceAccount = object(json!({"metadata": {"name": "a", "uid": "u"}}));
        let secret = |annotations: Value, data: Value| -> Secret {
            object(
                json!({"metadata": {"name": "s", "namespace": "ns", "annotations": annotations}, "data": data}),
            )
        };
        let named = json!({NAME_ANNOTATION: "a"});
        let run = |secret: &Secret, account: Option<&ServiceAccount>| {
            plan(secret, account, Some(b"CA"), || Some("T".to_owned()))
        };
        assert_eq!(run(&secret(json!({}), json!({})), None), None);
        assert_eq!(run(&secret(named.clone(), json!({})), None), Some(Action::Delete));
        let stranger = json!({NAME_ANNOTATION: "a", UID_ANNOTATION: "other"});
        assert_eq!(run(&secret(stranger, json!({})), Some(&account)), Some(Action::Delete));
        let Some(Action::Fill(data)) = run(&secret(named, json!({})), Some(&account)) else { panic!() };
        assert_eq!(data.keys().map(String::as_str).collect::<Vec<_>>(), ["ca.crt", "namespace", "token"]);
        let full = secret(
            json!({NAME_ANNOTATION: "a", UID_ANNOTATION: "u"}),
            json!({"ca.crt": "Q0E=", "namespace": "bnM=", "token": "VA=="}),
        );
        assert_eq!(run(&full, Some(&account)), None);
    }
}
