//! RuntimeClass: a pod takes the overhead and the scheduling constraints of its runtime class (KEP-688, KEP-894).

use async_trait::async_trait;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

/// See the module.
pub struct RuntimeClass;

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let Some(class) = class_of(attributes, registry)? else { return Ok(()) };
        if let Some(overhead) = class.at("overhead.podFixed") {
            let given = attributes.object.at("spec.overhead").filter(|given| !given.is_zero());
            if given.is_some_and(|given| given != overhead) {
                return Err(attributes.forbidden(
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
                ));
            }
            attributes.object.set("spec.overhead", overhead.clone());
        }
        for (key, value) in
            class.map_at("scheduling.nodeSelector").map(schema::Map::as_slice).unwrap_or_default()
        {
            let own =
                attributes.object.map_at("spec.nodeSelector").and_then(|selector| selector.get(key)).cloned();
            match own {
                Some(other) if other != *value => {
                    return Err(attributes.forbidden(format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                        value.as_str().unwrap_or_default(),
                        other.as_str().unwrap_or_default()
                    )));
                }
                Some(_) => {}
                None => {
                    let spec = attributes.object.make_map().entry_map("spec");
                    spec.entry_map("nodeSelector").insert(key.clone(), value.clone());
                }
            }
        }
        for toleration in class.items_at("scheduling.tolerations") {
            let all = attributes.object.make_map().entry_map("spec").entry_list("tolerations");
            if !all.contains(toleration) {
                all.push(toleration.clone());
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let overhead =
            attributes.is("", "pods") && attributes.object.at("spec.overhead").is_some_and(|o| !o.is_zero());
        let class = class_of(attributes, registry)?;
        if overhead && class.is_none_or(|class| class.at("overhead.podFixed").is_none()) {
            return Err(attributes.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ));
        }
        Ok(())
    }
}

fn class_of(attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<Option<std::sync::Arc<Value>>> {
    if !attributes.is("", "pods") {
        return Ok(None);
    }
    let Some(name) = attributes.object.str_at("spec.runtimeClassName").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    match registry.find("node.k8s.io", "runtimeclasses", "", name)? {
        Some(class) => Ok(Some(class)),
        None => Err(attributes.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}
