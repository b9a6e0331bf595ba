//! Who controls what: owner references, adoption and release (upstream's ControllerRefManager).

use std::fmt::Debug;
use std::sync::Arc;

use client::{Cache, Informer, Kind, ObjectKey};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::api;

/// A namespaced kind of `k8s-openapi`.
pub trait Namespaced:
    Kind + k8s_openapi::Resource + kube::Resource<Scope = NamespaceResourceScope> + serde::Serialize
{
}

impl<K: Kind + k8s_openapi::Resource + kube::Resource<Scope = NamespaceResourceScope> + serde::Serialize>
    Namespaced for K
{
}

/// Index of an informer by controlling owner; see [`index_by_controller`].
const CONTROLLER_INDEX: &str = "controller";

/// The owner reference that says who controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|r| r.controller == Some(true))
}

/// The reference by which `owner` controls an object and blocks its own deletion until that is gone.
pub fn controller_reference<O: Kind + k8s_openapi::Resource>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        kind: O::KIND.to_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// True if `reference` is to a kind of this type, in any version.
pub fn refers_to_kind<O: k8s_openapi::Resource>(reference: &OwnerReference) -> bool {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    reference.kind == O::KIND && group == O::GROUP
}

/// The cached owner that `reference`, found in `namespace`, means: same kind, name and uid.
pub fn resolve<O: Kind + k8s_openapi::Resource>(
    owners: &Cache<O>,
    namespace: Option<&str>,
    reference: &OwnerReference,
) -> Option<Arc<O>> {
    if !refers_to_kind::<O>(reference) {
        return None;
    }
    owners.get(namespace, &reference.name).filter(|o| o.meta().uid.as_deref() == Some(&reference.uid))
}

/// Makes [`candidates`] quick for this kind.
pub fn index_by_controller<K: Kind>(informer: &Informer<K>) {
    informer.add_index(CONTROLLER_INDEX, |object| {
        let meta = object.meta();
        vec![controller_of(meta).map_or_else(|| orphans_of(meta.namespace.as_deref()), |r| r.uid.clone())]
    });
}

fn orphans_of(namespace: Option<&str>) -> String {
    format!("orphans of {}", namespace.unwrap_or_default())
}

/// The objects that the owner of this uid controls.
pub fn controlled_by<K: Kind>(cache: &Cache<K>, uid: &str) -> Vec<Arc<K>> {
    cache.by_index(CONTROLLER_INDEX, uid)
}

/// The objects that an owner controls, or could adopt: all in its namespace that nobody controls.
pub fn candidates<K: Kind>(cache: &Cache<K>, owner: &ObjectMeta) -> Vec<Arc<K>> {
    let mut found = controlled_by(cache, owner.uid.as_deref().unwrap_or_default());
    found.extend(cache.by_index(CONTROLLER_INDEX, &orphans_of(owner.namespace.as_deref())));
    found
}

/// What an owner has to do with objects of its namespace.
#[derive(Debug)]
pub struct Claims<K> {
    /// It controls them already.
    pub ours: Vec<Arc<K>>,
    /// They match and nobody controls them.
    pub adopt: Vec<Arc<K>>,
    /// It controls them, and they match no more.
    pub release: Vec<Arc<K>>,
}

