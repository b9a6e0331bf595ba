//! `scale`: the replicas of any object as `autoscaling/v1` Scale.

use std::sync::Arc;

use codec::json;
use http::Response;
use openapi::table::{IncludeObject, TableMaker, human_duration};
use rules::{FieldError, Path};
use schema::{SmolStr, Value, value};

use super::decode_body;
use crate::api::patch::{PatchKind, apply_error};
use crate::api::{Call, render};
use crate::http::negotiate::{Accept, Form};
use crate::http::{Body, body, respond};
use crate::registry::options::OptionsKind;
use crate::registry::stored::memo;
use crate::registry::{Saved, Served, Update, WriteOptions, meta};
use crate::status::{ApiError, ApiResult};

/// Where a kind keeps its replicas.
struct Paths {
    spec: Vec<SmolStr>,
    status: Vec<SmolStr>,
    selector: Vec<SmolStr>,
}

impl Paths {
    fn of(served: &Served) -> Self {
        if let Some(custom) = &served.custom {
            let split = |path: &str| path.split('.').filter(|p| !p.is_empty()).map(SmolStr::new).collect();
            return Self {
                spec: split(&custom.scale_spec_path),
                status: split(&custom.scale_status_path),
                selector: split(&custom.scale_selector_path),
            };
        }
        let names = |text: &str| text.split('.').map(SmolStr::new).collect();
        Self {
            spec: names("spec.replicas"),
            status: names("status.replicas"),
            selector: names("spec.selector"),
        }
    }
}

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let paths = Paths::of(served);
    match call.info.verb {
        "get" => {
            let entry = call.core.registry.get(served, call.namespace(served), &call.info.name, "").await?;
            let object = served.convert_from_hub(memo(&entry).decode(&entry)?).await?;
            answer(call, served, accept, &scale_of(&object, &paths, served))
        }
        "update" => {
            let options = WriteOptions::parse(OptionsKind::Update, call.query, &call.parts.headers)?;
            let scale = decode_body(call, served, &options, body).await?;
            crate::api::update::check_name(&scale, &call.info.name)?;
            write(call, served, accept, &options, &paths, Change::Made(&|_| Ok(scale.clone()))).await
        }
        _ => {
            let kind = PatchKind::of(call, served)?;
            let options = WriteOptions::parse(kind.options_kind(), call.query, &call.parts.headers)?;
            let bytes = body::read(body).await?;
            let schema = served.resource.subresource("scale").map(|s| s.schema.clone());
            let patch = match kind {
                PatchKind::Apply => codec::yaml::parse(&bytes),
                _ => json::parse(&bytes),
            }
            .map_err(|e| ApiError::bad_request(e.to_string()))?;
            if kind == PatchKind::Apply {
                return write(call, served, accept, &options, &paths, Change::Applied(&patch)).await;
            }
            let apply = |mut scale: Value| {
                match (kind, &schema) {
                    (PatchKind::Json, _) => merge::json_patch(&mut scale, &patch)
                        .map_err(|e| ApiError::bad_request(e.to_string()))?,
                    (PatchKind::Strategic, Some(schema)) => {
                        merge::strategic_merge_patch(&mut scale, patch.clone(), schema)
                            .map_err(|e| ApiError::bad_request(e.to_string()))?;
                    }
                    _ => merge::merge_patch(&mut scale, patch.clone()),
                }
                match &schema {
                    Some(schema) => json::conform(&scale, schema)
                        .map(|d| d.value)
                        .map_err(|e| ApiError::bad_request(e.to_string())),
                    None => Ok(scale),
                }
            };
            write(call, served, accept, &options, &paths, Change::Made(&apply)).await
        }
    }
}

