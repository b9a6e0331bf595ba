//! From a request to the registry: verbs of resources, and the paths that are none.

pub(crate) mod create;
mod delete;
pub(crate) mod frames;
pub(crate) mod get;
mod list;
mod list_body;
mod non_resource;
pub(crate) mod patch;
pub(crate) mod pieces;
pub(crate) mod render;
pub(crate) mod update;
pub(crate) mod virtual_kinds;
mod watch;

use std::sync::Arc;

use base::UserInfo;
use http::Response;
use http::request::Parts;
use schema::{GroupVersion, Value};

use crate::core::Core;
use crate::http::negotiate::accept;
use crate::http::{Body, respond};
use crate::registry::{Served, Warnings, WriteContext, WriteOptions};
use crate::request::{Query, RequestInfo};
use crate::status::{ApiError, ApiResult};

/// One request that has been let through.
pub struct Call<'a> {
    /// The server.
    pub core: &'a Arc<Core>,
    /// The request's head.
    pub parts: &'a Parts,
    /// What it is for.
    pub info: &'a RequestInfo,
    /// Its query.
    pub query: &'a Query,
    /// Who asks, after impersonation.
    pub user: &'a UserInfo,
    /// Where warnings go.
    pub warnings: &'a Warnings,
}

/// Serves it.
pub async fn serve(call: &Call<'_>, body: Body) -> ApiResult<Response<Body>> {
    if let Some(remote) = call.core.aggregation.route(&call.info.path) {
        return crate::aggregation::serve(call, &remote, body).await;
    }
    if let Some(extension) = call.core.extension.get().filter(|mounted| mounted.has(&call.info.path)) {
        return extension.serve(call, body).await;
    }
    if call.info.is_resource { resource(call, body).await } else { non_resource::serve(call, body).await }
}

async fn resource(call: &Call<'_>, body: Body) -> ApiResult<Response<Body>> {
    let info = call.info;
    let Some(served) = call.core.registry.resource(&info.group, &info.version, &info.resource) else {
        return unknown(call);
    };
    if served.resource.namespaced && info.namespace.is_empty() && !matches!(info.verb, "list" | "watch") {
        let collection_post = info.verb == "create" && info.name.is_empty();
        return if collection_post || info.verb == "deletecollection" {
            Err(ApiError::method_not_allowed())
        } else {
            unknown(call)
        };
    }
    if !served.deprecation.is_empty() {
        call.warnings.add(served.deprecation.clone());
    }
    if let Some(connect) = crate::subresource::connect(&served, info) {
        return crate::proxy::serve(call, &served, connect, body).await;
    }
    check_verb(call, &served)?;
    let accept = accept(&call.parts.headers, call.query)?;
    if virtual_kinds::is_virtual(&served, &info.subresource) {
        return virtual_kinds::serve(call, &served, accept, body).await;
    }
    match (info.subresource.as_str(), info.verb) {
        ("" | "status", "get") => get::serve(call, &served, accept).await,
        ("", "list") => list::serve(call, &served, accept).await,
        ("", "watch") => watch::serve(call, &served, accept).await,
        ("", "create") => create::serve(call, &served, accept, body).await,
        ("" | "status", "update") => update::serve(call, &served, accept, body).await,
        ("" | "status", "patch") => patch::serve(call, &served, accept, body).await,
        ("", "delete") => delete::serve(call, &served, accept, body).await,
        ("", "deletecollection") => delete::serve_collection(call, &served, accept, body).await,
        _ => crate::subresource::serve(call, &served, accept, body).await,
    }
}

/// 404 as upstream's routers give it: a page where no group is known, a Status below a known one.
fn unknown(call: &Call<'_>) -> ApiResult<Response<Body>> {
    let table = call.core.registry.resources.load();
    let version = GroupVersion::new(call.info.group.as_str(), call.info.version.as_str());
    let builtin = schema::Catalog::builtin().groups().iter().any(|g| g.name == version.group);
    if builtin && table.has_group(&version.group) {
        return Err(ApiError::unknown_resource());
    }
    Ok(respond::page_not_found())
}

fn check_verb(call: &Call<'_>, served: &Served) -> ApiResult<()> {
    let info = call.info;
    let resource = &served.resource;
    if call.parts.method == http::Method::HEAD || info.verb.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    let verbs = match info.subresource.as_str() {
        "" => &resource.verbs,
        name => match resource.subresource(name) {
            Some(subresource) => &subresource.verbs,
            None => return Err(ApiError::unknown_resource()),
        },
    };
    let misplaced = (info.verb == "create" && info.subresource.is_empty() && !info.name.is_empty())
        || (matches!(info.verb, "update" | "patch") && info.name.is_empty());
    if misplaced || !verbs.iter().any(|v| v == info.verb) {
        return Err(if resource.custom && !misplaced {
            ApiError::method_not_supported(served.group_resource(), info.verb)
        } else {
            ApiError::method_not_allowed()
        });
    }
    Ok(())
}

impl<'a> Call<'a> {
    /// The registry's view of this request as a write.
    pub fn write_context<'b>(
        &'b self,
        served: &'b Arc<Served>,
        options: &'b WriteOptions,
        options_value: &'b Value,
    ) -> WriteContext<'b> {
        WriteContext {
            registry: &self.core.registry,
            served,
            subresource: &self.info.subresource,
            namespace: if served.resource.namespaced { &self.info.namespace } else { "" },
            name: &self.info.name,
            user: self.user,
            options,
            options_value,
            admission: &self.core.admission,
            warnings: self.warnings,
            conversions: crate::registry::Conversions::default(),
        }
    }

    /// The namespace of the request; empty at cluster scope and for all namespaces.
    pub fn namespace(&self, served: &Served) -> &'a str {
        if served.resource.namespaced { &self.info.namespace } else { "" }
    }
}
