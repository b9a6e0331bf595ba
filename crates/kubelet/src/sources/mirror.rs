//! Mirror pods: what the API shows of static pods.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::pod::spec::{self, HASH_ANNOTATION, MIRROR_ANNOTATION};
use crate::shared::Shared;

/// What is to be done about the mirror of one static pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is right.
    Keep,
    /// It is missing.
    Create,
    /// It stands for an older or no static pod: it has to go.
    Delete {
        /// Only the one with this UID.
        uid: String,
    },
}

/// Compares the mirror with the static pod.
pub fn plan(wanted: Option<&Pod>, mirror: Option<&Pod>) -> Step {
    let Some(mirror) = mirror else {
        return if wanted.is_some() { Step::Create } else { Step::Keep };
    };
    let hash = |pod: &Pod, key: &str| spec::annotation(pod, key).map(str::to_owned);
    let same = wanted.is_some_and(|w| hash(w, HASH_ANNOTATION) == hash(mirror, MIRROR_ANNOTATION));
    if same && mirror.metadata.deletion_timestamp.is_none() {
        return Step::Keep;
    }
    Step::Delete { uid: mirror.metadata.uid.clone().unwrap_or_default() }
}

/// Brings the mirror called `namespace/name` in line with `wanted`.
pub async fn reconcile(
    shared: &Shared,
    namespace: &str,
    name: &str,
    wanted: Option<&Pod>,
) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let seen = shared.pods.cache().get(Some(namespace), name).filter(|pod| spec::is_mirror(pod));
    match (plan(wanted, seen.as_deref()), wanted) {
        (Step::Create, Some(wanted)) => create(shared, &api, wanted).await,
        (Step::Delete { uid }, _) => {
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                ..DeleteParams::default()
            };
            match api.delete(name, &params).await {
                // The informer tells when it is gone, and then it is made anew.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
                other => other.map(drop),
            }
        }
        _ => Ok(()),
    }
}

async fn create(shared: &Shared, api: &Api<Pod>, wanted: &Pod) -> Result<(), kube::Error> {
    let Some(node_uid) = shared.node_object().and_then(|n| n.metadata.uid.clone()) else { return Ok(()) };
    let mut mirror = wanted.clone();
    mirror.status = None;
    mirror.metadata.uid = None;
    let hash = spec::annotation(wanted, HASH_ANNOTATION).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR_ANNOTATION.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: shared.config.node_name.clone(),
        uid: node_uid,
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    match api.create(&PostParams::default(), &mirror).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let pod = |key: &str, hash: &str, deleting: bool| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": {
                "uid": "m", "annotations": {key: hash},
                "deletionTimestamp": deleting.then_some("2024-01-01T00:00:00Z"),
            }}))
            .unwrap()
        };
        let wanted = pod(HASH_ANNOTATION, "1", false);
        let mirror = |hash: &str| pod(MIRROR_ANNOTATION, hash, false);
        let delete = Step::Delete { uid: "m".to_owned() };
        assert_eq!(plan(Some(&wanted), None), Step::Create);
        assert_eq!(plan(Some(&wanted), Some(&mirror("1"))), Step::Keep);
        assert_eq!(plan(Some(&wanted), Some(&mirror("2"))), delete);
        assert_eq!(plan(None, Some(&mirror("1"))), delete);
        assert_eq!(plan(Some(&wanted), Some(&pod(MIRROR_ANNOTATION, "1", true))), delete);
        assert_eq!(plan(None, None), Step::Keep);
    }
}
