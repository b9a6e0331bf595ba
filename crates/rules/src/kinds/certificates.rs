//! Certificate signing requests and bundles of trusted certificates.

use schema::Value;

use super::config::decode;
use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{BadValue, Errors, FieldError};
use crate::names::dns1123_subdomain;

/// Shortest life of a certificate that can be asked for, in seconds.
const MIN_LIFE_S: i64 = 600;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(super) const REQUESTS: KindRules = KindRules {
    prepare_create: |request, write| {
        // Who asks is what the server knows, not what the request says.
        let spec = request.make_map().entry_map("spec");
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        spec.insert("username", write.user);
        if !write.uid.is_empty() {
            spec.insert("uid", write.uid);
        }
        if !write.groups.is_empty() {
            spec.insert("groups", write.groups.iter().map(|g| Value::str(g.as_str())).collect::<Vec<_>>());
        }
    },
    prepare_update,
    validate: |request, _, out| validate_request(request, out),
    validate_update: |new, old, write: &Write<'_>, out| validate_update(new, old, write, out),
    ..KindRules::NONE
};

fn is_decision(condition: &Value) -> bool {
    matches!(condition["type"].as_str(), Some("Approved" | "Denied"))
}

fn prepare_update(new: &mut Value, old: &Value, write: &Write<'_>) {
    new.insert("spec", &old["spec"]);
    match write.subresource {
        "approval" => match old["status"].get("certificate") {
            Some(certificate) => {
                new.set("status.certificate", certificate);
            }
            None => {
                new.remove_at("status.certificate");
            }
        },
        "status" => {
            // Decisions are made by the approval subresource alone.
            let kept = old["status"]["conditions"].items().iter().filter(|c| is_decision(c)).cloned();
            let mut conditions: Vec<Value> = kept.collect();
            let own = new["status"]["conditions"].items().iter().filter(|c| !is_decision(c)).cloned();
            conditions.extend(own);
            if !conditions.is_empty() || !new["status"]["conditions"].is_null() {
                new.set("status.conditions", conditions);
            }
        }
        _ => return,
    }
    stamp_conditions(new, old, write.now);
}

/// Fills in when a condition was last seen and last changed.
fn stamp_conditions(new: &mut Value, old: &Value, now: &str) {
    let Some(Value::List(conditions)) = new.at_mut("status.conditions") else { return };
    for condition in conditions.iter_mut() {
        if condition["status"].is_zero() {
            condition.insert("status", "True");
        }
        if condition["lastUpdateTime"].is_zero() {
            condition.insert("lastUpdateTime", now);
        }
        if condition["lastTransitionTime"].is_zero() {
            let before = old["status"]["conditions"]
                .items()
                .iter()
                .find(|c| c["type"] == condition["type"] && c["status"] == condition["status"]);
            let since = before.map_or_else(|| Value::str(now), |c| c["lastTransitionTime"].clone());
            condition.insert("lastTransitionTime", since);
        }
    }
}

