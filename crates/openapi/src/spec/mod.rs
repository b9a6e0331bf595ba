//! OpenAPI documents: v3, one per group and version with an index, and v2, all in one.
//!
//! They hold what clients use: types with merge and list attributes, kinds, paths with verbs and parameters. Prose is
//! whatever the API tables say, which is little.

mod paths;
mod protobuf;
mod schemas;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use schema::{Catalog, GroupVersion, Resource, SmolStr, Value, value};
use sha2::{Digest, Sha512};

/// Content type of the v2 document in protobuf, as clients ask for it and as the server answers.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The older spelling of [`V2_PROTOBUF`] that clients send in `Accept`.
pub const V2_PROTOBUF_AT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Which specification a document is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V2,
    V3,
}

/// A finished document.
#[derive(Debug, Clone)]
pub struct Document {
    /// The bytes, JSON unless said otherwise.
    pub body: Bytes,
    /// Hexadecimal hash of what it was made from: the `hash` of the index and the entity tag.
    pub hash: SmolStr,
}

/// Makes documents when they are first asked for and keeps them until the resources change.
#[derive(Debug, Default)]
pub struct OpenApi {
    /// By path below `/openapi/`; at most one per group and version that is or was served, and three of v2.
    made: Mutex<HashMap<SmolStr, Document>>,
}

/// Paths that are no group or version, each with a document of its own in the index.
const OTHER_PATHS: [&str; 5] =
    [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"];

impl OpenApi {
    /// Without documents yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The index at `/openapi/v3`. `custom` are all custom resources that are served.
    pub fn v3_index(&self, custom: &[Arc<Resource>]) -> Bytes {
        let mut paths: BTreeSet<SmolStr> = OTHER_PATHS.iter().map(SmolStr::new).collect();
        for resource in Catalog::builtin().resources().iter().chain(custom) {
            let path = gv_path(&resource.group_version());
            if !resource.group.is_empty() {
                paths.insert(SmolStr::from(format!("apis/{}", resource.group)));
            }
            paths.insert(path);
        }
        let entries = paths.into_iter().map(|path| {
            let hash = self.v3_hash(&path, custom);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, value!({"serverRelativeURL": url}))
        });
        let index = value!({"paths": (Value::Map(entries.collect()))});
        Bytes::from(to_json(&index))
    }

    /// The document at `/openapi/v3/PATH`, e.g. `apis/apps/v1`; `None` when there is no such path.
    pub fn v3(&self, path: &str, custom: &[Arc<Resource>]) -> Option<Document> {
        let resources = self.resources_at(path, custom);
        let gv = parse_gv(path);
        let known = OTHER_PATHS.contains(&path) || !resources.is_empty() || self.group_exists(path, custom);
        if !known {
            return None;
        }
        let hash = self.v3_hash(path, custom);
        Some(self.cached(&format!("v3/{path}"), hash, || match gv {
            Some(gv) if !resources.is_empty() => to_json(&gv_document(&gv, &resources)),
            _ => to_json(&plain_document(path)),
        }))
    }

    /// The document at `/openapi/v2` in JSON.
    pub fn v2(&self, custom: &[Arc<Resource>]) -> Document {
        self.cached("v2", self.v2_hash(custom), || to_json(&v2_document(custom)))
    }

    /// The document at `/openapi/v2` in protobuf ([`V2_PROTOBUF`]).
    pub fn v2_protobuf(&self, custom: &[Arc<Resource>]) -> Document {
        self.cached("v2.pb", self.v2_hash(custom), || protobuf::document(&v2_document(custom)))
    }

    fn cached(&self, key: &str, hash: SmolStr, make: impl FnOnce() -> Vec<u8>) -> Document {
        if let Some(document) = self.made.lock().get(key).filter(|d| d.hash == hash) {
            return document.clone();
        }
        // Made outside the lock: two clients at once may both make it, which does no harm.
        let document = Document { body: Bytes::from(make()), hash };
        self.made.lock().insert(key.into(), document.clone());
        document
    }

    fn resources_at(&self, path: &str, custom: &[Arc<Resource>]) -> Vec<Arc<Resource>> {
        let Some(gv) = parse_gv(path) else { return Vec::new() };
        let all = Catalog::builtin().resources().iter().chain(custom);
        all.filter(|r| r.group == gv.group && r.version == gv.version).cloned().collect()
    }

    fn group_exists(&self, path: &str, custom: &[Arc<Resource>]) -> bool {
        let Some(group) = path.strip_prefix("apis/") else { return false };
        Catalog::builtin().resources().iter().chain(custom).any(|r| r.group == group)
    }

    fn v3_hash(&self, path: &str, custom: &[Arc<Resource>]) -> SmolStr {
        let of_path = parse_gv(path)
            .map(|gv| custom.iter().filter(move |r| r.group == gv.group && r.version == gv.version));
        hash(path, of_path.into_iter().flatten())
    }

    fn v2_hash(&self, custom: &[Arc<Resource>]) -> SmolStr {
        hash("v2", custom.iter())
    }
}

