//! Carrying out what the graph asks for, after a look at the live objects: the graph may be behind.

use futures::future::try_join_all;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Shared;
use super::graph::{FOREGROUND, Node, ORPHAN, Place, Uid, Work};
use super::plan::{Decision, Facts, OwnerState, decide};
use crate::Error;
use crate::common::api;

/// How often a patch is tried when others change the object at the same time.
const PATCH_TRIES: usize = 5;

type Metadata = PartialObjectMeta<DynamicObject>;

impl Shared {
    /// Deletes an object if nobody keeps it; for one in foreground deletion sees whether it may go.
    pub(super) async fn attempt_delete(&self, uid: &Uid) -> Result<(), Error> {
        let Some(node) = self.graph.lock().get(uid) else { return Ok(()) };
        if node.being_deleted && !node.deleting_dependents {
            return Ok(());
        }
        let Some(latest) = self.look_up(&node.place, uid).await? else {
            self.gone(uid);
            return Ok(());
        };
        if node.deleting_dependents {
            return self.go_on_in_foreground(uid, &node).await;
        }
        let owners = self.classify(&latest.metadata).await?;
        let decision = decide(&owners, self.facts(uid, &latest.metadata));
        match decision {
            Decision::Keep => Ok(()),
            Decision::DropReferences(useless) => {
                self.patch(&node.place, uid, |meta| drop_references(meta, &useless)).await
            }
            Decision::Delete { policy, unblock } => {
                if unblock {
                    self.patch(&node.place, uid, unblock_references).await?;
                }
                self.delete(&node.place, &latest.metadata, policy, !unblock).await
            }
        }
    }

    fn facts(&self, uid: &Uid, latest: &ObjectMeta) -> Facts {
        let dependents = self.graph.lock().dependents(uid);
        let has = |finalizer: &str| latest.finalizers.iter().flatten().any(|f| f == finalizer);
        Facts {
            orphan: has(ORPHAN),
            foreground: has(FOREGROUND),
            has_dependents: !dependents.is_empty(),
            dependent_is_waiting: dependents.iter().any(|(_, d)| d.deleting_dependents),
        }
    }

    /// Lets the owner go when no dependent blocks it; otherwise sees to the dependents.
    async fn go_on_in_foreground(&self, uid: &Uid, node: &Node) -> Result<(), Error> {
        let blocking = self.graph.lock().blocking_dependents(uid);
        if blocking.is_empty() {
            return self.patch(&node.place, uid, |meta| drop_finalizer(meta, FOREGROUND)).await;
        }
        for (dependent, node) in blocking {
            if !node.deleting_dependents {
                self.queue.add(Work::Delete(dependent));
            }
        }
        Ok(())
    }

    /// Takes the references to an owner off all its dependents, then lets it go.
    pub(super) async fn orphan_dependents(&self, uid: &Uid) -> Result<(), Error> {
        let (node, dependents) = {
            let graph = self.graph.lock();
            (graph.get(uid), graph.dependents(uid))
        };
        let Some(node) = node else { return Ok(()) };
        let dropped = [uid.clone()];
        let patches = dependents
            .iter()
            .map(|(dependent, d)| self.patch(&d.place, dependent, |meta| drop_references(meta, &dropped)));
        try_join_all(patches).await?;
        self.patch(&node.place, uid, |meta| drop_finalizer(meta, ORPHAN)).await
    }

    async fn classify(&self, meta: &ObjectMeta) -> Result<Vec<(Uid, OwnerState)>, Error> {
        let mut owners = Vec::new();
        for owner in meta.owner_references.iter().flatten() {
            let uid = Uid::from(owner.uid.as_str());
            let place = Place {
                api_version: owner.api_version.as_str().into(),
                kind: owner.kind.as_str().into(),
                namespace: meta.namespace.clone(),
                name: owner.name.clone(),
            };
            owners.push((uid.clone(), self.state_of(&uid, &place).await?));
        }
        Ok(owners)
    }

    async fn state_of(&self, uid: &Uid, place: &Place) -> Result<OwnerState, Error> {
        if self.graph.lock().is_known_absent(uid, &place.namespace) {
            return Ok(OwnerState::Dangling);
        }
        if place.namespace.is_none() && self.is_namespaced(place)? {
            // An owner in a namespace that nobody can name: the reference is wrong, and harms nothing.
            return Ok(OwnerState::Solid);
        }
        match self.look_up(place, uid).await? {
            None => {
                self.graph.lock().note_absent(uid.clone(), place.namespace.clone());
                Ok(OwnerState::Dangling)
            }
            Some(owner) => {
                let waits = owner.metadata.deletion_timestamp.is_some()
                    && owner.metadata.finalizers.iter().flatten().any(|f| f == FOREGROUND);
                Ok(if waits { OwnerState::Waiting } else { OwnerState::Solid })
            }
        }
    }

