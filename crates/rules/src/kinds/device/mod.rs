//! Devices: classes, claims, templates of claims and slices of `resource.k8s.io` (KEP-4381).
//!
//! Selectors are CEL, which is not read here.

mod names;
mod slice;
mod status;

use cel::{Env, Type};
use schema::Value;

use self::names::{driver_name, fully_qualified, items, keyed_set, opaque};
pub(super) use self::slice::RULES as SLICES;
use super::KindRules;
use super::claim::validate_template_meta;
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{dns1123_label, dns1123_subdomain, label_key, label_value};
use crate::quantities::is_extended;

const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_CONSTRAINTS: usize = 32;
const MAX_CONFIGS: usize = 32;
const MAX_SELECTORS: usize = 32;
const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

pub(super) const CLASSES: KindRules = KindRules {
    validate: |class, _, out| validate_class(&class.field("spec"), out),
    validate_update: |new, _, _, out| validate_class(&new.field("spec"), out),
    ..KindRules::NONE
};

pub(super) const CLAIMS: KindRules = KindRules {
    defaults: |claim| default_counts(claim, "spec.devices.requests"),
    prepare_update: |new, old, write| {
        if write.subresource == "status" {
            status::drop_deallocated(new, old);
        }
    },
    validate: |claim, _, out| {
        let spec = claim.field("spec");
        validate_devices(&spec.field("devices"), out);
    },
    validate_update: |new, old, write, out| match write.subresource {
        "status" => status::validate(new, old, out),
        _ => new.field("spec").immutable(out, &old["spec"]),
    },
    ..KindRules::NONE
};

pub(super) const TEMPLATES: KindRules = KindRules {
    defaults: |template| default_counts(template, "spec.spec.devices.requests"),
    validate: |template, _, out| {
        let spec = template.field("spec");
        validate_template_meta(&spec.field("metadata"), out);
        let claim = spec.field("spec");
        validate_devices(&claim.field("devices"), out);
    },
    validate_update: |new, old, _, out| new.field("spec").immutable(out, &old["spec"]),
    ..KindRules::NONE
};

/// One device unless another number is said.
fn default_counts(object: &mut Value, path: &str) {
    fn one(request: &mut Value) {
        if request["allocationMode"].as_str() == Some("ExactCount") && request["count"].is_zero() {
            request.insert("count", 1_i64);
        }
    }
    let Some(Value::List(requests)) = object.at_mut(path) else { return };
    for request in requests.iter_mut() {
        if let Some(exactly) = request.get_mut("exactly").filter(|e| !e.is_null()) {
            one(exactly);
        }
        if let Some(Value::List(alternatives)) = request.get_mut("firstAvailable") {
            alternatives.iter_mut().for_each(one);
        }
    }
}

fn validate_class(spec: &Cursor<'_>, out: &mut Errors) {
    validate_selectors(&spec.field("selectors"), out);
    items(&spec.field("config"), MAX_CONFIGS, out, opaque);
    let name = spec.field("extendedResourceName");
    if name.is_set() && !is_extended(name.text()) {
        name.invalid(out, "must be a valid extended resource name");
    }
}

fn validate_selectors(c: &Cursor<'_>, out: &mut Errors) {
    items(c, MAX_SELECTORS, out, |selector, out| {
        let cel = selector.field("cel");
        let expression = cel.field("expression");
        if !cel.is_set() {
            cel.required(out, "");
        } else if expression.text().len() > MAX_EXPRESSION_BYTES {
            out.push(FieldError::too_long(&expression.path, MAX_EXPRESSION_BYTES));
        } else if let Err(words) = compile_selector(expression.text()) {
            expression.invalid_as(out, expression.text(), words);
        }
    });
}

/// Compiles an expression about one `device` (`dynamic-resource-allocation/cel`).
fn compile_selector(source: &str) -> Result<(), String> {
    let of_domain = |values: Type| Type::map(Type::String, Type::map(Type::String, values));
    let device = Type::object(
        "kubernetes.DRADevice",
        [
            ("driver", Type::String),
            ("allowMultipleAllocations", Type::Bool),
            ("attributes", of_domain(Type::Dyn)),
            ("capacity", of_domain(Type::opaque("kubernetes.Quantity"))),
        ],
    );
    let program = Env::new().variable("device", device).compile(source, &[]).map_err(|error| {
        format!("compilation failed: {}", error.to_string().trim_start_matches("compilation failed: "))
    })?;
    match program.result_type() {
        Type::Bool | Type::Dyn => Ok(()),
        other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
    }
}

