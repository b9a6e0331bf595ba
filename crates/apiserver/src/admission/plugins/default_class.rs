//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one marked as default.

use async_trait::async_trait;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::{Registry, meta};
use crate::status::ApiResult;

/// One of the two plugins.
pub struct DefaultClass {
    name: &'static str,
    /// Group and plural of the kind that names a class.
    of: (&'static str, &'static str),
    /// Group and plural of the classes.
    classes: (&'static str, &'static str),
    /// Where the class is named.
    field: &'static str,
    /// The mark of the default.
    annotation: &'static str,
    /// An older way to name a class, by annotation.
    older: &'static str,
}

impl DefaultClass {
    /// DefaultStorageClass.
    pub fn storage() -> Self {
        Self {
            name: "DefaultStorageClass",
            of: ("", "persistentvolumeclaims"),
            classes: ("storage.k8s.io", "storageclasses"),
            field: "spec.storageClassName",
            annotation: "storageclass.kubernetes.io/is-default-class",
            older: "volume.beta.kubernetes.io/storage-class",
        }
    }

    /// DefaultIngressClass.
    pub fn ingress() -> Self {
        Self {
            name: "DefaultIngressClass",
            of: ("networking.k8s.io", "ingresses"),
            classes: ("networking.k8s.io", "ingressclasses"),
            field: "spec.ingressClassName",
            annotation: "ingressclass.kubernetes.io/is-default-class",
            older: "kubernetes.io/ingress.class",
        }
    }
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.map_at("metadata.annotations")?.get_str(key)
}

#[async_trait]
impl Admission for DefaultClass {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is(self.of.0, self.of.1)
            || attributes.object.at(self.field).is_some()
            || annotation(&attributes.object, self.older).is_some()
        {
            return Ok(());
        }
        let all = registry.find_all(self.classes.0, self.classes.1, None)?;
        let default = all.iter().filter(|class| annotation(class, self.annotation) == Some("true"));
        // The newest of several defaults counts.
        let newest = default.max_by_key(|class| {
            (
                meta::text(class, "creationTimestamp").to_owned(),
                std::cmp::Reverse(meta::name(class).to_owned()),
            )
        });
        if let Some(class) = newest {
            attributes.object.set(self.field, meta::name(class));
        }
        Ok(())
    }
}