    fn is_namespaced(&self, place: &Place) -> Result<bool, Error> {
        Ok(self.kind_of(place)?.namespaced)
    }

    fn kind_of(&self, place: &Place) -> Result<crate::common::discovery::Found, Error> {
        let group = place.api_version.split_once('/').map_or("", |(group, _)| group);
        let key = (group.to_owned(), place.kind.to_string());
        self.kinds.lock().get(&key).cloned().ok_or_else(|| {
            Error::Again(format!(
                "the server has no kind {:?} in version {:?}",
                place.kind, place.api_version
            ))
        })
    }

    fn api(&self, place: &Place) -> Result<Api<DynamicObject>, Error> {
        let found = self.kind_of(place)?;
        let resource = found.api_resource();
        Ok(match &place.namespace {
            Some(namespace) if found.namespaced => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        })
    }

    /// The live metadata of the object with this uid; None if it is gone or another has its name.
    async fn look_up(&self, place: &Place, uid: &Uid) -> Result<Option<Metadata>, Error> {
        let found = self.api(place)?.get_metadata_opt(&place.name).await?;
        Ok(found.filter(|object| object.uid().as_deref() == Some(uid)))
    }

    async fn delete(
        &self,
        place: &Place,
        latest: &ObjectMeta,
        policy: PropagationPolicy,
        same_version: bool,
    ) -> Result<(), Error> {
        let options = DeleteParams {
            propagation_policy: Some(policy),
            // Only in the state that was judged: an owner may have been added since.
            preconditions: Some(Preconditions {
                uid: latest.uid.clone(),
                resource_version: latest.resource_version.clone().filter(|_| same_version),
            }),
            ..DeleteParams::default()
        };
        api::ignore_not_found(self.api(place)?.delete(&place.name, &options).await)?;
        Ok(())
    }

    /// Changes the live metadata by `change`, which gives the fields to write or None if there is nothing to change.
    async fn patch(
        &self,
        place: &Place,
        uid: &Uid,
        change: impl Fn(&ObjectMeta) -> Option<serde_json::Value>,
    ) -> Result<(), Error> {
        let objects = self.api(place)?;
        let mut last = None;
        for _ in 0..PATCH_TRIES {
            let Some(latest) = self.look_up(place, uid).await? else { return Ok(()) };
            let Some(mut fields) = change(&latest.metadata) else { return Ok(()) };
            fields["uid"] = json!(latest.metadata.uid);
            fields["resourceVersion"] = json!(latest.metadata.resource_version);
            let patch = Patch::Merge(json!({"metadata": fields}));
            match objects.patch_metadata(&place.name, &PatchParams::default(), &patch).await {
                Ok(_) => return Ok(()),
                Err(error) if api::is_not_found(&error) => return Ok(()),
                Err(error) if api::is_conflict(&error) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        last.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn drop_references(meta: &ObjectMeta, owners: &[Uid]) -> Option<serde_json::Value> {
    let references = meta.owner_references.as_ref()?;
    let dropped = |uid: &str| owners.iter().any(|o| &**o == uid);
    references.iter().any(|r| dropped(&r.uid)).then(|| {
        let kept: Vec<_> = references.iter().filter(|r| !dropped(&r.uid)).collect();
        json!({"ownerReferences": kept})
    })
}

fn unblock_references(meta: &ObjectMeta) -> Option<serde_json::Value> {
    let mut references = meta.owner_references.clone()?;
    let blocking = references.iter().any(|r| r.block_owner_deletion == Some(true));
    references.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
    blocking.then(|| json!({"ownerReferences": references}))
}

fn drop_finalizer(meta: &ObjectMeta, finalizer: &str) -> Option<serde_json::Value> {
    let finalizers = meta.finalizers.as_ref()?;
    finalizers.iter().any(|f| f == finalizer).then(|| {
        let kept: Vec<_> = finalizers.iter().filter(|f| *f != finalizer).collect();
        json!({"finalizers": kept})
    })
}
