//! AdmissionReview: what webhooks are asked, and what their answers may say.

use base64::Engine;
use schema::{Value, value};

use super::super::Attributes;
use super::super::expressions::request_value;
use super::super::versioned::Versioned;
use crate::registry::meta;
use crate::status::{ApiError, Cause, Details};

/// A request with its uid.
pub fn request(attributes: &Attributes<'_>, versioned: &Versioned, version: &str) -> (String, Value) {
    let uid = meta::new_uid();
    let mut request = request_value(attributes, &versioned.matched);
    request.insert("uid", uid.as_str());
    request.insert("object", versioned.object.clone());
    request.insert("oldObject", versioned.old_object.clone());
    let review = value!({
        "kind": "AdmissionReview", "apiVersion": (format!("admission.k8s.io/{version}")), "request": (request)
    });
    (uid, review)
}

/// What a webhook says.
#[derive(Debug, Default)]
pub struct Answer {
    /// `None` when it lets the request pass.
    pub denial: Option<Value>,
    /// Decoded JSON patch; null for none.
    pub patch: Value,
    /// For the client.
    pub warnings: Vec<String>,
    /// Without the webhook's name before.
    pub audit_annotations: Vec<(String, String)>,
}

/// Reads and checks an answer (`VerifyAdmissionResponse`). The error is what is wrong with it.
pub fn answer(review: &Value, uid: &str, version: &str, mutating: bool) -> Result<Answer, String> {
    let response = &review["response"];
    if response.is_null() {
        return Err("webhook response was absent".to_owned());
    }
    if version == "v1" {
        let told = response.str_at("uid").unwrap_or_default();
        if told != uid {
            return Err(format!("expected response.uid={}, got {}", rules::quote(uid), rules::quote(told)));
        }
        let api_version = review.str_at("apiVersion").unwrap_or_default();
        let kind = review.str_at("kind").unwrap_or_default();
        if api_version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
            ));
        }
    }
    let mut answer = Answer { patch: patch(response, version, mutating)?, ..Answer::default() };
    if response.bool_at("allowed") != Some(true) {
        answer.denial = Some(match response.get("status") {
            Some(status) if !status.is_null() => status.clone(),
            _ => value!({"status": "Failure"}),
        });
    }
    let warnings = response.items_at("warnings").iter().filter_map(Value::as_str);
    answer.warnings = warnings.map(str::to_owned).collect();
    let annotations = response["auditAnnotations"].entries().iter();
    answer.audit_annotations =
        annotations.filter_map(|(k, v)| Some((k.to_string(), v.as_str()?.to_owned()))).collect();
    Ok(answer)
}

fn patch(response: &Value, version: &str, mutating: bool) -> Result<Value, String> {
    let bytes = response.str_at("patch").unwrap_or_default();
    let kind = response.get("patchType").filter(|t| !t.is_null()).map(|t| t.as_str().unwrap_or_default());
    match (mutating, version, bytes.is_empty(), kind) {
        (false, "v1", false, _) => return Err("validating webhook may not return response.patch".to_owned()),
        (false, "v1", true, Some(_)) => {
            return Err("validating webhook may not return response.patchType".to_owned());
        }
        (false, ..) | (true, "v1beta1", true, _) | (true, _, true, None) => return Ok(Value::Null),
        (true, "v1", false, None) => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (true, _, true, Some(_)) => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        (true, "v1", false, Some(kind)) if kind != "JSONPatch" => {
            return Err(format!("webhook returned invalid response.patchType of {}", rules::quote(kind)));
        }
        _ => {}
    }
    let undecodable = |e: String| format!("received undecodable patch in webhook response: {e}");
    let bytes = base64::engine::general_purpose::STANDARD.decode(bytes);
    let bytes = bytes.map_err(|e| undecodable(e.to_string()))?;
    codec::json::parse(&bytes).map_err(|e| undecodable(e.to_string()))
}

/// The refusal that a webhook's Status means (`ToStatusErr`).
pub fn refusal(webhook: &str, status: &Value) -> ApiError {
    let text = |field: &str| status.str_at(field).unwrap_or_default();
    let denied_by = format!("admission webhook {} denied the request", rules::quote(webhook));
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied_by} without explanation"),
        ("", reason) => format!("{denied_by}: {reason}"),
        (message, _) => format!("{denied_by}: {message}"),
    };
    let code = status.int_at("code").and_then(|c| u16::try_from(c).ok()).filter(|c| *c >= 400).unwrap_or(400);
    let mut error = ApiError::new(code, "", message);
    error.reason = text("reason").into();
    let details = &status["details"];
    if !details.is_null() {
        let text = |field: &str| details.str_at(field).unwrap_or_default();
        let cause = |cause: &Value| Cause {
            reason: cause.str_at("reason").unwrap_or_default().into(),
            message: cause.str_at("message").unwrap_or_default().to_owned(),
            field: cause.str_at("field").unwrap_or_default().to_owned(),
        };
        error = error.with_details(Details {
            name: text("name").into(),
            group: text("group").into(),
            kind: text("kind").into(),
            uid: text("uid").into(),
            causes: details.items_at("causes").iter().map(cause).collect(),
            retry_after_s: details
                .int_at("retryAfterSeconds")
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or(0),
        });
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(response: Value) -> Value {
        let mut response = response;
        response.insert("uid", "u");
        value!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": (response)})
    }

    #[test]
    fn answers_are_checked() {
        for (response, mutating, words) in [
            (value!({"patch": "W10="}), true, "webhook returned response.patch but not response.patchType"),
            (
                value!({"patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (
                value!({"patch": "W10=", "patchType": "JSONPatch"}),
                false,
                "validating webhook may not return response.patch",
            ),
        ] {
            assert_eq!(answer(&review(response), "u", "v1", mutating).unwrap_err(), words);
        }
        let wrong = answer(&review(value!({})), "other", "v1", true).unwrap_err();
        assert_eq!(wrong, "expected response.uid=\"other\", got \"u\"");
        let said =
            review(value!({"allowed": true, "patch": "W10=", "patchType": "JSONPatch", "warnings": ["w"]}));
        let said = answer(&said, "u", "v1", true).unwrap();
        assert!(said.denial.is_none() && said.patch == value!([]) && said.warnings == ["w"]);
    }

    #[test]
    fn refusals_are_upstreams() {
        let plain = refusal("h", &value!({"status": "Failure"}));
        assert_eq!(
            (plain.code, plain.message.as_str()),
            (400, "admission webhook \"h\" denied the request without explanation")
        );
        let told = refusal("h", &value!({"message": "no", "reason": "Forbidden", "code": 403}));
        assert_eq!(
            (told.code, told.message.as_str()),
            (403, "admission webhook \"h\" denied the request: no")
        );
    }
}
