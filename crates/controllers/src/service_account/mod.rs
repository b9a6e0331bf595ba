//! Keeps the ServiceAccount `default` in every namespace (upstream's ServiceAccountsController).

use std::sync::Arc;

use client::{Event, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::Error;
use crate::common::api;
use crate::common::watching::watch_keys;
use crate::context::Context;

/// Accounts that every namespace has.
const ACCOUNTS: [&str; 1] = ["default"];

/// The names of those that are missing in an active namespace, given those that exist.
fn plan(namespace: &Namespace, exists: impl Fn(&str) -> bool) -> Vec<&'static str> {
    if !is_active(namespace) {
        return Vec::new();
    }
    ACCOUNTS.into_iter().filter(|name| !exists(name)).collect()
}

/// True if things may still be made in it.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.is_none_or(|p| p == "Active") && namespace.metadata.deletion_timestamp.is_none()
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let namespaces = context.informers.get::<Namespace>();
    let accounts = context.informers.get::<ServiceAccount>();
    let queue = WorkQueue::new("serviceaccount");
    watch_keys(&namespaces, &queue);
    let deleted = queue.clone();
    accounts.on_event(move |event| {
        if let Event::Deleted(account) = event {
            deleted.add(ObjectKey::cluster(account.metadata.namespace.clone().unwrap_or_default()));
        }
    });
    namespaces.synced().await;
    accounts.synced().await;
    let (namespaces, accounts) = (namespaces.cache(), accounts.cache());
    let client = Arc::new(context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (namespaces, accounts, client) = (namespaces.clone(), accounts.clone(), client.clone());
        async move {
            let Some(namespace) = namespaces.get_key(&key) else { return Ok(Outcome::Done) };
            for name in plan(&namespace, |name| accounts.get(Some(&key.name), name).is_some()) {
                create(&client, &key.name, name).await?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

async fn create(client: &kube::Client, namespace: &str, name: &str) -> Result<(), kube::Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    match accounts.create(&PostParams::default(), &account).await {
        Err(error)
            if !api::is_already_exists(&error)
                && !api::is_namespace_terminating(&error)
                && !api::is_not_found(&error) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn active_namespaces_get_their_account() {
        for (phase, exists, expected) in
            [("Active", false, vec!["default"]), ("Active", true, vec![]), ("Terminating", false, vec![])]
        {
            let namespace = object(json!({"metadata": {"name": "ns"}, "status": {"phase": phase}}));
            assert_eq!(plan(&namespace, |_| exists), expected, "{phase} {exists}");
        }
    }
}
