//! GET of a collection.

use std::sync::Arc;

use http::Response;
use schema::{Catalog, GroupVersionKind, Value, value};

use super::{Call, list_body, render};
use crate::http::negotiate::{Accept, Form, Media};
use crate::http::{Body, respond};
use crate::registry::options::ListOptions;
use crate::registry::{Filter, ListPage, ListRequest, Served};
use crate::status::{ApiError, ApiResult};

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
) -> ApiResult<Response<Body>> {
    let options = ListOptions::parse(call.query, false)?;
    let filter = Filter::parse(served, options.labels.as_deref(), options.fields.as_deref())?;
    let request =
        ListRequest { served, namespace: call.namespace(served), filter: &filter, options: &options };
    let page = call.core.registry.list(&request).await?;
    answer(call, served, accept, page).await
}

/// ListMeta of a page.
pub(super) fn list_meta(page: &ListPage) -> Value {
    let mut meta = value!({"resourceVersion": (page.revision.to_string())});
    if !page.continue_token.is_empty() {
        meta.insert("continue", page.continue_token.as_str());
    }
    if let Some(remaining) = page.remaining {
        meta.insert("remainingItemCount", i64::try_from(remaining).unwrap_or(i64::MAX));
    }
    meta
}

async fn answer(
    call: &Call<'_>,
    served: &Served,
    accept: Accept,
    page: ListPage,
) -> ApiResult<Response<Body>> {
    if render::is_copied_page(served, accept, &page.entries) {
        return list_body::response(call.core, served, page, accept.pretty);
    }
    let meta = list_meta(&page);
    match accept.form {
        Form::Whole if accept.media == Media::Protobuf && !served.resource.custom => {
            list_body::protobuf(served, page).await
        }
        Form::Whole => {
            let objects = render::decode_all(served, &page.entries).await?;
            of_objects(call, served, accept, meta, objects)
        }
        Form::Metadata { list: false, .. } => Err(no_list(served)),
        Form::Metadata { beta, .. } => {
            let items = list_body::map(served, &page, |object| render::partial(object, Some(beta))).await?;
            partial_list(accept, beta, meta, items)
        }
        Form::Table { beta } => {
            let rows = render::Rows::new(served, beta, render::include(call.query)?);
            if accept.media == Media::Json && !accept.pretty {
                return list_body::table(served, &page, &rows).await;
            }
            let made = list_body::map(served, &page, |object| rows.row(object)).await?;
            let table = rows.table(meta, true, made);
            respond::object(200, &table, Accept { form: Form::Whole, ..accept }, None)
        }
    }
}

/// A list of decoded objects in the form asked for.
pub(super) fn of_objects(
    call: &Call<'_>,
    served: &Served,
    accept: Accept,
    meta: Value,
    mut objects: Vec<Value>,
) -> ApiResult<Response<Body>> {
    match accept.form {
        Form::Whole => {
            let resource = &served.resource;
            if !resource.custom {
                for object in &mut objects {
                    object.remove("kind");
                    object.remove("apiVersion");
                }
            }
            let list = value!({
                "kind": (resource.list_kind.clone()), "apiVersion": (resource.api_version()),
                "metadata": (meta), "items": (Value::List(objects))
            });
            let gvk = resource.group_version().kind(resource.list_kind.clone());
            respond::object(200, &list, accept, Catalog::builtin().kind(&gvk))
        }
        Form::Metadata { list: false, .. } => Err(no_list(served)),
        Form::Metadata { beta, .. } => {
            let items = objects.iter().map(|o| render::partial(o, Some(beta))).collect();
            partial_list(accept, beta, meta, items)
        }
        Form::Table { beta } => {
            let table = render::table(served, &objects, meta, beta, true, render::include(call.query)?);
            respond::object(200, &table, Accept { form: Form::Whole, ..accept }, None)
        }
    }
}

fn no_list(served: &Served) -> ApiError {
    render::not_convertible(&format!(
        "you requested PartialObjectMetadata, but the requested object is a list ({})",
        render::go_type(served, "List")
    ))
}

fn partial_list(accept: Accept, beta: bool, meta: Value, items: Vec<Value>) -> ApiResult<Response<Body>> {
    let version = render::version(beta);
    let list = value!({
        "kind": "PartialObjectMetadataList", "apiVersion": (format!("meta.k8s.io/{version}")),
        "metadata": (meta), "items": (Value::List(items))
    });
    let gvk = GroupVersionKind::new("meta.k8s.io", version, "PartialObjectMetadataList");
    respond::object(200, &list, accept, Catalog::builtin().kind(&gvk))
}
