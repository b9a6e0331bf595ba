//! StatefulSets.

use schema::{Value, value};

use super::{
    amount_of, validate_amount_or_percent, validate_at_most_all, validate_counts, validate_match,
    validate_runs_on,
};
use crate::Cursor;
use crate::field::Errors;
use crate::kinds::KindRules;
use crate::kinds::claim::validate_claim_spec;
use crate::kinds::pod::template::{default_template, validate_template};
use crate::kinds::pod::warnings::of_template_at;
use crate::label_selector::{is_empty_selector, validate_label_selector};
use crate::meta::{validate_annotations, validate_labels};
use crate::names::dns1123_label;

pub(in crate::kinds) const RULES: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.template"),
    defaults,
    validate: |set, _, out| {
        let spec = set.field("spec");
        let service = spec.field("serviceName");
        // Sets made before this was asked for may be changed.
        if !service.text().is_empty() {
            service.check(out, dns1123_label);
        }
        validate(set, out);
    },
    validate_update: |new, old, write, out| {
        if write.subresource == "status" {
            return validate_status(new, old, out);
        }
        validate(new, out);
        validate_unchanged(new, old, out);
    },
    ..KindRules::NONE
};

fn defaults(set: &mut Value) {
    default_template(set, &["spec", "template"]);
    // Without a type there is a partition too; with one it is the client's.
    let strategy = set.make_map().entry_map("spec").entry_map("updateStrategy");
    if strategy.get_str("type").is_none_or(str::is_empty) {
        strategy.insert("type", "RollingUpdate");
        strategy.entry("rollingUpdate", Value::map);
    }
    if strategy.get_str("type") == Some("RollingUpdate")
        && let Some(Value::Map(rolling)) = strategy.get_mut("rollingUpdate")
    {
        rolling.entry("partition", || Value::Int(0));
    }
    if let Some(Value::List(claims)) = set.at_mut("spec.volumeClaimTemplates") {
        for claim in claims.iter_mut() {
            claim.insert("apiVersion", "v1");
            claim.insert("kind", "PersistentVolumeClaim");
        }
    }
}

fn validate(set: &Cursor<'_>, out: &mut Errors) {
    let spec = set.field("spec");
    let policy = spec.field("podManagementPolicy");
    match policy.text() {
        "OrderedReady" | "Parallel" => {}
        "" => policy.required(out, ""),
        _ => policy.invalid(out, "must be 'OrderedReady' or 'Parallel'"),
    }
    validate_strategy(&spec.field("updateStrategy"), out);
    let retention = spec.field("persistentVolumeClaimRetentionPolicy");
    for name in ["whenDeleted", "whenScaled"] {
        retention.field(name).among(out, &["Retain", "Delete"]);
    }
    for name in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        spec.field(name).not_negative(out);
    }
    spec.field("ordinals").field("start").not_negative(out);
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    if !selector.is_set() {
        selector.required(out, "");
    } else {
        validate_label_selector(&selector, out);
        if is_empty_selector(selector.value) {
            selector.invalid(out, "empty selector is invalid for statefulset");
        }
    }
    for claim in spec.field("volumeClaimTemplates").items() {
        validate_claim_spec(&claim.field("spec"), out);
    }
    match validate_match(selector.value, &template, out) {
        true => validate_claiming_template(&spec, &template, out),
        false => selector.invalid(out, ""),
    }
    validate_runs_on(&template, "StatefulSet", out);
}

/// The template may mount volumes of the set's own claims. Labels and annotations are checked for the set, and with
/// the rest of the template once more.
fn validate_claiming_template(spec: &Cursor<'_>, template: &Cursor<'_>, out: &mut Errors) {
    let metadata = &template.value["metadata"];
    out.extend(validate_labels(metadata.get("labels"), &template.path.child("labels")));
    out.extend(validate_annotations(metadata.get("annotations"), &template.path.child("annotations")));
    let mut whole = template.value.clone();
    let own: Vec<Value> = whole["spec"]["volumes"].items().to_vec();
    let mut all = own;
    for claim in spec.value["volumeClaimTemplates"].items() {
        let name = claim["metadata"]["name"].as_str().unwrap_or("");
        // Behind the own ones, so that their indices stay.
        if !all.iter().any(|volume| volume["name"].as_str().unwrap_or("") == name) {
            all.push(value!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    if !all.is_empty() && !whole["spec"].is_null() {
        whole.set("spec.volumes", all);
    }
    validate_template(&Cursor::new(&whole, template.path), out);
}

fn validate_strategy(c: &Cursor<'_>, out: &mut Errors) {
    let rolling = c.field("rollingUpdate");
    match c.text_of("type") {
        "" => c.required(out, ""),
        "OnDelete" => {
            if rolling.is_set() {
                rolling.invalid(out, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            rolling.field("partition").not_negative(out);
            let unavailable = rolling.field("maxUnavailable");
            if unavailable.is_set() {
                validate_amount_or_percent(&unavailable, out);
                if amount_of(unavailable.value) == 0 {
                    unavailable.invalid(out, "cannot be 0");
                }
                validate_at_most_all(&unavailable, out);
            }
        }
        _ => c.invalid(out, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn validate_unchanged(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    const CHANGEABLE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "revisionHistoryLimit",
    ];
    let rest = |set: &Value| -> Vec<(String, Value)> {
        set["spec"]
            .entries()
            .iter()
            .filter(|(name, value)| !CHANGEABLE.contains(&name.as_str()) && !value.is_zero())
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect()
    };
    if rest(new.value) != rest(old) {
        new.field("spec").forbidden(
            out,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

fn validate_status(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    const WITHIN: [&str; 4] = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    const COUNTS: [&str; 7] = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let status = new.field("status");
    validate_counts(&status, &COUNTS, &WITHIN, out);
    let collisions = status.field("collisionCount");
    let before = old["status"]["collisionCount"].as_int();
    if before.is_some_and(|before| collisions.as_int().is_none_or(|c| c < before)) {
        collisions.invalid_as(out, collisions.int(), "cannot be decremented");
    }
}
