//! Paths with their operations: one set per resource and subresource.

use std::collections::BTreeMap;

use schema::{GroupVersionKind, Map, Resource, SmolStr, Subresource, Value, value};

use super::Version;
use super::schemas::{component_name, reference};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCH_TYPES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];
const WRITE: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

/// Path to its operations and parameters.
pub(super) type Paths = BTreeMap<String, Map>;

/// As an object.
pub(super) fn to_value(paths: Paths) -> Value {
    Value::Map(paths.into_iter().map(|(path, item)| (path, Value::Map(item))).collect())
}

/// One operation in the making.
struct Operation<'o> {
    /// HTTP method in lower case.
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    /// First word of the operation's id.
    verb: &'static str,
    query: &'static [(&'static str, &'static str)],
    /// Type of the body, if it takes one.
    body: Option<String>,
    body_types: &'o [&'static str],
    /// Type of the answer.
    answer: String,
}

/// What the operations of one path have in common.
struct Place<'p> {
    resource: &'p Resource,
    version: Version,
    kind: GroupVersionKind,
    /// Rest of the operation's id, e.g. `NamespacedPodStatus`.
    id: String,
}

/// Adds all paths of a resource.
pub(super) fn add(resource: &Resource, version: Version, paths: &mut Paths) {
    let base = match resource.group.is_empty() {
        true => format!("/api/{}", resource.version),
        false => format!("/apis/{}/{}", resource.group, resource.version),
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", resource.plural);
    let namespaced = if resource.namespaced { "Namespaced" } else { "" };
    let place =
        Place { resource, version, kind: resource.gvk(), id: format!("{namespaced}{}", resource.kind) };
    let item = component_name(resource);
    let list = list_name(resource, &item);
    for verb in &resource.verbs {
        let (path, operation) = match verb.as_str() {
            "list" => (collection.clone(), simple("get", "list", "list", LIST, &list)),
            "create" => (collection.clone(), write("post", "post", "create", WRITE, &item, &TYPES)),
            "deletecollection" => (collection.clone(), delete("deletecollection", "deleteCollection")),
            "get" => (format!("{collection}/{{name}}"), simple("get", "get", "read", &[], &item)),
            "update" => {
                (format!("{collection}/{{name}}"), write("put", "put", "replace", WRITE, &item, &TYPES))
            }
            "patch" => (format!("{collection}/{{name}}"), patch(resource, &item)),
            "delete" => (format!("{collection}/{{name}}"), delete("delete", "delete")),
            _ => continue,
        };
        place.put(paths, path, operation);
    }
    if resource.namespaced && resource.has_verb("list") {
        let all = Place { id: format!("{}ForAllNamespaces", resource.kind), kind: resource.gvk(), ..place };
        all.put(paths, format!("{base}/{}", resource.plural), simple("get", "list", "list", LIST, &list));
    }
    for sub in &resource.subresources {
        add_sub(resource, sub, version, &format!("{collection}/{{name}}/{}", sub.name), paths);
    }
}

fn list_name(resource: &Resource, item: &str) -> String {
    match item.strip_suffix(resource.kind.as_str()) {
        Some(prefix) if !resource.custom => format!("{prefix}{}", resource.list_kind),
        _ => format!("{item}List"),
    }
}

fn add_sub(resource: &Resource, sub: &Subresource, version: Version, path: &str, paths: &mut Paths) {
    let namespaced = if resource.namespaced { "Namespaced" } else { "" };
    let id = format!("{namespaced}{}{}", resource.kind, capital(&sub.name));
    let place = Place { resource, version, kind: sub.kind.clone(), id };
    let streamed = matches!(sub.name.as_str(), "attach" | "exec" | "portforward" | "proxy");
    let name = match sub.schema.is_custom() {
        true => component_name(resource),
        false => sub.schema.root().type_name().to_owned(),
    };
    for verb in &sub.verbs {
        let operation = match verb.as_str() {
            "get" if streamed => connect("get", "connectGet"),
            "create" if streamed => connect("post", "connectPost"),
            "update" if streamed => connect("put", "connectPut"),
            "patch" if streamed => connect("patch", "connectPatch"),
            "delete" if streamed => connect("delete", "connectDelete"),
            "get" => simple("get", "get", "read", &[], &name),
            "create" => write("post", "post", "create", WRITE, &name, &TYPES),
            "update" => write("put", "put", "replace", WRITE, &name, &TYPES),
            "patch" => patch(resource, &name),
            _ => continue,
        };
        place.put(paths, path.to_owned(), operation);
    }
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(text.len().min(1));
    first.to_uppercase() + rest
}

fn simple(
    method: &'static str,
    action: &'static str,
    verb: &'static str,
    query: &'static [(&'static str, &'static str)],
    answer: &str,
) -> Operation<'static> {
    Operation { method, action, verb, query, body: None, body_types: &TYPES, answer: answer.to_owned() }
}

