//! Publishes the cluster's certificate authority in every namespace as ConfigMap `kube-root-ca.crt` (upstream's
//! rootcacertpublisher): what pods verify the API server with.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{ObjectKey, Outcome, Selector, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::Error;
use crate::common::api;
use crate::common::watching::watch_keys;
use crate::context::Context;
use crate::service_account::is_active;

/// The ConfigMap's name.
const NAME: &str = "kube-root-ca.crt";
/// Its only key.
const DATA_KEY: &str = "ca.crt";
/// Tells readers what it is for.
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions \
of Kubernetes clusters.";

/// What is to be written into an active namespace.
#[derive(Debug, PartialEq)]
enum Action {
    Create(ConfigMap),
    Update(ConfigMap),
}

fn plan(ca: &str, existing: Option<&ConfigMap>) -> Option<Action> {
    let data = Some(BTreeMap::from([(DATA_KEY.to_owned(), ca.to_owned())]));
    let description = BTreeMap::from([(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned())]);
    let Some(existing) = existing else {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            annotations: Some(description),
            ..ObjectMeta::default()
        };
        return Some(Action::Create(ConfigMap { metadata, data, ..ConfigMap::default() }));
    };
    let described = existing.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(DESCRIPTION_KEY));
    if existing.data == data && described {
        return None;
    }
    let mut wanted = ConfigMap { data, ..existing.clone() };
    wanted.metadata.annotations.get_or_insert_default().extend(description);
    Some(Action::Update(wanted))
}

/// Starts the controller; without `root_ca_file` there is nothing to publish.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let Some(path) = context.config.root_ca_file.clone() else {
        tracing::info!("no root CA file is configured, kube-root-ca.crt is not published");
        return Ok(());
    };
    let ca = std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
    let namespaces = context.informers.get::<Namespace>();
    let maps = context.informers.get_selected::<ConfigMap>(Selector::fields(format!("metadata.name={NAME}")));
    let queue = WorkQueue::new("root-ca");
    watch_keys(&namespaces, &queue);
    let changed = queue.clone();
    maps.on_event(move |event| {
        let map = event.object();
        if map.metadata.name.as_deref() == Some(NAME) {
            changed.add(ObjectKey::cluster(map.metadata.namespace.clone().unwrap_or_default()));
        }
    });
    namespaces.synced().await;
    maps.synced().await;
    let (namespaces, maps, client) = (namespaces.cache(), maps.cache(), context.client.clone());
    let ca: Arc<str> = ca.into();
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (namespaces, maps, client, ca) = (namespaces.clone(), maps.clone(), client.clone(), ca.clone());
        async move {
            if !namespaces.get_key(&key).is_some_and(|n| is_active(&n)) {
                return Ok(Outcome::Done);
            }
            match plan(&ca, maps.get(Some(&key.name), NAME).as_deref()) {
                Some(action) => act(client, &key.name, action).await,
                None => Ok(Outcome::Done),
            }
        }
    });
    Ok(())
}

async fn act(client: kube::Client, namespace: &str, action: Action) -> Result<Outcome, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let written = match &action {
        Action::Create(map) => maps.create(&PostParams::default(), map).await,
        Action::Update(map) => maps.replace(NAME, &PostParams::default(), map).await,
    };
    match written {
        Ok(_) => Ok(Outcome::Done),
        Err(error)
            if api::is_already_exists(&error)
                || api::is_namespace_terminating(&error)
                || api::is_not_found(&error) =>
        {
            Ok(Outcome::Done)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_once_and_repaired() {
        let Some(Action::Create(map)) = plan("CA", None) else { panic!() };
        assert_eq!(map.data.as_ref().unwrap()[DATA_KEY], "CA");
        assert_eq!(plan("CA", Some(&map)), None);
        let Some(Action::Update(repaired)) = plan("NEW", Some(&map)) else { panic!() };
        assert_eq!(repaired.data.unwrap()[DATA_KEY], "NEW");
    }
}
