//! The custom resource: its Rust type, and its definition with rules, two versions and conversion by a webhook.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;

pub const GROUP: &str = "kube-rs.example.com";

/// Version `v1`, the stored one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Garden {
    pub api_version: String,
    pub kind: String,
    pub metadata: ObjectMeta,
    pub spec: GardenSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<GardenStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GardenSpec {
    pub owner: String,
    pub beds: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_beds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GardenStatus {
    pub planted: i64,
    pub observed_generation: i64,
}

impl kube::Resource for Garden {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Garden".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "gardens".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition, with conversion at `url`, whose certificate is `authority` (PEM).
pub fn definition(url: &str, authority: &str) -> anyhow::Result<CustomResourceDefinition> {
    let version = |name: &str, storage: bool, spec: serde_json::Value| {
        json!({
            "name": name, "served": true, "storage": storage, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                "spec": spec,
                "status": {"type": "object", "properties": {
                    "planted": {"type": "integer"}, "observedGeneration": {"type": "integer"},
                }},
            }}},
            "additionalPrinterColumns": [{"name": "Planted", "type": "integer", "jsonPath": ".status.planted"}],
        })
    };
    let beds = json!({
        "type": "object",
        "required": ["owner", "beds"],
        "x-kubernetes-validations": [{
            "rule": "size(self.beds) <= self.maxBeds",
            "messageExpression": "'a garden has at most %d beds'.format([self.maxBeds])",
        }],
        "properties": {
            "owner": {
                "type": "string",
                "maxLength": 20,
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "a garden keeps its owner"}],
            },
            "maxBeds": {"type": "integer", "default": 3},
            "beds": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}, "x-kubernetes-list-type": "set"},
        },
    });
    let list = json!({
        "type": "object",
        "required": ["owner", "list"],
        "properties": {"owner": {"type": "string"}, "list": {"type": "string"}, "maxBeds": {"type": "integer"}},
    });
    let bundle = k8s_openapi::ByteString(authority.as_bytes().to_vec());
    Ok(serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("gardens.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "gardens", "singular": "garden", "kind": "Garden", "shortNames": ["gd"]},
            "versions": [version("v1", true, beds), version("v1alpha1", false, list)],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {"url": url, "caBundle": bundle},
            }},
        },
    }))?)
}
