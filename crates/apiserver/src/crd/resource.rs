//! A definition as resources, one for each served version.

use std::sync::Arc;

use schema::{
    Catalog, Column, GroupVersion, GroupVersionKind, Resource, Schema, SelectableField, SmolStr, Storage,
    Subresource, Value,
};

use super::CustomFacts;
use super::defaults_on_read::{DefaultsOnRead, has_defaults};
use super::webhook_conversion::WebhookConversion;
use crate::registry::{Converter, Served, meta};
use crate::webhook::WebhookClient;

/// In the order that upstream's discovery has them for custom resources.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

fn verbs(all: &[&'static str]) -> Vec<SmolStr> {
    all.iter().map(|v| SmolStr::new_static(v)).collect()
}

/// The resources that an established definition serves.
pub fn served_by(definition: &Value, webhooks: &Arc<WebhookClient>) -> Vec<Arc<Served>> {
    let versions = definition.items_at("spec.versions");
    let storage = versions.iter().find(|v| v.bool_at("storage") == Some(true));
    let Some(storage) = storage.and_then(|v| v.str_at("name")) else { return Vec::new() };
    let made: Vec<(Arc<Resource>, &Value)> = versions
        .iter()
        .filter_map(|version| match resource(definition, version, storage) {
            Ok(resource) => Some((Arc::new(resource), version)),
            Err(error) => {
                tracing::error!(definition = meta::name(definition), %error, "a custom resource cannot be served");
                None
            }
        })
        .collect();
    let Some((hub, _)) = made.iter().find(|(r, _)| r.version == storage) else { return Vec::new() };
    // Objects may be stored in any version, so that one that is alone now may have to be converted, too.
    let conversion = (definition.str_at("spec.conversion.strategy") == Some("Webhook")).then(|| {
        let webhook = &definition["spec"]["conversion"]["webhook"];
        Converter::Remote(Arc::new(WebhookConversion::new(webhooks.clone(), webhook)))
    });
    let served = made.iter().filter(|(_, version)| version.bool_at("served") == Some(true));
    served
        .map(|(resource, version)| {
            let mut served = one(definition, version, resource.clone(), hub.clone());
            served.conversion =
                conversion.clone().or_else(|| defaults_on_read(definition, version, resource));
            Arc::new(served)
        })
        .collect()
}

fn defaults_on_read(definition: &Value, version: &Value, resource: &Arc<Resource>) -> Option<Converter> {
    let since = meta::resource_version(definition).parse().unwrap_or(u64::MAX);
    has_defaults(&version["schema"]["openAPIV3Schema"])
        .then(|| Converter::Local(Arc::new(DefaultsOnRead::new(resource.clone(), since))))
}

fn one(definition: &Value, version: &Value, resource: Arc<Resource>, hub: Arc<Resource>) -> Served {
    let scale = |at: &str| version.str_at(&format!("subresources.scale.{at}")).unwrap_or_default().to_owned();
    let webhook = definition.str_at("spec.conversion.strategy") == Some("Webhook");
    let facts = CustomFacts {
        scale_spec_path: scale("specReplicasPath"),
        scale_status_path: scale("statusReplicasPath"),
        scale_selector_path: scale("labelSelectorPath"),
        webhook_conversion: webhook,
        terminating: meta::is_deleting(definition),
    };
    let deprecation = match version.bool_at("deprecated") {
        Some(true) => version
            .str_at("deprecationWarning")
            .map(str::to_owned)
            .unwrap_or_else(|| format!("{} {} is deprecated", resource.api_version(), resource.kind)),
        _ => String::new(),
    };
    // What is written is checked in the stored version when its fields may differ.
    let checked = if webhook { hub.clone() } else { resource.clone() };
    let facts = Arc::new(facts);
    let strategy = crate::strategies::custom_strategy(checked, facts.clone());
    Served { conversion: None, strategy, deprecation, custom: Some(facts), resource, hub }
}

fn resource(definition: &Value, version: &Value, storage: &str) -> Result<Resource, schema::Error> {
    let spec = &definition["spec"];
    // What was accepted is served, even while a change of names waits for a conflict to go.
    let names = match &definition["status"]["acceptedNames"] {
        accepted if !accepted["plural"].is_zero() => accepted,
        _ => &spec["names"],
    };
    let name = |field: &str| SmolStr::new(names.str_at(field).unwrap_or_default());
    let list = |field: &str| -> Vec<SmolStr> {
        names.items_at(field).iter().filter_map(Value::as_smol).cloned().collect()
    };
    let group = SmolStr::new(spec.str_at("group").unwrap_or_default());
    let version_name = SmolStr::new(version.str_at("name").unwrap_or_default());
    let openapi = &version["schema"]["openAPIV3Schema"];
    let schema = if openapi.is_null() { Schema::any() } else { Schema::from_openapi(openapi, true)? };
    let kind = name("kind");
    let list_kind = match name("listKind") {
        empty if empty.is_empty() => SmolStr::from(format!("{kind}List")),
        given => given,
    };
    Ok(Resource {
        plural: name("plural"),
        singular: name("singular"),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: spec.str_at("scope") == Some("Namespaced"),
        verbs: verbs(&VERBS),
        subresources: subresources(
            version,
            &GroupVersionKind::new(group.clone(), version_name.clone(), kind.clone()),
            &schema,
        ),
        columns: version.items_at("additionalPrinterColumns").iter().map(column).collect(),
        selectable_fields: version.items_at("selectableFields").iter().filter_map(selectable).collect(),
        storage: Storage {
            prefix: SmolStr::from(format!("/registry/{group}/{}", name("plural"))),
            version: GroupVersion::new(group.clone(), storage),
        },
        custom: true,
        group,
        version: version_name,
        kind,
        list_kind,
        schema,
    })
}

fn subresources(version: &Value, kind: &GroupVersionKind, schema: &Schema) -> Vec<Subresource> {
    let mut all = Vec::new();
    let declared = &version["subresources"];
    if declared.get("status").is_some() {
        all.push(Subresource {
            name: "status".into(),
            kind: kind.clone(),
            verbs: verbs(&SUBRESOURCE_VERBS),
            schema: schema.clone(),
        });
    }
    let scale = GroupVersionKind::new("autoscaling", "v1", "Scale");
    if let (Some(_), Some(schema)) = (declared.get("scale"), Catalog::builtin().kind(&scale)) {
        let schema = schema.clone();
        all.push(Subresource { name: "scale".into(), kind: scale, verbs: verbs(&SUBRESOURCE_VERBS), schema });
    }
    all
}

fn column(column: &Value) -> Column {
    let text = |field: &str| SmolStr::new(column.str_at(field).unwrap_or_default());
    Column {
        name: text("name"),
        data_type: text("type"),
        format: text("format"),
        description: text("description"),
        priority: column.int_at("priority").and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
        json_path: text("jsonPath"),
    }
}

fn selectable(field: &Value) -> Option<SelectableField> {
    let label = field.str_at("jsonPath")?.trim_start_matches('.');
    let paths = vec![label.split('.').map(SmolStr::new).collect()];
    Some(SelectableField { label: label.into(), paths, absent: SmolStr::default() })
}
