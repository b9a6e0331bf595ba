//! DELETE of an object or a collection.

use std::sync::Arc;

use http::Response;
use schema::{Catalog, GroupVersionKind, Value};

use super::{Call, list, render};
use crate::encoding::{self, Expected};
use crate::http::negotiate::{Accept, body_media};
use crate::http::{Body, body, respond};
use crate::registry::options::{DeleteOptions, FieldValidation, ListOptions};
use crate::registry::{Filter, ListPage, Served, WriteOptions, meta};
use crate::status::{ApiError, ApiResult, Details, success};

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let (options, options_value) = delete_options(call, served, body).await?;
    let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
    let context = call.write_context(served, &write, &options_value);
    let deleted = context.delete(&options).await?;
    let accepted = !deleted.gone && options.orphan_dependents == Some(false);
    let code = if accepted { 202 } else { 200 };
    if deleted.gone && !served.strategy.traits().returns_deleted {
        let object = &deleted.saved.object;
        let details = Details {
            name: meta::smol(object, "name"),
            group: served.resource.group.clone(),
            kind: served.resource.plural.clone(),
            uid: meta::smol(object, "uid"),
            ..Details::default()
        };
        let status = success(Some(details), None);
        let schema = Catalog::builtin().kind(&GroupVersionKind::new("", "v1", "Status"));
        return respond::object(code, &status, accept, schema);
    }
    render::object(call, served, accept, code, served.convert_from_hub(deleted.saved.object).await?)
}

pub(super) async fn serve_collection(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let list_options = ListOptions::parse(call.query, false)?;
    let filter = Filter::parse(served, list_options.labels.as_deref(), list_options.fields.as_deref())?;
    let (options, options_value) = delete_options(call, served, body).await?;
    let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
    let context = call.write_context(served, &write, &options_value);
    let (revision, deleted) = context.delete_collection(&filter, &list_options, &options).await?;
    let objects = served.convert_all_from_hub(deleted.into_iter().map(|d| d.object).collect()).await?;
    let meta = list::list_meta(&ListPage { revision, ..ListPage::default() });
    list::of_objects(call, served, accept, meta, objects)
}

/// DeleteOptions out of the body, or of the query when there is no body.
async fn delete_options(call: &Call<'_>, served: &Served, body: Body) -> ApiResult<(DeleteOptions, Value)> {
    let bytes = body::read(body).await?;
    let value = if bytes.is_empty() {
        DeleteOptions::value_of_query(call.query)?
    } else {
        let media = body_media(&call.parts.headers, false)?;
        let given = decode_options(call, served, media, &bytes)?;
        // What the query says fills what the body leaves out of dryRun.
        let mut given = given;
        if given["dryRun"].is_null() {
            let query = DeleteOptions::value_of_query(call.query)?;
            if !query["dryRun"].is_null() {
                given.insert("dryRun", query["dryRun"].clone());
            }
        }
        given
    };
    let options = DeleteOptions::from_value(&value)?;
    // As admission sees them, whatever the client called them.
    let mut value = value;
    value.insert("kind", "DeleteOptions");
    value.insert("apiVersion", "meta.k8s.io/v1");
    Ok((options, value))
}

fn decode_options(
    call: &Call<'_>,
    served: &Served,
    media: crate::http::negotiate::Media,
    bytes: &[u8],
) -> ApiResult<Value> {
    // Clients send it in the group's version, in `v1` or in `meta.k8s.io/v1`; the fields are the same.
    let catalog = Catalog::builtin();
    let gvk = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
    let schema = catalog
        .kind(&gvk)
        .or_else(|| catalog.kind(&GroupVersionKind::new("", "v1", "DeleteOptions")))
        .ok_or_else(|| ApiError::internal("the type DeleteOptions is missing"))?;
    let said = match media {
        crate::http::negotiate::Media::Protobuf => codec::protobuf::unwrap(bytes)
            .ok()
            .map(|e| (e.api_version.to_owned(), e.kind.to_owned()))
            .unwrap_or_default(),
        _ => (String::new(), String::new()),
    };
    let group = &served.resource;
    let gvk = match schema::GroupVersion::parse(&said.0).filter(|_| !said.0.is_empty()) {
        Some(version) => version.kind("DeleteOptions"),
        None => match serde_json::from_slice::<TypeOnly>(bytes).ok().and_then(|t| t.api_version) {
            Some(text) if !text.is_empty() => schema::GroupVersion::parse(&text)
                .ok_or_else(|| ApiError::bad_request(format!("unexpected GroupVersion string: {text}")))?
                .kind("DeleteOptions"),
            _ => group.group_version().kind("DeleteOptions"),
        },
    };
    let expected = Expected { schema, gvk, custom: false };
    encoding::decode(media, bytes, &expected, FieldValidation::Ignore, call.warnings)
}

#[derive(serde::Deserialize)]
struct TypeOnly {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
}