fn validate_request(request: &Cursor<'_>, out: &mut Errors) {
    let spec = request.field("spec");
    let encoded = spec.field("request");
    let bytes = decode(encoded.text()).unwrap_or_default();
    if pem_blocks(&bytes, "CERTIFICATE REQUEST").is_none_or(|blocks| blocks.is_empty()) {
        let shown = if encoded.is_set() { BadValue::from(encoded.value) } else { BadValue::null() };
        encoded.invalid_as(out, shown, "PEM block type must be CERTIFICATE REQUEST");
    }
    let usages = spec.field("usages");
    if usages.is_empty() {
        usages.required(out, "");
    }
    for (i, usage) in usages.items().enumerate() {
        usage.among(out, &USAGES);
        if usages.value.items()[..i].contains(usage.value) {
            usage.duplicate(out);
        }
    }
    validate_signer(&spec.field("signerName"), out);
    let life = spec.field("expirationSeconds");
    if life.is_set() && life.int() < MIN_LIFE_S {
        life.invalid(out, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    validate_conditions(request, out);
}

fn validate_conditions(request: &Cursor<'_>, out: &mut Errors) {
    let status = request.field("status");
    let conditions = status.field("conditions");
    for (i, condition) in conditions.items().enumerate() {
        let kind = condition.field("type");
        match kind.text() {
            "" => kind.required(out, ""),
            "Approved" | "Denied" | "Failed" => {
                let status = condition.field("status");
                match status.text() {
                    "" => status.required(out, ""),
                    "True" => {}
                    _ => status.not_supported(out, &["True"]),
                }
            }
            _ => condition.field("status").one_of(out, &["False", "True", "Unknown"]),
        }
        if conditions.value.items()[..i].iter().any(|c| c["type"] == *kind.value) {
            kind.duplicate(out);
        }
        let excluded = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => continue,
        };
        if conditions.value.items()[..i].iter().any(|c| c["type"].as_str() == Some(excluded)) {
            kind.invalid(out, "Approved and Denied conditions are mutually exclusive");
        }
    }
}

fn validate_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    validate_conditions(new, out);
    let status = new.field("status");
    let conditions = status.field("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        let of = |request: &Value| -> Option<Value> {
            request["status"]["conditions"].items().iter().find(|c| c["type"].as_str() == Some(kind)).cloned()
        };
        match (of(old), of(new.value)) {
            (Some(_), None) => {
                conditions.forbidden(out, format!("updates may not remove a condition of type {kind:?}"));
            }
            (None, Some(_)) if kind != "Failed" && write.subresource != "approval" => {
                conditions.forbidden(out, format!("updates may not add a condition of type {kind:?}"));
            }
            _ => {}
        }
    }
    let certificate = status.field("certificate");
    if !old["status"]["certificate"].is_zero() && certificate.value != &old["status"]["certificate"] {
        certificate.forbidden(out, "updates may not set certificate content once set");
    } else if write.subresource == "status" && !certificate.is_empty() {
        let bytes = decode(certificate.text()).unwrap_or_default();
        match pem_blocks(&bytes, "CERTIFICATE") {
            Some(blocks) if !blocks.is_empty() => {}
            Some(_) => certificate.invalid_as(
                out,
                "<certificate data>",
                "must contain at least one CERTIFICATE PEM block",
            ),
            None => {
                certificate.invalid_as(out, "<certificate data>", "only CERTIFICATE PEM blocks are allowed")
            }
        }
    }
}

fn validate_signer(c: &Cursor<'_>, out: &mut Errors) {
    const FORM: &str = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    /// Longest name of a signer: a domain, a slash, a domain.
    const MAX: usize = 253 + 1 + 63 + 253 + 1;
    let Some((domain, path)) = c.text().split_once('/') else {
        return match c.text().is_empty() {
            true => c.required(out, ""),
            false => c.invalid(out, FORM),
        };
    };
    if path.contains('/') {
        return c.invalid(out, FORM);
    }
    if !domain.contains('.') {
        c.invalid_as(out, domain, "should be a domain with at least two segments separated by dots");
    }
    for part in [domain, path] {
        if !dns1123_subdomain(part).is_empty() {
            dns1123_subdomain(part).into_iter().for_each(|m| c.invalid_as(out, part, m));
        }
    }
    if c.text().len() > MAX {
        out.push(FieldError::too_long(&c.path, MAX));
    }
}

/// The base64 bodies of the PEM blocks in `text`; `None` when one is not of `kind`.
fn pem_blocks(text: &[u8], kind: &str) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(text);
    let mut blocks = Vec::new();
    let mut rest: &str = &text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body) = after.split_once("-----")?;
        let (body, after) = body.split_once("-----END ")?;
        if label != kind || !after.starts_with(label) {
            return None;
        }
        blocks.push(body.split_whitespace().collect());
        rest = after;
    }
    Some(blocks)
}

pub(super) const BUNDLES: KindRules = KindRules {
    validate: |bundle, _, out| validate_bundle(bundle, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        validate_bundle(new, out);
        let spec = new.field("spec");
        spec.field("signerName").immutable(out, &old["spec"]["signerName"]);
    },
    ..KindRules::NONE
};

fn validate_bundle(bundle: &Cursor<'_>, out: &mut Errors) {
    let spec = bundle.field("spec");
    let (signer, trust) = (spec.field("signerName"), spec.field("trustBundle"));
    if !signer.text().is_empty() {
        validate_signer(&signer, out);
    }
    match pem_blocks(trust.text().as_bytes(), "CERTIFICATE") {
        Some(blocks) if blocks.is_empty() => {
            trust.invalid_as(out, "<value omitted>", "at least one trust anchor must be provided");
        }
        Some(_) => {}
        None => trust.invalid_as(out, "<value omitted>", "entry 0 has bad block type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem() {
        let text = b"-----BEGIN A-----\nYQ==\n-----END A-----\n";
        assert_eq!(pem_blocks(text, "A"), Some(vec!["YQ==".to_owned()]));
        assert_eq!(pem_blocks(text, "B"), None);
        assert_eq!(pem_blocks(b"x", "A"), Some(Vec::new()));
    }
}
