//! Whether the servers behind API services can be had, found out by asking them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::header::{ACCEPT, HeaderValue};
use http::{Method, StatusCode};
use schema::{Value, value};

use super::controller::{backend, set_condition};
use super::desired::availability;
use super::{Name, Remote, Served};
use crate::core::Core;
use crate::registry;

/// Time for one question (`discoveryTimeout`).
const TIMEOUT: Duration = Duration::from_secs(5);
/// All are asked again after this long.
const INTERVAL: Duration = Duration::from_secs(30);
/// Servers asked at once.
const AT_ONCE: usize = 16;
/// Aggregated discovery first, the plain list otherwise.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                         application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                         application/json";

/// Asks every remote server when something about it has changed, and from time to time.
pub async fn run(core: Arc<Core>, own: Arc<registry::Served>) {
    loop {
        let all = core.aggregation.all();
        let asked = futures::stream::iter(all).map(|remote| probe(&core, &own, remote));
        let found: Vec<(Name, Served)> =
            asked.buffer_unordered(AT_ONCE).filter_map(|x| async { x }).collect().await;
        core.aggregation.served.store(Arc::new(found.into_iter().collect::<BTreeMap<_, _>>()));
        if core.aggregation.is_empty() {
            core.aggregation.stale.notified().await;
        } else {
            let _ = tokio::time::timeout(INTERVAL, core.aggregation.stale.notified()).await;
        }
    }
}

async fn probe(core: &Core, own: &Arc<registry::Served>, remote: Arc<Remote>) -> Option<(Name, Served)> {
    let object = core.registry.find("apiregistration.k8s.io", "apiservices", "", &remote.name).ok()??;
    let mut condition = availability(&object, backend(&core.registry, &object).ok()?);
    let mut served = None;
    if condition.0 == "Unknown" {
        condition = match discover(core, &remote).await {
            Ok(found) => {
                served = Some(found);
                ("True", "Passed", "all checks passed".to_owned())
            }
            Err(why) => ("False", "FailedDiscoveryCheck", why),
        };
    }
    if let Err(error) = set_condition(&core.registry, own, &object, condition).await {
        tracing::warn!(%error, service = remote.name, "write the condition of an API service");
    }
    served.map(|served| ((remote.group.clone(), remote.version.clone()), served))
}

async fn discover(core: &Core, remote: &Remote) -> Result<Served, String> {
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let failing = |url: &str, why: String| format!("failing or missing response from {url}: {why}");
    let endpoint = remote.endpoint(core, &path).map_err(|e| failing(&path, e.to_string()))?;
    let url = endpoint.url.to_string();
    let answer =
        endpoint.send(Method::GET, bytes::Bytes::new(), &[], TIMEOUT).await.map_err(|e| match e {
            crate::outbound::OutboundError::Transport { why, .. } => {
                failing(&url, format!("Get {}: {why}", rules::quote(&url)))
            }
            other => failing(&url, other.to_string()),
        })?;
    // A server that refuses is there all the same.
    let refused = matches!(answer.code, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED);
    if !answer.code.is_success() && !refused {
        let code = answer.code.as_u16();
        return Err(failing(&url, format!("bad status from {url}: {code}")));
    }
    let plain = codec::json::parse(&answer.body).unwrap_or_default();
    let resources = match aggregated(core, remote).await {
        Some(resources) => resources,
        None => from_plain(remote, &plain),
    };
    Ok(Served { resources, openapi: openapi(core, remote).await })
}

/// What the server's aggregated discovery says of the version.
async fn aggregated(core: &Core, remote: &Remote) -> Option<Value> {
    let endpoint = remote.endpoint(core, "/apis").ok()?;
    let accept = [(ACCEPT, HeaderValue::from_static(DISCOVERY))];
    let answer = endpoint.send(Method::GET, bytes::Bytes::new(), &accept, TIMEOUT).await.ok()?;
    let document = codec::json::parse(&answer.body).ok()?;
    let group = document
        .items_at("items")
        .iter()
        .find(|group| group.str_at("metadata.name") == Some(remote.group.as_str()))?;
    let version =
        group.items_at("versions").iter().find(|v| v.str_at("version") == Some(remote.version.as_str()))?;
    Some(version["resources"].clone())
}

/// The same from an APIResourceList.
fn from_plain(remote: &Remote, list: &Value) -> Value {
    let kind = |r: &Value| {
        let text =
            |name: &str, other: &str| r.str_at(name).filter(|t| !t.is_empty()).unwrap_or(other).to_owned();
        value!({"group": (text("group", &remote.group)), "version": (text("version", &remote.version)),
            "kind": (text("kind", ""))})
    };
    let mut all: Vec<Value> = Vec::new();
    for resource in list.items_at("resources") {
        let name = resource.str_at("name").unwrap_or_default();
        let (plural, subresource) = name.split_once('/').unwrap_or((name, ""));
        if subresource.is_empty() {
            let scope = if resource.bool_at("namespaced") == Some(true) { "Namespaced" } else { "Cluster" };
            let mut out = value!({
                "resource": plural, "responseKind": (kind(resource)), "scope": scope,
                "singularResource": (resource.str_at("singularName").unwrap_or_default()),
                "verbs": (resource["verbs"].clone())
            });
            for list in ["shortNames", "categories"] {
                if !resource[list].is_null() {
                    out.insert(list, resource[list].clone());
                }
            }
            all.push(out);
        } else if let Some(parent) = all.iter_mut().find(|r| r.str_at("resource") == Some(plural)) {
            let sub = value!({
                "subresource": subresource, "responseKind": (kind(resource)), "verbs": (resource["verbs"].clone())
            });
            parent.make_map().entry_list("subresources").push(sub);
        }
    }
    Value::List(all)
}

/// Where the version's OpenAPI v3 document is.
async fn openapi(core: &Core, remote: &Remote) -> Option<String> {
    let (index, _) = remote.endpoint(core, "/openapi/v3").ok()?.get_json(TIMEOUT).await.ok()?;
    let path = format!("apis/{}/{}", remote.group, remote.version);
    Some(index["paths"].get(&path)?.str_at("serverRelativeURL")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lists_become_aggregated_ones() {
        let remote = Remote::of(
            &value!({"metadata": {"name": "v1.x"}, "spec": {"group": "x", "version": "v1",
                "service": {"namespace": "a", "name": "b"}}}),
            None,
        )
        .unwrap();
        let list = value!({"resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
            {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]}
        ]});
        let found = from_plain(&remote, &list);
        assert_eq!(found.items()[0].str_at("responseKind.group"), Some("x"));
        assert_eq!(found.items()[0].items_at("subresources")[0].str_at("subresource"), Some("status"));
    }
}
