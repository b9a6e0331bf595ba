//! Objects that the server makes for itself: namespaces, default roles, priority classes, flow control, and the
//! `kubernetes` service with its endpoints.

mod authentication_map;
mod endpoint_lease;
mod kubernetes;
mod policy;

use std::sync::Arc;

use ::futures::future::try_join_all;
use schema::{Value, value};

use crate::Error;
use crate::core::Core;
use crate::registry::{Registry, Served, Transform, meta};
use crate::status::ApiResult;

pub use authentication_map::keep as keep_authentication_map;

/// Made in this order: the first holds what the others are in.
const NAMESPACES: [&str; 4] = ["kube-system", "default", "kube-public", "kube-node-lease"];
/// Priority classes, priority levels and flow schemas of a default server.
const OBJECTS: &str = include_str!("objects.json");

/// Makes what is missing, and brings back what the server owns. Returns when all of it is stored.
pub async fn run(core: &Core) -> Result<(), Error> {
    let maker = Maker::new(&core.registry);
    let namespace =
        |name: &str| value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    try_join_all(NAMESPACES.map(|name| maker.ensure("", "namespaces", "", namespace(name)))).await?;
    let own: Vec<serde_json::Value> = serde_json::from_str(OBJECTS).unwrap_or_default();
    let own: Vec<Value> = own.into_iter().map(Value::from).collect();
    try_join_all(own.into_iter().map(|object| {
        let (group, plural) = match object.str_at("kind") {
            Some("PriorityClass") => ("scheduling.k8s.io", "priorityclasses"),
            Some("FlowSchema") => ("flowcontrol.apiserver.k8s.io", "flowschemas"),
            _ => ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
        };
        maker.ensure(group, plural, "", object)
    }))
    .await?;
    let roles = policy::defaults();
    try_join_all(roles.iter().map(|role| {
        let namespace = role.object.str_at("metadata.namespace").unwrap_or_default().to_owned();
        maker.reconcile(policy::GROUP, role.plural, namespace, &role.object)
    }))
    .await?;
    authentication_map::ensure(core, &maker).await?;
    let failed = |source| Error::Bootstrap { what: "service addresses".to_owned(), source };
    crate::service::repair::run(&core.registry, &core.scope).await.map_err(failed)?;
    kubernetes::run(core, &maker).await
}

/// Makes the server's own objects and keeps them right.
pub(crate) struct Maker<'a> {
    registry: &'a Registry,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(registry: &'a Registry) -> Self {
        Self { registry }
    }

    async fn write(
        &self,
        served: &Arc<Served>,
        namespace: &str,
        name: &str,
        transform: &Transform<'_>,
    ) -> ApiResult<()> {
        let own = self.registry.own();
        if self.registry.entry(served, namespace, name)?.is_some() {
            return own.update(served, "", (namespace, name), transform).await.map(drop);
        }
        match own.create(served, namespace, transform(None)?).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        }
    }

    fn resource(&self, group: &str, plural: &str) -> Result<Arc<Served>, Error> {
        let unknown = || crate::ApiError::unknown_resource();
        let found = self.registry.stored_resource(group, plural);
        found.ok_or_else(|| Error::Bootstrap { what: plural.to_owned(), source: unknown() })
    }

    /// Makes the object unless there is one of its name.
    pub(crate) async fn ensure(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        object: Value,
    ) -> Result<(), Error> {
        let served = self.resource(group, plural)?;
        let name = meta::name(&object).to_owned();
        let failed = |source| Error::Bootstrap { what: format!("{plural} {name}"), source };
        if self.registry.entry(&served, namespace, &name).map_err(failed)?.is_some() {
            return Ok(());
        }
        self.write(&served, namespace, &name, &|_| Ok(object.clone())).await.map_err(failed)
    }

    /// Makes the object, or changes the one of its name by `change`.
    pub(crate) async fn apply(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        object: &Value,
        change: &(dyn Fn(&mut Value, &Value) + Send + Sync),
    ) -> Result<(), Error> {
        let served = self.resource(group, plural)?;
        let name = meta::name(object).to_owned();
        let transform = |live: Option<&Value>| {
            Ok(match live {
                None => object.clone(),
                Some(live) => {
                    let mut next = live.clone();
                    change(&mut next, object);
                    next
                }
            })
        };
        let written = self.write(&served, namespace, &name, &transform).await;
        written.map_err(|source| Error::Bootstrap { what: format!("{plural} {name}"), source })
    }

    /// Makes a default role or binding, or gives back to it what was taken; what was added stays (upstream's
    /// reconciliation, off for objects whose `autoupdate` annotation is false).
    async fn reconcile(
        &self,
        group: &str,
        plural: &str,
        namespace: String,
        object: &Value,
    ) -> Result<(), Error> {
        let name = meta::name(object);
        let failed = |source| Error::Bootstrap { what: format!("{plural} {name}"), source };
        if let Some(live) = self.registry.find(group, plural, &namespace, name).map_err(failed)? {
            const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
            let annotations = live.map_at("metadata.annotations");
            let keep = annotations.and_then(|a| a.get_str(AUTOUPDATE)) != Some("true");
            if keep || !policy::lacks(&live, object) {
                return Ok(());
            }
        }
        self.apply(group, plural, &namespace, object, &policy::restore).await
    }
}
