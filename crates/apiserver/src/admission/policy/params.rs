//! Parameters of bindings.

use std::sync::Arc;

use schema::{GroupVersionKind, Value};

use super::definition::{Binding, Policy};
use crate::registry::{Registry, Served, stored};
use crate::selectors::LabelSelector;
use crate::status::ApiError;

/// The resource whose objects are the policy's parameters. The error is the policy's configuration error.
pub fn resource(policy: &Policy, registry: &Registry) -> Result<Option<Arc<Served>>, String> {
    let Some(kind) = &policy.param_kind else { return Ok(None) };
    let table = registry.resources.load();
    let found = table.all().iter().find(|served| served.resource.gvk() == *kind).cloned();
    found
        .map(Some)
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{}'", shown(kind)))
}

/// As Go prints it.
fn shown(kind: &GroupVersionKind) -> String {
    let GroupVersionKind { group, version, kind } = kind;
    format!("{group}/{version}, Kind={kind}")
}

/// What a policy is evaluated with: each of these, null for none.
pub async fn collect(
    resource: Option<&Arc<Served>>,
    binding: &Binding,
    namespace: &str,
    registry: &Registry,
) -> Result<Vec<Value>, String> {
    let reference = &binding.param_ref;
    let Some(served) = resource.filter(|_| !reference.is_null()) else { return Ok(vec![Value::Null]) };
    let own = reference.str_at("namespace").unwrap_or_default();
    let namespace = match (served.resource.namespaced, own.is_empty()) {
        (true, false) => own,
        (true, true) if namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, true) => namespace,
        (false, false) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (false, true) => "",
    };
    let found = match reference.str_at("name").filter(|name| !name.is_empty()) {
        Some(name) => named(served, namespace, name, registry),
        None => selected(served, namespace, &reference["selector"], registry),
    };
    let found = found.map_err(|e| e.message)?;
    if found.is_empty() && reference.str_at("parameterNotFoundAction") == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    served.convert_all_from_hub(found).await.map_err(|e| e.message)
}

fn named(served: &Served, namespace: &str, name: &str, registry: &Registry) -> Result<Vec<Value>, ApiError> {
    match registry.entry(served, namespace, name)? {
        Some(entry) => Ok(vec![stored::memo(&entry).decode(&entry)?]),
        None => Ok(Vec::new()),
    }
}

fn selected(
    served: &Served,
    namespace: &str,
    selector: &Value,
    registry: &Registry,
) -> Result<Vec<Value>, ApiError> {
    let selector = LabelSelector::from_value(selector).map_err(ApiError::internal)?;
    let namespace = served.resource.namespaced.then_some(namespace);
    let mut found = Vec::new();
    for entry in registry.entries(served, namespace)? {
        let object = stored::memo(&entry).decode(&entry)?;
        if selector.matches_value(&object["metadata"]["labels"]) {
            found.push(object);
        }
    }
    Ok(found)
}