/// How a Scale is changed.
enum Change<'a> {
    /// A new one is made of the present one.
    Made(&'a (dyn Fn(Value) -> ApiResult<Value> + Send + Sync)),
    /// A configuration is applied, whose fields the manager comes to own.
    Applied(&'a Value),
}

/// The object's part of an applied Scale.
fn applied_part(scale: &Value, live: &Value, paths: &Paths) -> Value {
    let mut part = value!({"apiVersion": (live["apiVersion"].clone()), "kind": (live["kind"].clone())});
    for field in ["name", "namespace"] {
        if let Some(text) = live["metadata"].get(field) {
            meta::set(&mut part, field, text.clone());
        }
    }
    if let Some(replicas) = scale.int_at("spec.replicas") {
        part.set_pointer(&paths.spec, replicas);
    }
    part
}

/// Writes the replicas of the changed Scale.
async fn write(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    options: &WriteOptions,
    paths: &Paths,
    change: Change<'_>,
) -> ApiResult<Response<Body>> {
    let options_value = options.to_value("UpdateOptions");
    let context = call.write_context(served, options, &options_value);
    let transform = |live: Option<&Value>| {
        let Some(live) = live else { return Err(context.not_found(&call.info.name)) };
        let now = call.core.registry.now();
        let scale = match change {
            Change::Made(make) => make(scale_of(live, paths, served))?,
            Change::Applied(scale) => scale.clone(),
        };
        validate(&scale)?;
        let (uid, version) = (meta::uid(&scale), meta::resource_version(&scale));
        if !uid.is_empty() && uid != meta::uid(live) {
            return Err(ApiError::conflict(
                served.group_resource(),
                &call.info.name,
                format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    meta::uid(live)
                ),
            ));
        }
        if !version.is_empty() && version != meta::resource_version(live) {
            return Err(ApiError::modified(served.group_resource(), &call.info.name));
        }
        let mut object = match change {
            Change::Made(_) => {
                let mut object = live.clone();
                object.set_pointer(&paths.spec, scale.int_at("spec.replicas").unwrap_or(0));
                context.track_fields(Some(live), &mut object, &now);
                object
            }
            Change::Applied(_) => {
                let part = applied_part(&scale, live, paths);
                let applied = context.apply_fields(Some(live), &part, &now).map_err(apply_error)?;
                let mut object = json::conform(&applied, &served.resource.schema)
                    .map_err(|e| ApiError::bad_request(e.to_string()))?
                    .value;
                crate::api::create::apply_defaults(served, &mut object);
                object
            }
        };
        forget_times(&mut object);
        Ok(object)
    };
    let update = Update { transform: &transform, fields_tracked: true, force_create: false };
    let Saved { object, .. } = context.update(&update).await?.saved;
    let object = served.convert_from_hub(object).await?;
    answer(call, served, accept, &scale_of(&object, paths, served))
}

/// The Scale of an object in the served version.
pub(crate) fn view(object: &Value, served: &Served) -> Value {
    scale_of(object, &Paths::of(served), served)
}

/// Sets the replicas that a Scale asks for.
pub(crate) fn put_back(object: &mut Value, served: &Served, scale: &Value) {
    object.set_pointer(&Paths::of(served).spec, scale.int_at("spec.replicas").unwrap_or(0));
}

/// Who scaled is recorded without a time, before all others, as upstream's way over the Scale has it.
fn forget_times(object: &mut Value) {
    let Some(Value::List(entries)) = object.at_mut("metadata.managedFields") else { return };
    for entry in entries.iter_mut().filter(|e| e.str_at("subresource") == Some("scale")) {
        entry.remove("time");
    }
    entries.sort_by_key(|e| e.get("time").is_some());
}

fn validate(scale: &Value) -> ApiResult<()> {
    let replicas = scale.int_at("spec.replicas").unwrap_or(0);
    if replicas >= 0 {
        return Ok(());
    }
    let path = Path::new("spec.replicas");
    let error = FieldError::invalid(&path, replicas, rules::meta::NOT_NEGATIVE);
    Err(ApiError::invalid("autoscaling", "Scale", meta::name(scale), &[error]))
}

