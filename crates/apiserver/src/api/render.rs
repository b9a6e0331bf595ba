//! Objects in the form that the client asked for.

use std::sync::Arc;

use std::time::SystemTime;

use base::{Clock, SystemClock};
use http::Response;
use openapi::table::{IncludeObject, TableMaker};
use schema::{Catalog, GroupVersionKind, Value, value};
use store::Entry;

use super::Call;
use crate::http::negotiate::{Accept, Form, Media};
use crate::http::{Body, respond};
use crate::registry::stored::{header, memo};
use crate::registry::{Saved, Served};
use crate::request::Query;
use crate::status::{ApiError, ApiResult};
use crate::strategies::daemon_sets::TEMPLATE_GENERATION;

/// Answers with an entry. Plain JSON is copied from the stored bytes.
pub async fn entry(
    call: &Call<'_>,
    served: &Served,
    accept: Accept,
    entry: &Entry,
) -> ApiResult<Response<Body>> {
    let memo = memo(entry);
    if is_copied(served, accept, entry) {
        let header = header(&served.resource.kind, &served.resource.api_version());
        let mut out = Vec::new();
        memo.write_json(&mut out, entry, &header, entry.mod_revision.0);
        if accept.pretty {
            let compact = std::mem::take(&mut out);
            codec::json::indent(&compact, 0, &mut out);
        }
        out.push(b'\n');
        return Ok(respond::bytes(200, Media::Json.name(), out));
    }
    object(call, served, accept, 200, served.convert_from_hub(memo.decode(entry)?).await?)
}

/// True when stored bytes can be copied into the answer, whatever the object.
pub fn is_plain(served: &Served, accept: Accept) -> bool {
    accept.media == Media::Json && accept.form == Form::Whole && served.conversion.is_none()
}

/// True when the bytes of these entries can be copied into the answer.
pub fn is_copied_page(served: &Served, accept: Accept, entries: &[Arc<Entry>]) -> bool {
    is_plain(served, accept)
        || (!entries.is_empty() && entries.iter().all(|entry| is_copied(served, accept, entry)))
}

/// True when the bytes of this entry can be copied into the answer.
pub fn is_copied(served: &Served, accept: Accept, entry: &Entry) -> bool {
    accept.media == Media::Json && accept.form == Form::Whole && served.is_same(entry.mod_revision.0)
}

/// Answers with what a write saved.
pub async fn saved(
    call: &Call<'_>,
    served: &Served,
    accept: Accept,
    code: u16,
    saved: Saved,
) -> ApiResult<Response<Body>> {
    if let Some(stored) = saved.entry.as_ref().filter(|stored| is_copied(served, accept, stored)) {
        let mut response = entry(call, served, accept, stored).await?;
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
        return Ok(response);
    }
    object(call, served, accept, code, served.convert_from_hub(saved.object).await?)
}

/// Answers with an object of the served version, in the form asked for.
pub fn object(
    call: &Call<'_>,
    served: &Served,
    accept: Accept,
    code: u16,
    object: Value,
) -> ApiResult<Response<Body>> {
    match accept.form {
        Form::Whole => respond::object(code, &object, accept, Some(&served.resource.schema)),
        Form::Metadata { list: true, .. } => Err(not_convertible(&format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
            go_type(served, "")
        ))),
        Form::Metadata { beta, .. } => {
            let gvk = GroupVersionKind::new("meta.k8s.io", version(beta), "PartialObjectMetadata");
            respond::object(code, &partial(&object, Some(beta)), accept, Catalog::builtin().kind(&gvk))
        }
        Form::Table { beta } => {
            let list_meta = TableMaker::list_metadata(&object);
            let include = include(call.query)?;
            let table = table(served, &[object], list_meta, beta, true, include);
            respond::object(code, &table, Accept { form: Form::Whole, ..accept }, None)
        }
    }
}

/// The metadata alone; with kind and version unless it is an item of a list.
pub fn partial(object: &Value, beta: Option<bool>) -> Value {
    let mut out = value!({"metadata": (object["metadata"].clone())});
    if let Some(beta) = beta {
        out.insert("kind", "PartialObjectMetadata");
        out.insert("apiVersion", format!("meta.k8s.io/{}", version(beta)));
    }
    out
}

/// `v1` or `v1beta1`.
pub fn version(beta: bool) -> &'static str {
    if beta { "v1beta1" } else { "v1" }
}

/// 406 about an object that does not come in the form asked for.
pub fn not_convertible(why: &str) -> ApiError {
    ApiError::new(406, "NotAcceptable", why)
}

/// The name that upstream's internal type of an object has, or with the suffix `List` of its list.
pub fn go_type(served: &Served, suffix: &str) -> String {
    let resource = &served.resource;
    if resource.custom {
        return format!("*unstructured.Unstructured{suffix}");
    }
    let package = resource.group.split('.').next().filter(|p| !p.is_empty()).unwrap_or("core");
    format!("*{package}.{}{suffix}", resource.kind)
}

/// How much of each object a Table's rows carry; 400 for an unknown answer to that.
pub fn include(query: &Query) -> ApiResult<IncludeObject> {
    match query.get("includeObject") {
        Some("None") => Ok(IncludeObject::None),
        Some("Object") => Ok(IncludeObject::Object),
        None | Some("" | "Metadata") => Ok(IncludeObject::Metadata),
        Some(other) => Err(ApiError::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', \
             'Object', 'None', or empty",
            rules::quote(other)
        ))),
    }
}

/// A Table of objects in the served version. `columns`: with column definitions, which only the first table of a
/// watch has.
pub fn table(
    served: &Served,
    objects: &[Value],
    list_meta: Value,
    beta: bool,
    columns: bool,
    include: IncludeObject,
) -> Value {
    let maker = Rows::new(served, beta, include);
    let rows = objects.iter().map(|object| maker.row(object)).collect();
    maker.table(list_meta, columns, rows)
}

/// What a Table's ages are counted to.
pub fn now_s() -> i64 {
    let now = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs() as i64)
}

/// Makes the rows of one Table.
pub struct Rows<'a> {
    maker: TableMaker<'a>,
    now_s: i64,
    hides_template_generation: bool,
}

impl<'a> Rows<'a> {
    /// For objects of that resource, ages as of now.
    pub fn new(served: &'a Served, beta: bool, include: IncludeObject) -> Self {
        Self {
            maker: TableMaker::new(&served.resource, version(beta), include),
            now_s: now_s(),
            hides_template_generation: served.is("apps", "daemonsets") && include == IncludeObject::Metadata,
        }
    }

    /// One object's.
    pub fn row(&self, object: &Value) -> Value {
        match self.hides_template_generation {
            true => self.maker.row(&without_template_generation(object), self.now_s),
            false => self.maker.row(object, self.now_s),
        }
    }

    /// All together.
    pub fn table(&self, list_meta: Value, columns: bool, rows: Vec<Value>) -> Value {
        self.maker.table(list_meta, columns, rows)
    }
}

/// Metadata in Tables lacks this annotation upstream, which has it as a field there.
fn without_template_generation(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(annotations) = object.at_mut("metadata.annotations") {
        annotations.remove(TEMPLATE_GENERATION);
        if annotations.is_zero() {
            object.remove_at("metadata.annotations");
        }
    }
    object
}

/// Entries decoded in the served version.
pub async fn decode_all(served: &Served, entries: &[Arc<Entry>]) -> ApiResult<Vec<Value>> {
    let decoded = entries.iter().map(|entry| memo(entry).decode(entry)).collect::<ApiResult<Vec<_>>>()?;
    served.convert_all_from_hub(decoded).await
}
