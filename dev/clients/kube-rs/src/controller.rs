//! The controller: a config map for each bed of a garden, by server-side apply, and a status that counts them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event as Told, EventType, Recorder};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::garden::Garden;

pub const FINALIZER: &str = "kube-rs.example.com/harvest";
pub const MANAGER: &str = "gardener";
/// Where the controller notes what it has harvested.
pub const DIARY: &str = "diary";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("finalizer: {0}")]
    Finalizer(#[source] Box<kube::runtime::finalizer::Error<Error>>),
}

struct Context {
    client: Client,
    recorder: Recorder,
}

/// Runs for as long as it is polled.
pub async fn run(client: Client, namespace: &str) {
    let gardens: Api<Garden> = Api::namespaced(client.clone(), namespace);
    let children: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let recorder = Recorder::new(client.clone(), MANAGER.into());
    Controller::new(gardens, watcher::Config::default())
        .owns(children, watcher::Config::default())
        .run(reconcile, on_error, Arc::new(Context { client, recorder }))
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                eprintln!("controller: {error}");
            }
        })
        .await;
}

fn on_error(_: Arc<Garden>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(Duration::from_millis(200))
}

async fn reconcile(garden: Arc<Garden>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = garden.namespace().unwrap_or_default();
    let gardens: Api<Garden> = Api::namespaced(context.client.clone(), &namespace);
    finalizer(&gardens, FINALIZER, garden, |event| async {
        match event {
            Event::Apply(garden) => plant(&garden, &gardens, &namespace, &context).await,
            Event::Cleanup(garden) => harvest(&garden, &namespace, &context).await,
        }
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

async fn plant(
    garden: &Garden,
    gardens: &Api<Garden>,
    namespace: &str,
    context: &Context,
) -> Result<Action, Error> {
    let children: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let apply = PatchParams::apply(MANAGER);
    for bed in &garden.spec.beds {
        let name = format!("{}-{bed}", garden.name_any());
        let child = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": {"garden": garden.name_any()},
                "ownerReferences": [garden.controller_owner_ref(&())],
            },
            "data": {"bed": bed},
        });
        children.patch(&name, &apply, &Patch::Apply(child)).await?;
    }
    let own = ListParams::default().labels(&format!("garden={}", garden.name_any()));
    for child in children.list(&own).await? {
        let bed = child.data.as_ref().and_then(|data| data.get("bed")).cloned().unwrap_or_default();
        if !garden.spec.beds.contains(&bed) {
            children.delete(&child.name_any(), &DeleteParams::default()).await?;
        }
    }
    let planted = garden.spec.beds.len() as i64;
    let before = garden.status.as_ref().map(|status| status.planted);
    let status = json!({"status": {"planted": planted, "observedGeneration": garden.metadata.generation}});
    gardens.patch_status(&garden.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    if before != Some(planted) {
        let told = Told {
            type_: EventType::Normal,
            reason: "Planted".to_owned(),
            note: Some(format!("{planted} beds")),
            action: "Plant".to_owned(),
            secondary: None,
        };
        context.recorder.publish(&told, &garden.object_ref(&())).await?;
    }
    Ok(Action::await_change())
}

async fn harvest(garden: &Garden, namespace: &str, context: &Context) -> Result<Action, Error> {
    let diary: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let page = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": DIARY},
        "data": {garden.name_any(): "harvested"},
    });
    diary.patch(DIARY, &PatchParams::apply(MANAGER), &Patch::Apply(page)).await?;
    Ok(Action::await_change())
}