/// What a claim asks for (`validateDeviceClaim`).
fn validate_devices(c: &Cursor<'_>, out: &mut Errors) {
    let requests = c.field("requests");
    keyed_set(
        &requests,
        MAX_REQUESTS,
        out,
        |r| r["name"].as_str().unwrap_or("").to_owned(),
        validate_request,
    );
    items(&c.field("constraints"), MAX_CONSTRAINTS, out, |constraint, out| {
        validate_references(&constraint.field("requests"), requests.value, out);
        let (same, distinct) = (constraint.field("matchAttribute"), constraint.field("distinctAttribute"));
        if same.is_set() {
            fully_qualified(&same, out);
        } else if distinct.is_set() {
            fully_qualified(&distinct, out);
        } else {
            constraint.required(
                out,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            );
        }
    });
    items(&c.field("config"), MAX_CONFIGS, out, |config, out| {
        validate_references(&config.field("requests"), requests.value, out);
        opaque(config, out);
    });
}

fn validate_request(request: &Cursor<'_>, out: &mut Errors) {
    request.field("name").check(out, dns1123_label);
    let (exactly, alternatives) = (request.field("exactly"), request.field("firstAvailable"));
    match (exactly.is_set(), !alternatives.is_empty()) {
        (false, false) => request.required(out, "exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => request.invalid_as(
            out,
            crate::field::BadValue::null(),
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, false) => validate_wanted(&exactly, out),
        (false, true) => {
            let name = |r: &Value| r["name"].as_str().unwrap_or("").to_owned();
            keyed_set(&alternatives, MAX_ALTERNATIVES, out, name, |request, out| {
                request.field("name").check(out, dns1123_label);
                validate_wanted(request, out);
            });
        }
    }
}

/// One kind of device, and how many.
fn validate_wanted(c: &Cursor<'_>, out: &mut Errors) {
    c.field("deviceClassName").required_name(out, dns1123_subdomain);
    validate_selectors(&c.field("selectors"), out);
    let count = c.field("count");
    match c.text_of("allocationMode") {
        "All" if count.int() != 0 => {
            count.invalid(out, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" => count.positive(out),
        _ => c.field("allocationMode").among(out, &["All", "ExactCount"]),
    }
    c.field("tolerations").items().for_each(|toleration| validate_toleration(&toleration, out));
}

fn validate_toleration(c: &Cursor<'_>, out: &mut Errors) {
    let (value, effect) = (c.field("value"), c.field("effect"));
    if !c.text_of("key").is_empty() {
        c.field("key").check(out, label_key);
    }
    match c.text_of("operator") {
        "Exists" if !value.text().is_empty() => value.invalid(out, "must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => value.check(out, label_value),
        _ => c.field("operator").one_of(out, &["Equal", "Exists"]),
    }
    if !effect.text().is_empty() {
        effect.among(out, &TAINT_EFFECTS);
    }
}

/// Names of requests, `request` or `request/alternative`.
fn validate_references(c: &Cursor<'_>, requests: &Value, out: &mut Errors) {
    let name = |name: &Value| name.as_str().unwrap_or("").to_owned();
    keyed_set(c, MAX_REQUESTS, out, name, |reference, out| validate_reference(reference, requests, out));
}

fn validate_reference(c: &Cursor<'_>, requests: &Value, out: &mut Errors) {
    const UNKNOWN: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let segments: Vec<&str> = c.text().split('/').collect();
    if segments.len() > 2 {
        return c.invalid(out, UNKNOWN);
    }
    segments
        .iter()
        .for_each(|s| dns1123_label(s).into_iter().for_each(|message| c.invalid_as(out, *s, message)));
    let named = |list: &[Value], name: &str| list.iter().any(|r| r["name"].as_str().unwrap_or("") == name);
    let request = requests.items().iter().rfind(|r| r["name"].as_str().unwrap_or("") == segments[0]);
    let known = match (request, segments.get(1)) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(request), Some(alternative)) => named(request["firstAvailable"].items(), alternative),
    };
    if !known {
        c.invalid_as(out, c.text(), UNKNOWN);
    }
}

fn validate_driver(c: &Cursor<'_>, out: &mut Errors) {
    driver_name(c, c.text(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn references_name_requests_and_alternatives() {
        let requests =
            value!([{"name": "a", "exactly": {}}, {"name": "b", "firstAvailable": [{"name": "c"}]}]);
        for (text, errors) in [("a", 0), ("b", 0), ("b/c", 0), ("a/c", 1), ("d", 1), ("b/c/d", 1), ("B", 2)] {
            let (value, mut out) = (Value::from(text), Errors::new());
            validate_reference(&Cursor::root(&value), &requests, &mut out);
            assert_eq!(out.len(), errors, "{text}");
        }
    }

    #[test]
    fn one_device_by_default() {
        let mut claim = value!({"spec": {"devices": {"requests": [
            {"exactly": {"allocationMode": "ExactCount"}},
            {"firstAvailable": [{"allocationMode": "All"}, {"allocationMode": "ExactCount", "count": 3}]}
        ]}}});
        default_counts(&mut claim, "spec.devices.requests");
        let requests = &claim["spec"]["devices"]["requests"];
        assert_eq!(requests[0]["exactly"]["count"].as_int(), Some(1));
        assert!(requests[1]["firstAvailable"][0]["count"].is_null());
        assert_eq!(requests[1]["firstAvailable"][1]["count"].as_int(), Some(3));
    }
}