/// A hash over everything that a document is made from.
fn hash<'r>(path: &str, custom: impl Iterator<Item = &'r Arc<Resource>>) -> SmolStr {
    let mut hasher = Sha512::new();
    hasher.update(env!("CARGO_PKG_VERSION"));
    hasher.update(Catalog::fingerprint().to_le_bytes());
    hasher.update(path);
    for resource in custom {
        hasher.update(format!("{}{:?}", resource.gvr(), resource.subresources.len()));
        hasher.update(resource.schema.openapi().map(to_json).unwrap_or_default());
    }
    let mut text = String::with_capacity(128);
    for byte in hasher.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text.into()
}

fn gv_path(gv: &GroupVersion) -> SmolStr {
    SmolStr::from(match gv.group.is_empty() {
        true => format!("api/{}", gv.version),
        false => format!("apis/{}/{}", gv.group, gv.version),
    })
}

fn parse_gv(path: &str) -> Option<GroupVersion> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(GroupVersion::new("", *version)),
        ["apis", group, version] => Some(GroupVersion::new(*group, *version)),
        _ => None,
    }
}

fn info() -> Value {
    value!({"title": "Kubernetes", "version": (format!("v{}", base::KUBERNETES_VERSION))})
}

fn gv_document(gv: &GroupVersion, resources: &[Arc<Resource>]) -> Value {
    let mut schemas = schemas::Schemas::new(Version::V3);
    resources.iter().for_each(|r| schemas.add_resource(r));
    schemas.add_version(gv);
    let mut paths = BTreeMap::new();
    resources.iter().for_each(|r| paths::add(r, Version::V3, &mut paths));
    value!({
        "openapi": "3.0.0", "info": (info()), "paths": (paths::to_value(paths)),
        "components": {"schemas": (schemas.finish()), "securitySchemes": (security())},
    })
}

