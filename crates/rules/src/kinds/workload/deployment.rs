//! Deployments, ReplicaSets and ReplicationControllers.

use schema::{Value, value};

use super::{
    amount_of, validate_amount_or_percent, validate_at_most_all, validate_counts, validate_match,
    validate_runs_on, validate_selector,
};
use crate::Cursor;
use crate::field::{BadValue, Errors, FieldError};
use crate::kinds::pod::template::{default_template, validate_template};
use crate::kinds::pod::warnings::of_template_at;
use crate::kinds::{KindRules, Write};

pub(in crate::kinds) const DEPLOYMENTS: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.template"),
    defaults: |deployment| {
        default_template(deployment, &["spec", "template"]);
        if deployment["spec"]["strategy"]["type"].as_str() == Some("RollingUpdate")
            && deployment["spec"]["strategy"]["rollingUpdate"].is_null()
        {
            deployment
                .set("spec.strategy.rollingUpdate", value!({"maxSurge": "25%", "maxUnavailable": "25%"}));
        }
    },
    validate: |deployment, _, out| validate_deployment(deployment, out),
    validate_update: |new, old, write, out| {
        if write.subresource == "status" {
            return validate_deployment_status(new, old, out);
        }
        validate_deployment(new, out);
        immutable_selector(new, old, out);
    },
    ..KindRules::NONE
};

pub(in crate::kinds) const REPLICA_SETS: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.template"),
    defaults: |set| default_template(set, &["spec", "template"]),
    validate: |set, _, out| validate_replica_set(set, out),
    validate_update: |new, old, write, out| {
        if write.subresource == "status" {
            return validate_replica_status(new, out);
        }
        validate_replica_set(new, out);
        immutable_selector(new, old, out);
    },
    ..KindRules::NONE
};

pub(in crate::kinds) const CONTROLLERS: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.template"),
    defaults: default_controller,
    validate: |controller, _, out| validate_controller(controller, out),
    validate_update: |new, _, write: &Write<'_>, out| match write.subresource {
        "status" => validate_replica_status(new, out),
        _ => validate_controller(new, out),
    },
    ..KindRules::NONE
};

fn immutable_selector(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let spec = new.field("spec");
    spec.field("selector").immutable(out, &old["spec"]["selector"]);
}

fn validate_replicated(spec: &Cursor<'_>, out: &mut Errors) {
    spec.field("replicas").not_negative(out);
    spec.field("minReadySeconds").not_negative(out);
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    // ReplicaSets say "deployment" here too.
    validate_selector(&selector, "deployment", out);
    if !validate_match(selector.value, &template, out) {
        return selector.invalid(out, "invalid label selector");
    }
    validate_template(&template, out);
    validate_runs_on(&template, "ReplicaSet", out);
}

fn validate_replica_set(set: &Cursor<'_>, out: &mut Errors) {
    validate_replicated(&set.field("spec"), out);
}

fn validate_replica_status(set: &Cursor<'_>, out: &mut Errors) {
    const WITHIN: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    const COUNTS: [&str; 6] = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    validate_counts(&set.field("status"), &COUNTS, &WITHIN, out);
}

fn validate_deployment(deployment: &Cursor<'_>, out: &mut Errors) {
    let spec = deployment.field("spec");
    validate_replicated(&spec, out);
    validate_strategy(&spec.field("strategy"), out);
    spec.field("revisionHistoryLimit").not_negative(out);
    let deadline = spec.field("progressDeadlineSeconds");
    if deadline.is_set() {
        deadline.not_negative(out);
        if deadline.int() <= spec.int_of("minReadySeconds") {
            deadline.invalid(out, "must be greater than minReadySeconds");
        }
    }
}

fn validate_strategy(c: &Cursor<'_>, out: &mut Errors) {
    let rolling = c.field("rollingUpdate");
    match c.text_of("type") {
        "Recreate" if rolling.is_set() => {
            rolling.forbidden(out, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => {
            rolling.required(out, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            validate_amount_or_percent(&unavailable, out);
            validate_amount_or_percent(&surge, out);
            if amount_of(unavailable.value) == 0 && amount_of(surge.value) == 0 {
                unavailable.invalid(out, "may not be 0 when `maxSurge` is 0");
            }
            validate_at_most_all(&unavailable, out);
        }
        _ => out.push(FieldError::not_supported(&c.path, c.value, &["Recreate", "RollingUpdate"])),
    }
}

fn validate_deployment_status(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    const WITHIN: [&str; 3] = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    const COUNTS: [&str; 8] = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    let status = new.field("status");
    validate_counts(&status, &COUNTS, &WITHIN, out);
    let collisions = status.field("collisionCount");
    if old["status"]["collisionCount"]
        .as_int()
        .is_some_and(|before| collisions.as_int().is_none_or(|c| c < before))
    {
        collisions.invalid_as(out, collisions.int(), "cannot be decremented");
    }
}

/// A controller without a selector looks for the labels of its template, and carries them itself.
fn default_controller(controller: &mut Value) {
    default_template(controller, &["spec", "template"]);
    let labels = controller["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_zero() {
        return;
    }
    if controller["spec"]["selector"].is_zero() {
        controller.set("spec.selector", &labels);
    }
    if controller["metadata"]["labels"].is_zero() {
        controller.set("metadata.labels", labels);
    }
}

fn validate_controller(controller: &Cursor<'_>, out: &mut Errors) {
    let spec = controller.field("spec");
    spec.field("minReadySeconds").not_negative(out);
    let selector = spec.field("selector");
    if selector.is_empty() {
        selector.required(out, "");
    }
    let replicas = spec.field("replicas");
    match replicas.is_set() {
        true => replicas.not_negative(out),
        false => replicas.required(out, ""),
    }
    let template = spec.field("template");
    if !template.is_set() {
        return template.required(out, "");
    }
    if !selector.is_empty() {
        let labels = template.field("metadata");
        let labels = labels.field("labels");
        if selector.value.entries().iter().any(|(name, wanted)| labels.value.get(name) != Some(wanted)) {
            let detail = "`selector` does not match template `labels`";
            labels.invalid_as(
                out,
                if labels.is_set() { labels.value.into() } else { BadValue::null() },
                detail,
            );
        }
    }
    validate_template(&template, out);
    validate_runs_on(&template, "ReplicationController", out);
}
