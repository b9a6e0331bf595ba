//! The object of a request in the version that a webhook or a policy asks for.

use std::sync::Arc;

use schema::Value;

use super::Attributes;
use super::matching::Matched;
use crate::registry::{Registry, Served};
use crate::status::{ApiError, ApiResult};
use crate::subresource::scale;

/// `admission.VersionedAttributes`
#[derive(Debug, Clone)]
pub struct Versioned {
    /// How the request matched.
    pub matched: Matched,
    /// Null for deletions.
    pub object: Value,
    /// Null for creations.
    pub old_object: Value,
}

/// True when the objects of a request are of the resource's own kind, which has versions.
fn is_whole(attributes: &Attributes<'_>, registry: &Registry) -> bool {
    let table = registry.resources.load();
    table.get(&attributes.resource).is_some_and(|served| served.resource.gvk() == attributes.kind)
}

/// The resource of a write of `scale`, whose objects are whole ones in the registry and Scales to others.
fn scaled(attributes: &Attributes<'_>, registry: &Registry) -> Option<Arc<Served>> {
    if attributes.subresource != "scale" || attributes.object.str_at("kind") == Some("Scale") {
        return None;
    }
    registry.resources.load().get(&attributes.resource).cloned()
}

/// The objects as `matched` has them.
pub async fn versioned(
    attributes: &Attributes<'_>,
    registry: &Registry,
    matched: &Matched,
) -> ApiResult<Versioned> {
    let (mut object, mut old_object) = (attributes.object.clone(), attributes.old_object.clone());
    if is_whole(attributes, registry) {
        let target = registry.resources.load().get(&matched.resource).cloned();
        let target = target.ok_or_else(ApiError::unknown_resource)?;
        for value in [&mut object, &mut old_object] {
            if !value.is_null() {
                *value = target.convert_from_hub(value.take()).await?;
            }
        }
    } else if let Some(scaled) = scaled(attributes, registry) {
        for value in [&mut object, &mut old_object] {
            if !value.is_null() {
                *value = scale::view(&scaled.convert_from_hub(value.take()).await?, &scaled);
            }
        }
    } else {
        for value in [&mut object, &mut old_object] {
            if !value.is_null() {
                value.insert("apiVersion", matched.kind.api_version());
                value.insert("kind", matched.kind.kind.clone());
            }
        }
    }
    Ok(Versioned { matched: matched.clone(), object, old_object })
}

/// Makes `object`, changed and in the version of `matched`, the request's object: brought into its type's form, with
/// defaults.
pub async fn replace_object(
    attributes: &mut Attributes<'_>,
    registry: &Registry,
    matched: &Matched,
    object: &Value,
) -> ApiResult<()> {
    if let Some(scaled) = scaled(attributes, registry) {
        let mut whole = scaled.convert_from_hub(attributes.object.take()).await?;
        scale::put_back(&mut whole, &scaled, object);
        attributes.object = scaled.convert_to_hub(whole).await?;
        return Ok(());
    }
    let served = registry.resources.load().get(&matched.resource).cloned();
    let served = served.ok_or_else(ApiError::unknown_resource)?;
    let whole = is_whole(attributes, registry);
    let schema = match served.resource.subresource(attributes.subresource) {
        Some(subresource) if !whole => subresource.schema.clone(),
        _ => served.resource.schema.clone(),
    };
    let mut object = codec::json::conform(object, &schema).map_err(ApiError::internal)?.value;
    if whole {
        crate::api::create::apply_defaults(&served, &mut object);
        object = served.convert_to_hub(object).await?;
    } else {
        rules::apply_defaults(schema.root(), &mut object);
    }
    keep_managed_fields(attributes, &mut object);
    attributes.object = object;
    Ok(())
}

/// Managed fields that somebody broke stay as they were (`managedFieldsValidatingAdmissionController`).
fn keep_managed_fields(attributes: &mut Attributes<'_>, object: &mut Value) {
    let fields = object.at("metadata.managedFields");
    if let Err(error) = merge::ManagedFields::decode(fields) {
        attributes.warnings.push(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
             mutating admission controller; please fix your requests: {error}"
        ));
        match attributes.object.at("metadata.managedFields").cloned() {
            Some(before) => object.set("metadata.managedFields", before),
            None => object.remove_at("metadata.managedFields"),
        };
    }
}
