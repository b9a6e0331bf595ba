//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::api;
use super::hash::object_hash;

/// On pods of StatefulSets the name of their revision, on pods of DaemonSets its hash.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// On revisions of StatefulSets their hash.
pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// A template as a revision keeps it: a patch that puts it into a set.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), json!("replace"));
    }
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// True if both keep the same template.
pub fn same_data(a: &ControllerRevision, b: &ControllerRevision) -> bool {
    a.data == b.data || template(a).is_some_and(|t| template(b) == Some(t))
}

/// The hash of a revision, as its labels say it; its name ends with it too.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|l| l.get(REVISION_LABEL).or_else(|| l.get(HASH_LABEL))).map_or("", String::as_str)
}

/// What a new revision is made of.
pub struct NewRevision<'a> {
    /// Namespace and name of the set.
    pub parent: &'a ObjectMeta,
    /// The reference to it.
    pub owner: OwnerReference,
    /// Its current template.
    pub template: &'a PodTemplateSpec,
    /// Labels, beside the one that says the hash.
    pub labels: BTreeMap<String, String>,
    /// The name of that one.
    pub hash_label: &'static str,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// One more than the last.
    pub number: i64,
    /// How often hashes have collided.
    pub collision_count: Option<i32>,
}

impl NewRevision<'_> {
    /// The revision object.
    pub fn build(self) -> ControllerRevision {
        let data = data(self.template);
        let hash = object_hash(&data, self.collision_count);
        let mut labels = self.labels;
        labels.insert(self.hash_label.to_owned(), hash.clone());
        let parent = self.parent.name.as_deref().unwrap_or_default();
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{parent}-{hash}")),
                namespace: self.parent.namespace.clone(),
                labels: Some(labels),
                annotations: self.annotations,
                owner_references: Some(vec![self.owner]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data)),
            revision: self.number,
        }
    }
}

/// What has to be done so that a revision keeps the current template.
#[derive(Debug, Clone, PartialEq)]
pub enum Current {
    /// The newest revision does.
    Newest(ControllerRevision),
    /// An older one does: it becomes the newest, with this number.
    Revive(ControllerRevision),
    /// None does: this one has to be made.
    Create(ControllerRevision),
}

/// Finds the revision that keeps what `wanted` keeps.
pub fn current(revisions: &[ControllerRevision], wanted: ControllerRevision) -> Current {
    let newest = revisions.iter().map(|r| r.revision).max().unwrap_or(0);
    let same = revisions.iter().filter(|r| same_data(r, &wanted)).max_by_key(|r| r.revision);
    match same {
        Some(revision) if revision.revision == newest => Current::Newest(revision.clone()),
        Some(revision) => {
            Current::Revive(ControllerRevision { revision: wanted.revision, ..revision.clone() })
        }
        None => Current::Create(wanted),
    }
}

/// The revisions to delete: the oldest that are not in use, above `limit`.
pub fn surplus(
    revisions: &[ControllerRevision],
    in_use: impl Fn(&ControllerRevision) -> bool,
    limit: usize,
) -> Vec<&ControllerRevision> {
    let mut unused: Vec<&ControllerRevision> = revisions.iter().filter(|r| !in_use(r)).collect();
    unused.sort_by_key(|r| r.revision);
    let excess = unused.len().saturating_sub(limit);
    unused.truncate(excess);
    unused
}

/// Writes what [`current`] says; gives the revision as it is then. A name that is taken by other content is an error
/// `AlreadyExists`: the hash has to be made with a higher collision count.
pub async fn write(
    client: &kube::Client,
    namespace: &str,
    current: Current,
) -> Result<ControllerRevision, kube::Error> {
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    match current {
        Current::Newest(revision) => Ok(revision),
        Current::Revive(revision) => {
            let name = revision.metadata.name.clone().unwrap_or_default();
            revisions.replace(&name, &PostParams::default(), &revision).await
        }
        Current::Create(revision) => match revisions.create(&PostParams::default(), &revision).await {
            Err(error) if api::is_already_exists(&error) => {
                // Our cache may lack what we have made ourselves.
                let name = revision.metadata.name.clone().unwrap_or_default();
                let existing = revisions.get_opt(&name).await?;
                existing.filter(|existing| same_data(existing, &revision)).ok_or(error)
            }
            result => result,
        },
    }
}

/// The number after the highest of `revisions`.
pub fn next_number<'a>(revisions: impl IntoIterator<Item = &'a ControllerRevision>) -> i64 {
    revisions.into_iter().map(|r| r.revision).max().unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;

    #[test]
    fn a_template_goes_in_and_comes_out() {
        let template_in: PodTemplateSpec =
            object(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}));
        let parent = ObjectMeta { name: Some("db".into()), ..ObjectMeta::default() };
        let revision = NewRevision {
            parent: &parent,
            owner: OwnerReference::default(),
            template: &template_in,
            labels: BTreeMap::new(),
            hash_label: HASH_LABEL,
            annotations: None,
            number: 1,
            collision_count: None,
        }
        .build();
        assert_eq!(template(&revision), Some(template_in));
        assert_eq!(revision.metadata.name.as_deref().unwrap(), format!("db-{}", hash_of(&revision)));
        assert_eq!(next_number([&revision]), 2);
    }
}
