//! ServiceAccount: every pod has an account, and its containers the account's token.

use async_trait::async_trait;
use schema::{Value, value};

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour and a little, so that the token can be renewed at the hour (upstream's WarnOnlyBoundTokenExpirationPeriod).
const TOKEN_SECONDS: i64 = 3607;

/// See the module.
pub struct ServiceAccount;

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") || is_mirror(&attributes.object) {
            return Ok(());
        }
        if attributes.object.str_at("spec.serviceAccountName").is_none_or(str::is_empty) {
            attributes.object.set("spec.serviceAccountName", "default");
        }
        let account = find_account(attributes, registry)?;
        let name = account.str_at("metadata.name").unwrap_or_default().to_owned();
        attributes.object.set("spec.serviceAccount", name);
        if wants_token(&attributes.object, &account) {
            mount_token(&mut attributes.object);
        }
        if attributes.object.items_at("spec.imagePullSecrets").is_empty() {
            let secrets = account.items_at("imagePullSecrets");
            if !secrets.is_empty() {
                attributes.object.set("spec.imagePullSecrets", Value::List(secrets.to_vec()));
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        if is_mirror(&attributes.object) {
            let named =
                attributes.object.str_at("spec.serviceAccountName").is_some_and(|name| !name.is_empty());
            return match named {
                true => Err(attributes.forbidden("a mirror pod may not reference service accounts")),
                false => Ok(()),
            };
        }
        find_account(attributes, registry).map(drop)
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod.map_at("metadata.annotations").is_some_and(|annotations| annotations.contains_key(MIRROR))
}

fn find_account(attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<std::sync::Arc<Value>> {
    let name = attributes.object.str_at("spec.serviceAccountName").unwrap_or_default();
    let namespace = attributes.namespace;
    registry.require("", "serviceaccounts", namespace, name).map_err(|error| {
        // Upstream's lister names the kind where the API names the resource.
        let why = match error.code {
            404 => format!("serviceaccount {} not found", rules::quote(name)),
            _ => error.message,
        };
        attributes.forbidden(format!("error looking up service account {namespace}/{name}: {why}"))
    })
}

fn wants_token(pod: &Value, account: &Value) -> bool {
    let of_pod = pod.bool_at("spec.automountServiceAccountToken");
    of_pod.or(account.bool_at("automountServiceAccountToken")).unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = pod.items_at("spec.volumes").iter().filter_map(|v| v.str_at("name"));
    let existing = existing.filter(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned).next();
    let name = existing.clone().unwrap_or_else(|| crate::registry::meta::generate_name(VOLUME_PREFIX));
    let mut mounted = false;
    for list in ["spec.initContainers", "spec.containers"] {
        let Some(Value::List(containers)) = pod.at_mut(list) else { continue };
        for container in containers {
            let has =
                container.items_at("volumeMounts").iter().any(|m| m.str_at("mountPath") == Some(MOUNT_PATH));
            if !has {
                let mount = value!({"name": (name.as_str()), "readOnly": true, "mountPath": MOUNT_PATH});
                container.make_map().entry_list("volumeMounts").push(mount);
                mounted = true;
            }
        }
    }
    if mounted
        && existing.is_none()
        && let Some(spec) = pod.get_mut("spec")
    {
        spec.make_map().entry_list("volumes").push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    value!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                ]}}
            ]
        }
    })
}