/// A document of a path with nothing but a GET.
fn plain_document(path: &str) -> Value {
    let response =
        value!({"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}});
    let operation = value!({"responses": {"200": response}});
    let paths = Value::Map([(format!("/{path}/"), value!({"get": operation}))].into());
    value!({
        "openapi": "3.0.0", "info": (info()), "paths": paths, "components": {"securitySchemes": (security())},
    })
}

fn v2_document(custom: &[Arc<Resource>]) -> Value {
    let mut schemas = schemas::Schemas::new(Version::V2);
    let mut paths = BTreeMap::new();
    for resource in Catalog::builtin().resources().iter().chain(custom) {
        schemas.add_resource(resource);
        schemas.add_version(&resource.group_version());
        paths::add(resource, Version::V2, &mut paths);
    }
    value!({
        "swagger": "2.0", "info": (info()), "paths": (paths::to_value(paths)), "definitions": (schemas.finish()),
        "securityDefinitions": (security()), "security": [{"BearerToken": []}],
    })
}

fn security() -> Value {
    value!({"BearerToken": {
        "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
    }})
}

fn to_json(value: &Value) -> Vec<u8> {
    // A value always serializes: its keys are strings and its numbers finite.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::{Schema, Storage};

    pub(super) fn widget() -> Arc<Resource> {
        let spec = value!({"type": "object", "properties": {"size": {"type": "integer"}}});
        let openapi = value!({"type": "object", "description": "A widget.", "properties": {"spec": spec}});
        let template = Catalog::builtin().resources()[2].as_ref().clone();
        Arc::new(Resource {
            group: "example.com".into(),
            version: "v1".into(),
            plural: "widgets".into(),
            singular: "widget".into(),
            kind: "Widget".into(),
            list_kind: "WidgetList".into(),
            schema: Schema::from_openapi(&openapi, true).unwrap(),
            storage: Storage::default(),
            custom: true,
            ..template
        })
    }

    fn parse(document: &Document) -> Value {
        serde_json::from_slice(&document.body).unwrap()
    }

    #[test]
    fn index_lists_every_version_with_its_hash() {
        let openapi = OpenApi::new();
        let index: Value = serde_json::from_slice(&openapi.v3_index(&[widget()])).unwrap();
        for path in ["api/v1", "apis/apps", "apis/apps/v1", "apis/example.com/v1", "version"] {
            let entry = index["paths"].get(path).unwrap_or_else(|| panic!("{path}"));
            let document = openapi.v3(path, &[widget()]).unwrap();
            let url = entry.str_at("serverRelativeURL").unwrap();
            assert_eq!(url, format!("/openapi/v3/{path}?hash={}", document.hash));
        }
        assert!(openapi.v3("apis/nope/v1", &[]).is_none());
    }

    #[test]
    fn explain_finds_kinds_and_fields() {
        let document = parse(&OpenApi::new().v3("apis/apps/v1", &[]).unwrap());
        let path = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        assert_eq!(path["patch"]["x-kubernetes-group-version-kind"].str_at("kind"), Some("Deployment"));
        let parameters = path["patch"]["parameters"].items();
        assert!(parameters.iter().any(|p| p.str_at("name") == Some("fieldValidation")));
        assert!(
            path["patch"]
                .at("requestBody.content")
                .unwrap()
                .get("application/strategic-merge-patch+json")
                .is_some()
        );
        let schemas = &document["components"]["schemas"];
        let pod_spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(pod_spec.str_at("x-kubernetes-patch-merge-key"), Some("name"));
        assert_eq!(pod_spec["x-kubernetes-list-map-keys"].items().len(), 1);
        let kinds = &schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"];
        assert_eq!(kinds[0].str_at("version"), Some("v1"));
    }

    #[test]
    fn every_reference_resolves() {
        let openapi = OpenApi::new();
        for (document, prefix, at) in [
            (openapi.v3("api/v1", &[]).unwrap(), "#/components/schemas/", "components.schemas"),
            (
                openapi.v3("apis/apiextensions.k8s.io/v1", &[]).unwrap(),
                "#/components/schemas/",
                "components.schemas",
            ),
            (openapi.v2(&[widget()]), "#/definitions/", "definitions"),
        ] {
            let document = parse(&document);
            let mut references = BTreeSet::new();
            collect(&document, &mut references);
            assert!(!references.is_empty());
            for reference in references {
                let name = reference.strip_prefix(prefix).unwrap();
                assert!(document.at(at).unwrap().get(name).is_some(), "{name}");
            }
        }
    }

    fn collect(value: &Value, into: &mut BTreeSet<String>) {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            into.insert(reference.to_owned());
        }
        value.items().iter().for_each(|v| collect(v, into));
        value.entries().iter().for_each(|(_, v)| collect(v, into));
    }

    #[test]
    fn custom_kinds_are_published_and_documents_follow_changes() {
        let openapi = OpenApi::new();
        let document = openapi.v3("apis/example.com/v1", &[widget()]).unwrap();
        let schema = &parse(&document)["components"]["schemas"]["com.example.v1.Widget"];
        assert_eq!(schema.str_at("description"), Some("A widget."));
        assert!(schema["properties"]["metadata"].get("allOf").is_some());
        assert_eq!(schema.str_at("properties.spec.properties.size.type"), Some("integer"));
        assert_ne!(openapi.v2(&[]).hash, openapi.v2(&[widget()]).hash);
        assert!(openapi.v3("apis/example.com/v1", &[]).is_none());
    }

    #[test]
    fn version_2_says_nothing_of_kinds_that_keep_what_they_do_not_know() {
        let mut widget = widget().as_ref().clone();
        let openapi = value!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"spec": {"type": "object"}}
        });
        widget.schema = Schema::from_openapi(&openapi, true).unwrap();
        let document = parse(&OpenApi::new().v2(&[Arc::new(widget)]));
        let schema = &document["definitions"]["com.example.v1.Widget"];
        let names: Vec<&str> = schema.entries().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["type", "x-kubernetes-group-version-kind"]);
    }
}
