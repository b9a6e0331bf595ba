//! A program on kube-rs as its users write them: a custom resource with rules, two versions and a conversion webhook; a
//! controller for it with finalizers, applied children, status and events; and a leader's lease. It takes the cluster of
//! `KUBECONFIG`, plays its story, and ends with 0 if all was as it should be.

mod controller;
mod conversion;
mod garden;

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use garden::{GROUP, Garden, GardenSpec};

const NAMESPACE: &str = "kube-rs";
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // Two providers could be chosen by features of dependencies; this says which.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::time::timeout(LIMIT, story()).await.context("not done in time")?
}

async fn story() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    ensure!(client.apiserver_version().await?.minor.starts_with("36"));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let webhook = conversion::serve().await?;
    define(&client, &webhook).await?;
    let lead = lead(&client, "one").await?;
    ensure!(lead, "the lease is free");
    ensure!(!self::lead(&client, "two").await?, "the lease is taken");
    let running = tokio::spawn({
        let client = client.clone();
        async move { controller::run(client, NAMESPACE).await }
    });
    rules(&client).await?;
    versions(&client).await?;
    changes(&client).await?;
    end(&client).await?;
    ensure!(webhook.converted.load(Ordering::SeqCst) > 0, "the webhook was asked");
    running.abort();
    println!("the controller on kube-rs works");
    Ok(())
}

async fn define(client: &Client, webhook: &conversion::Webhook) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = garden::definition(&webhook.url, &webhook.authority)?;
    let name = definition.name_any();
    let apply = PatchParams::apply(controller::MANAGER).force();
    definitions.patch(&name, &apply, &Patch::Apply(&definition)).await?;
    await_condition(definitions, &name, conditions::is_crd_established()).await?;
    Ok(())
}

/// Takes the lease for `holder` if nobody has it.
async fn lead(client: &Client, holder: &str) -> anyhow::Result<bool> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let spec = json!({
        "holderIdentity": holder, "leaseDurationSeconds": 15, "acquireTime": now, "renewTime": now, "leaseTransitions": 1,
    });
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "gardener"}, "spec": spec}))?;
    match leases.create(&PostParams::default(), &lease).await {
        Ok(made) => {
            // It is prolonged once, and not by somebody who has not seen that.
            let mut renewed = made.clone();
            if let Some(spec) = &mut renewed.spec {
                spec.renew_time = Some(MicroTime(Timestamp::now()));
            }
            leases.replace("gardener", &PostParams::default(), &renewed).await?;
            let late = leases.replace("gardener", &PostParams::default(), &made).await;
            refused(late, 409, "the object has been modified")?;
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(other) => Err(other.into()),
    }
}

fn refused<T>(outcome: kube::Result<T>, code: u16, why: &str) -> anyhow::Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == code && status.message.contains(why) => Ok(()),
        Err(other) => bail!("should be refused with {code} {why:?}, was with {other:?}"),
        Ok(_) => bail!("should be refused with {code} {why:?}"),
    }
}

fn garden(name: &str, owner: &str, beds: &[&str]) -> Garden {
    let beds = beds.iter().map(|bed| (*bed).to_owned()).collect();
    let mut garden = Garden {
        api_version: format!("{GROUP}/v1"),
        kind: "Garden".to_owned(),
        spec: GardenSpec { owner: owner.to_owned(), beds, max_beds: None },
        ..Garden::default()
    };
    garden.metadata.name = Some(name.to_owned());
    garden
}

/// Rules of the definition, with defaults before them.
async fn rules(client: &Client) -> anyhow::Result<()> {
    let gardens: Api<Garden> = Api::namespaced(client.clone(), NAMESPACE);
    let create = PostParams::default();
    let full = garden("full", "ann", &["a", "b", "c", "d"]);
    refused(gardens.create(&create, &full).await, 422, "a garden has at most 3 beds")?;
    let twice = garden("twice", "ann", &["a", "a"]);
    refused(gardens.create(&create, &twice).await, 422, "Duplicate value")?;
    let made = gardens.create(&create, &garden("front", "ann", &["rose", "mint"])).await?;
    ensure!(made.spec.max_beds == Some(3), "the default is there");
    let sold = Patch::Merge(json!({"spec": {"owner": "bob"}}));
    refused(gardens.patch("front", &PatchParams::default(), &sold).await, 422, "a garden keeps its owner")?;
    planted(&gardens, "front", 2).await
}

