//! Conversion of custom resources by webhook (`spec.conversion.strategy: Webhook`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schema::{Resource, Value, value};

use crate::registry::{RemoteConversion, meta};
use crate::status::{ApiError, ApiResult};
use crate::webhook::{Target, WebhookClient};

/// How long a conversion webhook is waited for (upstream's client timeout).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects sent in one request: lists of any size are converted piece by piece.
const BATCH: usize = 500;

/// The webhook of one definition.
pub struct WebhookConversion {
    client: Arc<WebhookClient>,
    target: Result<Target, String>,
    version: Option<&'static str>,
}

impl WebhookConversion {
    /// Of a definition's `spec.conversion.webhook`.
    pub fn new(client: Arc<WebhookClient>, webhook: &Value) -> Self {
        let versions = webhook.items_at("conversionReviewVersions").iter();
        let version = versions.filter_map(Value::as_str).find_map(|version| match version {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        });
        Self { client, target: Target::from_value(&webhook["clientConfig"]), version }
    }

    /// Converts objects that are all in another version; `what` names the first in messages.
    async fn ask(&self, objects: &[Value], api_version: &str, what: &str) -> Result<Vec<Value>, String> {
        let version = self.version.ok_or("no supported conversion review versions")?;
        let target = self.target.as_ref().map_err(Clone::clone)?;
        let failed = |why: String| format!("conversion webhook for {what} failed: {why}");
        let uid = meta::new_uid();
        let review_version = format!("apiextensions.k8s.io/{version}");
        let review = value!({
            "kind": "ConversionReview", "apiVersion": (review_version.as_str()),
            "request": {
                "uid": (uid.as_str()), "desiredAPIVersion": api_version, "objects": (Value::List(objects.to_vec()))
            }
        });
        let answer = self.client.post(target, &review, TIMEOUT).await.map_err(|e| failed(e.to_string()))?;
        let converted = converted_objects(&answer, &uid, version).map_err(failed)?;
        if converted.len() != objects.len() {
            return Err(format!(
                "conversion webhook for {what} returned {} objects, expected {}",
                converted.len(),
                objects.len()
            ));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs.map(|(at, (original, converted))| check(original, converted, api_version, (what, at))).collect()
    }
}

#[async_trait]
impl RemoteConversion for WebhookConversion {
    async fn convert(&self, mut objects: Vec<Value>, target: &Resource) -> ApiResult<Vec<Value>> {
        let api_version = target.api_version();
        let elsewhere = |object: &Value| object.str_at("apiVersion") != Some(api_version.as_str());
        let wanted: Vec<usize> = (0..objects.len()).filter(|at| elsewhere(&objects[*at])).collect();
        for batch in wanted.chunks(BATCH) {
            let sent: Vec<Value> = batch.iter().map(|at| objects[*at].clone()).collect();
            let what = shown(&sent[0]);
            let converted = self.ask(&sent, &api_version, &what).await.map_err(ApiError::unexplained)?;
            for (at, mut object) in batch.iter().zip(converted) {
                rules::prune(target.schema.root(), &mut object, true);
                objects[*at] = object;
            }
        }
        Ok(objects)
    }
}

/// Version and kind as Go prints them.
fn shown(object: &Value) -> String {
    let text = |field| object.str_at(field).unwrap_or_default();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

/// The objects of an answer that says that all went well.
fn converted_objects(answer: &Value, uid: &str, version: &str) -> Result<Vec<Value>, String> {
    let response = &answer["response"];
    if version == "v1" {
        let found = shown(answer);
        let expected = "apiextensions.k8s.io/v1, Kind=ConversionReview";
        if found != expected {
            return Err(format!("expected webhook response of {expected}, got {found}"));
        }
    }
    if response.is_null() {
        return Err("no response provided".to_owned());
    }
    let told = response.str_at("uid").unwrap_or_default();
    if version == "v1" && told != uid {
        return Err(format!("expected response.uid={}, got {}", rules::quote(uid), rules::quote(told)));
    }
    let status = response.str_at("result.status").unwrap_or_default();
    if status != "Success" {
        return Err(match response.str_at("result.message").unwrap_or_default() {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(response.items_at("convertedObjects").to_vec())
}

/// A converted object with the metadata of the original one, but its own labels and annotations.
fn check(
    original: &Value,
    mut converted: Value,
    api_version: &str,
    (what, at): (&str, usize),
) -> Result<Value, String> {
    let invalid = |why: String| {
        format!("conversion webhook for {what} returned invalid converted object at index {at}: {why}")
    };
    let found = converted.str_at("apiVersion").unwrap_or_default();
    if found != api_version {
        return Err(invalid(format!("invalid groupVersion (expected {api_version}, received {found})")));
    }
    let kind = |object: &Value| object.str_at("kind").unwrap_or_default().to_owned();
    if kind(original) != kind(&converted) {
        let (expected, found) = (kind(original), kind(&converted));
        return Err(invalid(format!("invalid kind (expected {expected}, received {found})")));
    }
    for (field, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (before, after) = (meta::text(original, field), meta::text(&converted, field));
        if before != after {
            return Err(invalid(format!("must have the same {shown}: {before} != {after}")));
        }
    }
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        match converted["metadata"].get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
            }
            Some(own) => {
                if let Some(why) = not_strings(own, field) {
                    return Err(format!(
                        "conversion webhook for {what} returned invalid metadata in object at index {at}: {why}"
                    ));
                }
                metadata.insert(field, own.clone());
            }
        }
    }
    converted.insert("metadata", metadata);
    Ok(converted)
}

fn not_strings(own: &Value, field: &str) -> Option<String> {
    let Value::Map(map) = own else {
        return Some(format!("metadata.{field}: Invalid value: must be a map"));
    };
    let wrong = map.iter().find(|(_, value)| value.as_str().is_none());
    wrong.map(|(key, _)| format!("metadata.{field}[{key}]: Invalid value: must be a string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, uid: &str, labels: Value) -> Value {
        value!({
            "apiVersion": (format!("g/{version}")), "kind": "K",
            "metadata": {"name": "n", "uid": uid, "resourceVersion": "7", "labels": (labels)}, "spec": {"v": version}
        })
    }

    #[test]
    fn metadata_stays_but_for_labels() {
        let before = object("v1", "u", value!({"a": "1"}));
        let after =
            check(&before, object("v2", "u", value!({"b": "2"})), "g/v2", ("g/v1, Kind=K", 0)).unwrap();
        assert_eq!(after["metadata"]["labels"], value!({"b": "2"}));
        assert_eq!(after.str_at("spec.v"), Some("v2"));
        assert_eq!(
            check(&before, object("v2", "x", Value::map()), "g/v2", ("g/v1, Kind=K", 0)).unwrap_err(),
            "conversion webhook for g/v1, Kind=K returned invalid converted object at index 0: must have the same \
             UID: u != x"
        );
        assert_eq!(
            check(&before, object("v3", "u", Value::map()), "g/v2", ("g/v1, Kind=K", 0)).unwrap_err(),
            "conversion webhook for g/v1, Kind=K returned invalid converted object at index 0: invalid groupVersion \
             (expected g/v2, received g/v3)"
        );
    }

    #[test]
    fn answers_must_say_success() {
        let answer = |result: Value| {
            value!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "response": {"uid": "u", "result": (result), "convertedObjects": [{}]}
            })
        };
        let of = |result| converted_objects(&answer(result), "u", "v1");
        assert_eq!(of(value!({"status": "Success"})).unwrap().len(), 1);
        assert_eq!(of(value!({"status": "Failed", "message": "no"})).unwrap_err(), "no");
        assert_eq!(of(value!({"status": "F"})).unwrap_err(), "response.result.status was 'F', not 'Success'");
        assert_eq!(
            converted_objects(&answer(value!({"status": "Success"})), "x", "v1").unwrap_err(),
            "expected response.uid=\"x\", got \"u\""
        );
    }
}
