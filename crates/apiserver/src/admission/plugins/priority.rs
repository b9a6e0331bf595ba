//! Priority: the number of a pod's priority class becomes the pod's; at most one class is the default.

use async_trait::async_trait;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

const GROUP: &str = "scheduling.k8s.io";
const DEFAULT_POLICY: &str = "PreemptLowerPriority";

/// See the module.
pub struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        if attributes.operation == Operation::Update {
            keep(attributes);
            return Ok(());
        }
        let asked = attributes.object.str_at("spec.priorityClassName").unwrap_or_default().to_owned();
        let class = match asked.as_str() {
            "" => default_class(registry)?,
            name => match registry.find(GROUP, "priorityclasses", "", name)? {
                Some(class) => Some(class),
                None => {
                    return Err(attributes.forbidden(format!("no PriorityClass with name {name} was found")));
                }
            },
        };
        let (value, policy) = match &class {
            Some(class) => {
                let name = class.str_at("metadata.name").unwrap_or_default();
                attributes.object.set("spec.priorityClassName", name);
                (
                    class.int_at("value").unwrap_or(0),
                    class.str_at("preemptionPolicy").unwrap_or(DEFAULT_POLICY),
                )
            }
            None => (0, DEFAULT_POLICY),
        };
        if let Some(given) = attributes.object.int_at("spec.priority")
            && given != value
        {
            return Err(attributes.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            )));
        }
        if let Some(given) = attributes.object.str_at("spec.preemptionPolicy")
            && given != policy
        {
            return Err(attributes.forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            )));
        }
        attributes.object.set("spec.priority", value);
        attributes.object.set("spec.preemptionPolicy", policy);
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is(GROUP, "priorityclasses")
            || attributes.object.bool_at("globalDefault") != Some(true)
        {
            return Ok(());
        }
        let own = attributes.object.str_at("metadata.name");
        match default_class(registry)? {
            Some(other) if other.str_at("metadata.name") != own => {
                let name = other.str_at("metadata.name").unwrap_or_default();
                Err(attributes.forbidden(format!(
                    "PriorityClass {name} is already marked as default. Only one default can exist"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// An update that does not say what was computed keeps it.
fn keep(attributes: &mut Attributes<'_>) {
    for field in ["spec.priority", "spec.preemptionPolicy"] {
        if let (None, Some(value)) = (attributes.object.at(field), attributes.old_object.at(field)) {
            attributes.object.set(field, value);
        }
    }
}

/// Of several default classes the one of the lowest value counts.
fn default_class(registry: &Registry) -> ApiResult<Option<std::sync::Arc<schema::Value>>> {
    let all = registry.find_all(GROUP, "priorityclasses", None)?;
    let defaults = all.into_iter().filter(|class| class.bool_at("globalDefault") == Some(true));
    Ok(defaults.min_by_key(|class| class.int_at("value").unwrap_or(0)))
}