/// Waits until the controller has planted what the garden has now.
async fn planted(gardens: &Api<Garden>, name: &str, beds: i64) -> anyhow::Result<()> {
    let done = |garden: Option<&Garden>| {
        garden.is_some_and(|garden| {
            let status = garden.status.as_ref();
            status.is_some_and(|s| {
                s.planted == beds && Some(s.observed_generation) == garden.metadata.generation
            })
        })
    };
    await_condition(gardens.clone(), name, done).await.with_context(|| format!("{name} is planted"))?;
    Ok(())
}

/// The older version, through the webhook both ways.
async fn versions(client: &Client) -> anyhow::Result<()> {
    let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", "Garden");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gardens");
    let old: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    let new: Api<Garden> = Api::namespaced(client.clone(), NAMESPACE);
    let mut object = DynamicObject::new("back", &resource);
    object.data = json!({"spec": {"owner": "bob", "list": "fern,moss"}});
    let made = old.create(&PostParams::default(), &object).await?;
    ensure!(made.data["spec"]["list"] == "fern,moss", "{made:?}");
    ensure!(new.get("back").await?.spec.beds == ["fern", "moss"]);
    let listed = old.list(&ListParams::default()).await?;
    let front = listed.iter().find(|object| object.name_any() == "front").context("both are listed")?;
    ensure!(front.data["spec"]["list"] == "rose,mint", "{front:?}");
    object.metadata.name = Some("wrong".to_owned());
    object.data["spec"]["list"] = json!("fern,,moss");
    refused(old.create(&PostParams::default(), &object).await, 500, "a bed has no name")?;
    object.data["spec"]["list"] = json!("a,b,c,d");
    refused(old.create(&PostParams::default(), &object).await, 422, "a garden has at most 3 beds")?;
    planted(&new, "back", 2).await
}

/// What the controller made, and what it does when a garden changes.
async fn changes(client: &Client) -> anyhow::Result<()> {
    let gardens: Api<Garden> = Api::namespaced(client.clone(), NAMESPACE);
    let children: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let child = children.get("front-rose").await?;
    ensure!(child.owner_references()[0].controller == Some(true));
    let manager = &child.managed_fields()[0];
    ensure!(
        manager.manager.as_deref() == Some(controller::MANAGER)
            && manager.operation.as_deref() == Some("Apply")
    );
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"bed": "weed"}});
    let foreign = children.patch("front-rose", &PatchParams::apply("somebody"), &Patch::Apply(foreign)).await;
    refused(foreign, 409, "conflict with \"gardener\"")?;

    let watch = WatchParams::default().labels("garden=front");
    let from = children.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = children.watch(&watch, &from).await?.boxed();
    let patch = Patch::Merge(json!({"spec": {"beds": ["rose"]}}));
    gardens.patch("front", &PatchParams::default(), &patch).await?;
    loop {
        match events.next().await.context("the watch goes on")?? {
            WatchEvent::Deleted(gone) if gone.name_any() == "front-mint" => break,
            WatchEvent::Error(error) => bail!("{error:?}"),
            _ => {}
        }
    }
    planted(&gardens, "front", 1).await?;
    // A child that somebody takes away comes back.
    children.delete("front-rose", &DeleteParams::default()).await?;
    await_condition(children, "front-rose", |child: Option<&ConfigMap>| child.is_some()).await?;
    let told: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let told = told.list(&ListParams::default().fields("reason=Planted")).await?;
    ensure!(told.iter().any(|event| event.note.as_deref() == Some("2 beds")), "{told:?}");
    Ok(())
}

/// A garden goes only after it was harvested.
async fn end(client: &Client) -> anyhow::Result<()> {
    let gardens: Api<Garden> = Api::namespaced(client.clone(), NAMESPACE);
    let front = gardens.get("front").await?;
    ensure!(front.finalizers() == [controller::FINALIZER]);
    gardens.delete("front", &DeleteParams::default()).await?;
    let uid = front.uid().unwrap_or_default();
    await_condition(gardens.clone(), "front", conditions::is_deleted(&uid)).await?;
    let diary: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let page = diary.get(controller::DIARY).await?;
    ensure!(page.data.unwrap_or_default().get("front").map(String::as_str) == Some("harvested"));
    let rest: Vec<Value> =
        gardens.list(&ListParams::default()).await?.iter().map(|g| json!(g.name_any())).collect();
    ensure!(rest == ["back"], "{rest:?}");
    Ok(())
}
