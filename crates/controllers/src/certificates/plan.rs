//! Which certificate requests are approved, signed and removed.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::jiff::Timestamp;
use pki::SigningRequest;

use crate::common::time;

/// Clients of the API server.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Kubelets as clients of the API server.
pub const KUBELET_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Kubelets as servers.
pub const KUBELET_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// Whatever was asked for before there were signer names.
pub const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";
/// Shortest validity that can be asked for (upstream's minimum).
const MIN_VALIDITY: Duration = Duration::from_secs(600);
/// How long requests are kept: approved or denied ones, and others.
const DECIDED_EXPIRATION_S: i64 = 3600;
const PENDING_EXPIRATION_S: i64 = 24 * 3600;

/// True if a condition of this type is set.
pub fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == kind)
}

/// True if it was signed.
pub fn is_signed(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty())
}

fn usages(request: &CertificateSigningRequest) -> Vec<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

/// `needed` must be there, `also` may be, nothing else.
fn usages_are(request: &CertificateSigningRequest, needed: &[&str], also: &[&str]) -> bool {
    let all = usages(request);
    needed.iter().all(|u| all.contains(u)) && all.iter().all(|u| needed.contains(u) || also.contains(u))
}

/// True for a request by which a kubelet wants to be a client.
pub fn is_kubelet_client(request: &CertificateSigningRequest, asked: &SigningRequest) -> bool {
    request.spec.signer_name == KUBELET_CLIENT_SIGNER && check_kubelet_client(request, asked).is_ok()
}

fn check_kubelet_client(
    request: &CertificateSigningRequest,
    asked: &SigningRequest,
) -> Result<(), &'static str> {
    if asked.organizations != [NODES_GROUP] {
        return Err("subject organization is not system:nodes");
    }
    if !asked.dns_names.is_empty() || asked.addresses > 0 || asked.other_names > 0 {
        return Err("DNS, IP, email and URI subjectAltNames are not allowed");
    }
    if !asked.common_name.starts_with(NODE_PREFIX) {
        return Err("subject common name does not begin with \"system:node:\"");
    }
    if !usages_are(request, &["digital signature", "client auth"], &["key encipherment"]) {
        return Err("usages did not match digital signature and client auth");
    }
    Ok(())
}

fn check_kubelet_serving(
    request: &CertificateSigningRequest,
    asked: &SigningRequest,
) -> Result<(), &'static str> {
    if asked.organizations != [NODES_GROUP] {
        return Err("subject organization is not system:nodes");
    }
    if asked.dns_names.is_empty() && asked.addresses == 0 {
        return Err("DNS or IP subjectAltName is required");
    }
    if asked.other_names > 0 {
        return Err("Email and URI subjectAltNames are not allowed");
    }
    if !usages_are(request, &["digital signature", "server auth"], &["key encipherment"]) {
        return Err("usages did not match digital signature and server auth");
    }
    if !asked.common_name.starts_with(NODE_PREFIX) {
        return Err("subject common name does not begin with \"system:node:\"");
    }
    if request.spec.username.as_deref() != Some(&asked.common_name) {
        return Err("requesting user is not the node of the common name");
    }
    Ok(())
}

/// Why the signer of its name must not sign a request; Ok if it may.
pub fn check(request: &CertificateSigningRequest, asked: &SigningRequest) -> Result<(), &'static str> {
    match request.spec.signer_name.as_str() {
        CLIENT_SIGNER => {
            let ours = usages_are(request, &["client auth"], &["digital signature", "key encipherment"]);
            if ours { Ok(()) } else { Err("invalid usages for client certificate") }
        }
        KUBELET_CLIENT_SIGNER => check_kubelet_client(request, asked),
        KUBELET_SERVING_SIGNER => check_kubelet_serving(request, asked),
        LEGACY_SIGNER => Ok(()),
        _ => Err("unrecognized signer name"),
    }
}

/// True for the signer names that we sign for.
pub fn is_ours(request: &CertificateSigningRequest) -> bool {
    [CLIENT_SIGNER, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER, LEGACY_SIGNER]
        .contains(&request.spec.signer_name.as_str())
}

/// How long the certificate is to be valid: as asked for, within limits.
pub fn validity(request: &CertificateSigningRequest, longest: Duration) -> Duration {
    let asked = request.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    asked.map_or(longest, |asked| asked.clamp(MIN_VALIDITY.min(longest), longest))
}

/// How long until a request is removed; zero if it is time.
pub fn expires_in(request: &CertificateSigningRequest, now: Timestamp) -> Duration {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let decided = conditions.iter().filter(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed"));
    let last = decided.filter_map(|c| c.last_update_time.as_ref()).map(|t| t.0).max();
    let created = request.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let at = match last {
        Some(at) => time::plus_seconds(at, DECIDED_EXPIRATION_S),
        None => time::plus_seconds(created, PENDING_EXPIRATION_S),
    };
    time::until(now, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::{Value, json};

    fn request(signer: &str, usages: Value, extra: Value) -> CertificateSigningRequest {
        let mut spec =
            json!({"request": "", "signerName": signer, "usages": usages, "username": "system:node:n1"});
        for (name, value) in extra.as_object().unwrap() {
            spec[name] = value.clone();
        }
        object(json!({"metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}))
    }

    #[test]
    fn usages_must_be_the_signers() {
        let client = |usages: Value| request(CLIENT_SIGNER, usages, json!({}));
        assert!(usages_are(&client(json!(["client auth"])), &["client auth"], &[]));
        assert!(!usages_are(&client(json!(["server auth"])), &["client auth"], &[]));
        assert!(!usages_are(&client(json!(["client auth", "server auth"])), &["client auth"], &[]));
    }

    #[test]
    fn validity_is_within_limits() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for (asked, expected) in
            [(json!(null), year), (json!(60), MIN_VALIDITY), (json!(3600), Duration::from_secs(3600))]
        {
            let request = request(CLIENT_SIGNER, json!([]), json!({"expirationSeconds": asked}));
            assert_eq!(validity(&request, year), expected);
        }
    }

    #[test]
    fn requests_do_not_stay() {
        let pending = request(CLIENT_SIGNER, json!([]), json!({}));
        assert_eq!(expires_in(&pending, at("2026-01-01T12:00:00Z")).as_secs(), 12 * 3600);
        let mut approved = pending;
        approved.status = Some(object(json!({"conditions": [{"type": "Approved", "status": "True",
            "lastUpdateTime": "2026-01-01T00:10:00Z"}]})));
        assert_eq!(expires_in(&approved, at("2026-01-01T01:00:00Z")).as_secs(), 600);
        assert_eq!(expires_in(&approved, at("2026-01-01T02:00:00Z")).as_secs(), 0);
    }
}