fn write<'o>(
    method: &'static str,
    action: &'static str,
    verb: &'static str,
    query: &'static [(&'static str, &'static str)],
    name: &str,
    body_types: &'o [&'static str],
) -> Operation<'o> {
    Operation {
        method,
        action,
        verb,
        query,
        body: Some(name.to_owned()),
        body_types,
        answer: name.to_owned(),
    }
}

fn patch(resource: &Resource, name: &str) -> Operation<'static> {
    // Custom kinds have no strategic merge patch.
    const CUSTOM: [&str; 3] =
        ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
    let body_types: &[&str] = if resource.custom { &CUSTOM } else { &PATCH_TYPES };
    Operation {
        body: Some(format!("{META}.Patch")),
        ..write("patch", "patch", "patch", PATCH, name, body_types)
    }
}

fn delete(action: &'static str, verb: &'static str) -> Operation<'static> {
    Operation {
        body: Some(format!("{META}.DeleteOptions")),
        ..simple("delete", action, verb, DELETE, &format!("{META}.Status"))
    }
}

fn connect(method: &'static str, verb: &'static str) -> Operation<'static> {
    simple(method, "connect", verb, &[], "")
}

impl Place<'_> {
    fn put(&self, paths: &mut Paths, path: String, operation: Operation<'_>) {
        let parameters = self.path_parameters(&path);
        let item = paths.entry(path).or_default();
        if !parameters.is_empty() {
            item.insert("parameters", Value::List(parameters));
        }
        item.insert(operation.method, self.operation(operation));
    }

    fn operation(&self, operation: Operation<'_>) -> Value {
        let group = match self.resource.group.split('.').next().unwrap_or_default() {
            "" => "core",
            group => group,
        };
        let version = &self.resource.version;
        let id = format!("{}{}{}{}", operation.verb, capital(group), capital(version), self.id);
        let mut out = value!({
            "tags": [(format!("{group}_{version}"))], "operationId": id,
            "x-kubernetes-action": (operation.action),
            "x-kubernetes-group-version-kind": {
                "group": (&self.kind.group), "version": (&self.kind.version), "kind": (&self.kind.kind),
            },
        });
        let mut parameters: Vec<Value> =
            operation.query.iter().map(|(name, kind)| self.parameter(name, "query", kind)).collect();
        match self.version {
            Version::V3 => self.v3_bodies(&operation, &mut out),
            Version::V2 => self.v2_bodies(&operation, &mut out, &mut parameters),
        }
        if !parameters.is_empty() {
            out.insert("parameters", Value::List(parameters));
        }
        out
    }

    fn v3_bodies(&self, operation: &Operation<'_>, out: &mut Value) {
        let content = |types: &[&'static str], name: &str| -> Value {
            let schema = match name {
                "" => value!({"type": "string"}),
                name => reference(name, Version::V3),
            };
            Value::Map(types.iter().map(|t| (*t, value!({"schema": (schema.clone())}))).collect())
        };
        if let Some(body) = &operation.body {
            let required = operation.method != "delete";
            let content = content(operation.body_types, body);
            out.insert("requestBody", value!({"content": content, "required": required}));
        }
        let types: &[&'static str] = if operation.answer.is_empty() { &["*/*"] } else { &TYPES };
        let answer = value!({"description": "OK", "content": (content(types, &operation.answer))});
        out.insert("responses", value!({"200": answer, "401": {"description": "Unauthorized"}}));
    }

    fn v2_bodies(&self, operation: &Operation<'_>, out: &mut Value, parameters: &mut Vec<Value>) {
        if let Some(body) = &operation.body {
            let required = operation.method != "delete";
            let schema = reference(body, Version::V2);
            parameters.push(value!({"name": "body", "in": "body", "required": required, "schema": schema}));
            out.insert("consumes", operation.body_types.to_vec());
        }
        out.insert("produces", TYPES.to_vec());
        let mut answer = value!({"description": "OK"});
        match operation.answer.as_str() {
            "" => answer.insert("schema", value!({"type": "string"})),
            name => answer.insert("schema", reference(name, Version::V2)),
        };
        out.insert("responses", value!({"200": answer, "401": {"description": "Unauthorized"}}));
    }

    fn path_parameters(&self, path: &str) -> Vec<Value> {
        let mut parameters: Vec<Value> = ["name", "namespace"]
            .iter()
            .filter(|name| path.contains(&format!("{{{name}}}")))
            .map(|name| self.parameter(name, "path", "string"))
            .collect();
        parameters.push(self.parameter("pretty", "query", "string"));
        parameters
    }

    fn parameter(&self, name: &str, place: &str, kind: &str) -> Value {
        let mut parameter = value!({"name": name, "in": place, "uniqueItems": true});
        if place == "path" {
            parameter.insert("required", true);
        }
        match self.version {
            Version::V3 => {
                parameter.remove("uniqueItems");
                parameter.insert("schema", value!({"type": kind, "uniqueItems": true}));
            }
            Version::V2 => {
                parameter.insert("type", SmolStr::new(kind));
            }
        }
        parameter
    }
}