fn answer(call: &Call<'_>, served: &Served, accept: Accept, scale: &Value) -> ApiResult<Response<Body>> {
    if let Form::Table { beta } = accept.form {
        let table = table(scale, render::version(beta), render::include(call.query)?);
        return respond::object(200, &table, Accept { form: Form::Whole, ..accept }, None);
    }
    respond::object(200, scale, accept, served.resource.subresource("scale").map(|s| &s.schema))
}

/// The Table of one scale (`printScale`).
fn table(scale: &Value, version: &str, include: IncludeObject) -> Value {
    let column = |name: &str, kind: &str, format: &str, description: &str| value!({"name": name, "type": kind, "format": format, "description": description, "priority": 0});
    let created =
        scale.str_at("metadata.creationTimestamp").and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let age = created.map(|created| human_duration(render::now_s() - created.as_second()));
    let mut row = value!({"cells": [
        (meta::name(scale)),
        (scale.int_at("spec.replicas").unwrap_or(0)),
        (scale.int_at("status.replicas").unwrap_or(0)),
        (age.unwrap_or_else(|| "<unknown>".to_owned())),
    ]});
    match include {
        IncludeObject::None => {}
        IncludeObject::Object => drop(row.insert("object", scale)),
        IncludeObject::Metadata => drop(row.insert("object", render::partial(scale, Some(version != "v1")))),
    }
    value!({
        "kind": "Table", "apiVersion": (format!("meta.k8s.io/{version}")),
        "metadata": (TableMaker::list_metadata(scale)),
        "columnDefinitions": [
            (column("Name", "string", "name", "The name of what is scaled.")),
            (column("Desired", "integer", "", "How many replicas are wanted.")),
            (column("Available", "integer", "", "How many replicas there are.")),
            (column("Age", "string", "", "How long ago it was made.")),
        ],
        "rows": [(row)],
    })
}

fn scale_of(object: &Value, paths: &Paths, served: &Served) -> Value {
    let mut metadata = Value::map();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field, value);
        }
    }
    let number = |path: &[SmolStr]| object.pointer(path).and_then(Value::as_int).unwrap_or(0);
    let mut spec = Value::map();
    if number(&paths.spec) != 0 {
        spec.insert("replicas", number(&paths.spec));
    }
    let mut status = value!({"replicas": (number(&paths.status))});
    let selector = match object.pointer(&paths.selector) {
        Some(Value::Str(text)) if served.resource.custom => text.to_string(),
        Some(selector) if !served.resource.custom => selector_text(selector),
        _ => String::new(),
    };
    if !selector.is_empty() {
        status.insert("selector", selector);
    }
    value!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": (metadata), "spec": (spec), "status": (status)
    })
}

/// A selector in the query form, terms by key (`labels.Selector.String`). A plain map is the form of old kinds.
pub(crate) fn selector_text(selector: &Value) -> String {
    let plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let labels = if plain { selector } else { &selector["matchLabels"] };
    let mut terms: Vec<(String, String)> = labels
        .entries()
        .iter()
        .map(|(k, v)| (k.to_string(), format!("{k}={}", v.as_str().unwrap_or_default())))
        .collect();
    for expression in selector.items_at("matchExpressions") {
        let key = expression.str_at("key").unwrap_or_default();
        let mut values: Vec<&str> = expression.items_at("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let list = values.join(",");
        let text = match expression.str_at("operator") {
            Some("In") => format!("{key} in ({list})"),
            Some("NotIn") => format!("{key} notin ({list})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), text));
    }
    terms.sort();
    terms.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_print_by_key() {
        let selector = value!({
            "matchLabels": {"app": "dep"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]
        });
        assert_eq!(selector_text(&selector), "app=dep,tier in (a,b)");
        assert_eq!(selector_text(&value!({"app": "rc"})), "app=rc");
    }
}
