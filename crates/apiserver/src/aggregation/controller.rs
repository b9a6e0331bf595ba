//! Keeps the API services as they should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::TaskScope;
use schema::{Value, value};

use super::Remote;
use super::desired::{AUTOMANAGED, Backend, availability, local};
use crate::Error;
use crate::core::Core;
use crate::registry::options::DeleteOptions;
use crate::registry::stored::memo;
use crate::registry::{Follower, Registry, Served, meta};
use crate::status::{ApiError, ApiResult};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";

/// Follows API services, services and what is served, in a task of `scope`.
pub(crate) fn run(core: &Arc<Core>, scope: &TaskScope) -> Result<(), Error> {
    let missing = || Error::Bootstrap { what: PLURAL.to_owned(), source: ApiError::unknown_resource() };
    let own = core.registry.stored_resource(GROUP, PLURAL).ok_or_else(missing)?;
    let services = core.registry.stored_resource("", "services").ok_or_else(missing)?;
    let slices = core.registry.stored_resource("discovery.k8s.io", "endpointslices").ok_or_else(missing)?;
    let core = core.clone();
    let identity = identity(&core)?;
    scope.spawn(super::probe::run(core.clone(), own.clone()));
    scope.spawn(async move { follow(&core, &own, [&services, &slices], identity.as_ref()).await });
    Ok(())
}

/// What aggregated servers are shown (`--proxy-client-cert-file`).
fn identity(core: &Core) -> Result<Option<Arc<pki::Reloading>>, Error> {
    let options = &core.options;
    let files = options.proxy_client_cert_file.clone().zip(options.proxy_client_key_file.clone());
    let read = |(certificate, key)| pki::Reloading::new(pki::KeyPairFiles { certificate, key }).map(Arc::new);
    Ok(files.map(read).transpose()?)
}

async fn follow(
    core: &Core,
    own: &Arc<Served>,
    [services, slices]: [&Arc<Served>; 2],
    identity: Option<&Arc<pki::Reloading>>,
) {
    let registry = &core.registry;
    let mut changed = registry.changed.subscribe();
    let mut own_changes = registry.follow(own);
    let mut backends = [registry.follow(services), registry.follow(slices)];
    loop {
        let [services, slices] = &mut backends;
        let told = tokio::select! {
            told = own_changes.next() => told.map(|_| true),
            told = services.next() => told.map(|_| false),
            told = slices.next() => told.map(|_| false),
            served = changed.changed() => served.ok().map(|()| true),
        };
        match told {
            None => return,
            Some(true) => {
                own_changes.skip_known();
                changed.mark_unchanged();
                if let Err(error) = reconcile(core, own, identity).await {
                    tracing::warn!(%error, "reconcile API services");
                }
            }
            Some(false) => {
                backends.iter_mut().for_each(Follower::skip_known);
                core.aggregation.stale.notify_one();
            }
        }
    }
}

async fn reconcile(core: &Core, own: &Arc<Served>, identity: Option<&Arc<pki::Reloading>>) -> ApiResult<()> {
    let registry = &core.registry;
    let wanted = local(&registry.resources.load());
    let mut present: BTreeMap<String, Value> = BTreeMap::new();
    for entry in registry.entries(own, None)? {
        let object = memo(&entry).decode(&entry)?;
        present.insert(meta::name(&object).to_owned(), object);
    }
    let remote = present.values().filter_map(|object| Remote::of(object, identity));
    let remote = remote.map(|r| ((r.group.clone(), r.version.clone()), Arc::new(r)));
    core.aggregation.set(remote.collect());
    for object in &wanted {
        if !present.contains_key(meta::name(object)) {
            let saved = registry.own().create(own, "", object.clone()).await?;
            present.insert(meta::name(object).to_owned(), saved.object);
        }
    }
    for (name, object) in &present {
        let managed = object["metadata"]["labels"][AUTOMANAGED].as_str() == Some("true");
        if managed && !wanted.iter().any(|w| meta::name(w) == name) {
            match registry.own().delete(own, ("", name), &DeleteOptions::default()).await {
                Err(error) if error.code != 404 => return Err(error),
                _ => continue,
            }
        }
        if object["spec"]["service"].is_null() {
            set_condition(registry, own, object, availability(object, Backend::Present)).await?;
        }
    }
    Ok(())
}

/// Writes the condition `Available` if it is another than before.
pub async fn set_condition(
    registry: &Registry,
    own: &Arc<Served>,
    object: &Value,
    (status, reason, message): (&'static str, &'static str, String),
) -> ApiResult<()> {
    let present = object.items_at("status.conditions").iter().find(|c| c.str_at("type") == Some("Available"));
    let same = |c: &Value| {
        c.str_at("status") == Some(status)
            && c.str_at("reason") == Some(reason)
            && c.str_at("message") == Some(message.as_str())
    };
    if present.is_some_and(same) {
        return Ok(());
    }
    let name = meta::name(object);
    let since =
        present.filter(|c| c.str_at("status") == Some(status)).and_then(|c| c.str_at("lastTransitionTime"));
    let since = since.map_or_else(|| registry.now(), str::to_owned);
    let condition = value!({
        "type": "Available", "status": status, "lastTransitionTime": since, "reason": reason, "message": message
    });
    let transform = |live: Option<&Value>| {
        let mut object = live.cloned().ok_or_else(|| ApiError::not_found(own.group_resource(), name))?;
        let conditions = object.make_map().entry_map("status").entry_list("conditions");
        conditions.retain(|c| c.str_at("type") != Some("Available"));
        conditions.push(condition.clone());
        Ok(object)
    };
    match registry.own().update(own, "status", ("", name), &transform).await {
        Err(error) if error.code == 404 => Ok(()),
        done => done.map(|_| ()),
    }
}

/// What there is behind an API service.
pub fn backend(registry: &Registry, object: &Value) -> ApiResult<Backend> {
    let text = |at: &str| object.str_at(at).unwrap_or_default();
    let (namespace, name) = (text("spec.service.namespace"), text("spec.service.name"));
    let port = object.int_at("spec.service.port").unwrap_or(443);
    let Some(service) = registry.find("", "services", namespace, name)? else { return Ok(Backend::Missing) };
    match service.str_at("spec.type") {
        Some("ExternalName") => return Ok(Backend::Present),
        Some("ClusterIP") | None => {}
        // What other types have need not be found in endpoints (upstream checks type ClusterIP alone).
        Some(_) => return Ok(Backend::Present),
    }
    if !service.items_at("spec.ports").iter().any(|p| p.int_at("port") == Some(port)) {
        return Ok(Backend::NoPort);
    }
    let slices = registry.find_all("discovery.k8s.io", "endpointslices", Some(namespace))?;
    let own = |slice: &&Arc<Value>| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str() == Some(name)
    };
    let any = slices.iter().filter(own).any(|slice| !slice.items_at("endpoints").is_empty());
    Ok(if any { Backend::Present } else { Backend::NoEndpoints })
}