/// Sorts `objects` by what `owner` has to do with them; `matches` says whether its selector selects one.
pub fn claim<K: Kind>(owner: &ObjectMeta, objects: Vec<Arc<K>>, matches: impl Fn(&K) -> bool) -> Claims<K> {
    let mut claims = Claims { ours: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    let leaving = owner.deletion_timestamp.is_some();
    for object in objects {
        let matching = matches(&object);
        let meta = object.meta();
        match controller_of(meta) {
            Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => {}
            Some(_) if matching => claims.ours.push(object),
            Some(_) if leaving => {}
            Some(_) => claims.release.push(object),
            None if leaving || !matching || meta.deletion_timestamp.is_some() => {}
            None if meta.namespace != owner.namespace => {}
            None => claims.adopt.push(object),
        }
    }
    claims
}

/// Carries out claims: gives all objects that `owner` now controls.
///
/// Adopts only when a fresh read says that the owner is still there and stays: the cache may be behind, and an orphan
/// adopted by the dead would be collected.
pub async fn settle<K: Namespaced, O: Namespaced>(
    client: &kube::Client,
    owner: &O,
    claims: Claims<K>,
    finalizer: Option<&str>,
) -> Result<Vec<Arc<K>>, kube::Error> {
    let Claims { mut ours, adopt, release } = claims;
    let namespace = owner.meta().namespace.clone().unwrap_or_default();
    let objects: Api<K> = Api::namespaced(client.clone(), &namespace);
    if !adopt.is_empty() && may_adopt(client, owner).await? {
        for object in adopt {
            if let Some(adopted) = patch(&objects, &object, adoption(owner, object.meta(), finalizer)).await?
            {
                ours.push(Arc::new(adopted));
            }
        }
    }
    let uid = owner.meta().uid.clone().unwrap_or_default();
    for object in release {
        patch(&objects, &object, liberation(&uid, object.meta(), finalizer)).await?;
    }
    Ok(ours)
}

async fn may_adopt<O: Namespaced>(client: &kube::Client, owner: &O) -> Result<bool, kube::Error> {
    let key = ObjectKey::of(owner);
    let owners: Api<O> = Api::namespaced(client.clone(), key.namespace_or_empty());
    let fresh = owners.get_opt(&key.name).await?;
    Ok(fresh.is_some_and(|f| f.meta().uid == owner.meta().uid && f.meta().deletion_timestamp.is_none()))
}

/// Patches `object`; None when it is gone or is no more what it was.
async fn patch<K: Namespaced>(
    objects: &Api<K>,
    object: &Arc<K>,
    patch: serde_json::Value,
) -> Result<Option<K>, kube::Error> {
    let name = object.meta().name.clone().unwrap_or_default();
    match objects.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(patched) => Ok(Some(patched)),
        // A different uid makes the server say Conflict, an owner that is gone already Invalid.
        Err(error) if api::is_not_found(&error) || api::is_conflict(&error) || api::is_invalid(&error) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn adoption<O: Namespaced>(owner: &O, object: &ObjectMeta, finalizer: Option<&str>) -> serde_json::Value {
    let mut metadata = json!({"uid": object.uid, "ownerReferences": [controller_reference(owner)]});
    if let Some(finalizer) = finalizer {
        metadata["finalizers"] = json!([finalizer]);
    }
    json!({"metadata": metadata})
}

fn liberation(owner_uid: &str, object: &ObjectMeta, finalizer: Option<&str>) -> serde_json::Value {
    let mut metadata =
        json!({"uid": object.uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]});
    if let Some(finalizer) = finalizer {
        metadata["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
    }
    json!({"metadata": metadata})
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn claims_follow_selector_and_controller() {
        let pod = |name: &str, labels: bool, owner: Option<&str>, leaving: bool| {
            let mut value = json!({"metadata": {"name": name, "namespace": "ns"}});
            if labels {
                value["metadata"]["labels"] = json!({"app": "web"});
            }
            if let Some(owner) = owner {
                value["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": "rs", "uid": owner, "controller": true}]);
            }
            if leaving {
                value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Arc::new(serde_json::from_value::<Pod>(value).unwrap())
        };
        let all = || {
            vec![
                pod("ours", true, Some("me"), false),
                pod("ours-leaving", true, Some("me"), true),
                pod("relabelled", false, Some("me"), false),
                pod("orphan", true, None, false),
                pod("orphan-leaving", true, None, true),
                pod("stranger", false, None, false),
                pod("theirs", true, Some("other"), false),
            ]
        };
        let names =
            |pods: &[Arc<Pod>]| pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        let mut owner =
            ObjectMeta { uid: Some("me".into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
        let claims = claim(&owner, all(), |p| p.metadata.labels.is_some());
        assert_eq!(names(&claims.ours), ["ours", "ours-leaving"]);
        assert_eq!(names(&claims.adopt), ["orphan"]);
        assert_eq!(names(&claims.release), ["relabelled"]);
        owner.deletion_timestamp = super::super::time::time(super::super::time::now());
        let claims = claim(&owner, all(), |p| p.metadata.labels.is_some());
        assert_eq!(names(&claims.ours), ["ours", "ours-leaving"]);
        assert!(claims.adopt.is_empty() && claims.release.is_empty());
    }
}
