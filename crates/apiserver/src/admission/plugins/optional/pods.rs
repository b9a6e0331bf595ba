//! AlwaysPullImages, ExtendedResourceToleration and LimitPodHardAntiAffinityTopology.

use async_trait::async_trait;
use rules::{FieldError, Path};
use schema::{Value, value};

use crate::admission::plugins::pod_amounts;
use crate::admission::{Admission, Attributes, Operation};
use crate::registry::{Registry, meta};
use crate::status::{ApiError, ApiResult};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn is_pod(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group.is_empty()
        && attributes.resource.resource == "pods"
        && matches!(attributes.subresource, "" | "ephemeralcontainers")
}

/// AlwaysPullImages: images are pulled anew, so that nobody runs a private one that happens to be on the node.
pub struct AlwaysPullImages;

#[async_trait]
impl Admission for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        if !is_pod(attributes) {
            return Ok(());
        }
        for list in LISTS {
            let path = format!("spec.{list}");
            for container in
                attributes.object.at_mut(&path).and_then(Value::as_list_mut).into_iter().flatten()
            {
                container.insert("imagePullPolicy", "Always");
            }
        }
        let volumes = attributes.object.at_mut("spec.volumes").and_then(Value::as_list_mut);
        for image in volumes.into_iter().flatten().filter_map(|volume| volume.get_mut("image")) {
            image.insert("pullPolicy", "Always");
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        if !is_pod(attributes) {
            return Ok(());
        }
        let mut errors = Vec::new();
        for list in LISTS {
            let spec = Path::new("spec");
            let path = spec.child(list);
            for (i, container) in attributes.object.items_at(&format!("spec.{list}")).iter().enumerate() {
                let policy = container.str_at("imagePullPolicy").unwrap_or_default();
                if policy != "Always" {
                    let path = path.index(i);
                    errors.push(FieldError::not_supported(
                        &path.child("imagePullPolicy"),
                        policy,
                        &["Always"],
                    ));
                }
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid("", "Pod", meta::name(&attributes.object), &errors))
    }
}

/// ExtendedResourceToleration: who asks for a device tolerates the taint that keeps others from its nodes.
pub struct ExtendedResourceToleration;

#[async_trait]
impl Admission for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let asked = pod_amounts::of_pod(&attributes.object, "requests");
        for name in asked.keys().filter(|name| rules::quantities::is_extended(name)) {
            let spec = attributes.object.make_map().entry_map("spec");
            let all = spec.entry_list("tolerations");
            let tolerated = all.iter().any(|toleration| {
                let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
                text("key") == name
                    && text("operator") == "Exists"
                    && matches!(text("effect"), "" | "NoSchedule")
            });
            if !tolerated {
                all.push(value!({"key": (name.as_str()), "operator": "Exists", "effect": "NoSchedule"}));
            }
        }
        Ok(())
    }
}

/// LimitPodHardAntiAffinityTopology: pods keep others away from a node, and not from more.
pub struct HardAntiAffinityTopology;

#[async_trait]
impl Admission for HardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        const HOST: &str = "kubernetes.io/hostname";
        const TERMS: &str = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        if !attributes.is("", "pods") {
            return Ok(());
        }
        for term in attributes.object.items_at(TERMS) {
            let key = term.str_at("topologyKey").unwrap_or_default();
            if key != HOST {
                return Err(attributes.forbidden(format!(
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOST} is allowed"
                )));
            }
        }
        Ok(())
    }
}
