//! Slices: what devices a driver has.

use std::sync::LazyLock;

use regex::Regex;
use schema::Value;

use super::names::{items, keyed_set, pool_name, qualified};
use super::{TAINT_EFFECTS, validate_driver};
use crate::Cursor;
use crate::field::{BadValue, Errors, FieldError};
use crate::kinds::pod::scheduling::validate_node_selector;
use crate::kinds::{KindRules, Write};
use crate::names::{dns1123_label, dns1123_subdomain, label_key, label_value};
use crate::quantities::quantity;

const MAX_DEVICES: usize = 128;
/// With taints or counters, which cost more.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_ENTRIES: usize = 32;
const MAX_VALUE_BYTES: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_CONDITIONS: usize = 4;
const MAX_VALID_VALUES: usize = 10;
const ONE_VALUE: &str = "exactly one value must be specified";

/// Versions as semver.org 2.0.0 has them.
static SEMVER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const NUMBER: &str = r"(0|[1-9]\d*)";
    const PRE: &str = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    const BUILD: &str = "[0-9a-zA-Z-]+";
    Regex::new(&format!(r"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{PRE}(\.{PRE})*)?(\+{BUILD}(\.{BUILD})*)?$")).ok()
});

pub(in crate::kinds) const RULES: KindRules = KindRules {
    prepare_create: date_taints,
    prepare_update: |new, _, write| date_taints(new, write),
    validate: |slice, _, out| validate(&slice.field("spec"), &Value::Null, out),
    validate_update: |new, old, _, out| validate(&new.field("spec"), &old["spec"], out),
    ..KindRules::NONE
};

/// Taints say since when.
fn date_taints(slice: &mut Value, write: &Write<'_>) {
    let Some(Value::List(devices)) = slice.at_mut("spec.devices") else { return };
    for device in devices.iter_mut() {
        if let Some(Value::List(taints)) = device.get_mut("taints") {
            for taint in taints.iter_mut().filter(|taint| taint["timeAdded"].is_null()) {
                taint.insert("timeAdded", write.now);
            }
        }
    }
}

fn validate(spec: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let pool = spec.field("pool");
    validate_driver(&spec.field("driver"), out);
    pool_name(&pool.field("name"), out);
    pool.field("resourceSliceCount").positive(out);
    if pool.int_of("generation") < 0 {
        pool.field("generation").invalid(out, "must be greater than or equal to zero");
    }
    if !old.is_null() {
        pool.field("name").immutable(out, &old["pool"]["name"]);
        spec.field("driver").immutable(out, &old["driver"]);
        spec.field("nodeName").immutable(out, &old["nodeName"]);
    }
    validate_nodes(spec, out);
    let (devices, counters) = (spec.field("devices"), spec.field("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        spec.invalid_as(out, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let advanced =
        devices.items().any(|d| !d.value["taints"].is_zero() || !d.value["consumesCounters"].is_zero());
    let max = if advanced { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    let per_device = spec.bool_of("perDeviceNodeSelection");
    keyed_set(&devices, max, out, key("name"), |device, out| {
        let before = old["devices"].items().iter().find(|d| d["name"] == device.value["name"]);
        validate_device(device, before, per_device, out);
    });
    keyed_set(&counters, MAX_COUNTER_SETS, out, key("name"), |set, out| {
        validate_counters(set, "name", MAX_COUNTERS, out);
    });
}

fn key(field: &'static str) -> impl Fn(&Value) -> String {
    move |value| value[field].as_str().unwrap_or("").to_owned()
}

/// Fields of a choice that are set, as `{`a`, `b`}`.
fn chosen(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{{{}}}", quoted.join(", "))
}

fn validate_nodes(spec: &Cursor<'_>, out: &mut Errors) {
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut set = Vec::new();
    let (name, selector) = (spec.field("nodeName"), spec.field("nodeSelector"));
    if name.is_set() && name.text().is_empty() {
        name.invalid(out, "must be either unset or set to a non-empty string");
    } else if name.is_set() {
        set.push("nodeName");
        name.check(out, dns1123_subdomain);
    }
    if selector.is_set() {
        set.push("nodeSelector");
        validate_node_selector(&selector, out);
        let terms = selector.field("nodeSelectorTerms");
        if terms.len() != 1 {
            terms.invalid(out, "must have exactly one node selector term");
        }
    }
    for field in ["allNodes", "perDeviceNodeSelection"] {
        let c = spec.field(field);
        match (c.is_set(), c.bool()) {
            (true, true) => set.push(field),
            (true, false) => c.invalid(out, "must be either unset or set to true"),
            _ => {}
        }
    }
    match set.len() {
        0 => spec.required(out, ONE),
        1 => {}
        _ => spec.invalid_as(out, chosen(&set).as_str(), format!("{ONE}, but multiple fields are set")),
    }
}

fn validate_device(c: &Cursor<'_>, old: Option<&Value>, per_device: bool, out: &mut Errors) {
    c.field("name").check(out, dns1123_label);
    let (attributes, capacity) = (c.field("attributes"), c.field("capacity"));
    let entries = attributes.entries().len() + capacity.entries().len();
    if entries > MAX_ENTRIES {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_ENTRIES}");
        c.invalid_as(out, entries as i64, detail);
    }
    for (name, _) in attributes.entries() {
        qualified(&attributes, name, out);
        validate_attribute(&attributes.key(name), out);
    }
    let same = |field: &str| old.is_some_and(|old| old[field] == c.value[field]);
    if !same("capacity") {
        for (name, _) in capacity.entries() {
            qualified(&capacity, name, out);
            validate_capacity(&capacity.key(name), c.bool_of("allowMultipleAllocations"), out);
        }
    }
    if !same("taints") {
        items(&c.field("taints"), MAX_TAINTS, out, |taint, out| {
            taint.field("key").check(out, label_key);
            if !taint.text_of("value").is_empty() {
                taint.field("value").check(out, label_value);
            }
            taint.field("effect").one_of(out, &TAINT_EFFECTS);
        });
    }
    keyed_set(&c.field("consumesCounters"), MAX_CONSUMPTIONS, out, key("counterSet"), |consumed, out| {
        validate_counters(consumed, "counterSet", MAX_COUNTERS, out);
    });
    validate_device_nodes(c, per_device, out);
    validate_binding(c, out);
}

fn validate_device_nodes(c: &Cursor<'_>, per_device: bool, out: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                       `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let (name, selector, all) = (c.field("nodeName"), c.field("nodeSelector"), c.field("allNodes"));
    if !per_device {
        if name.is_set() || selector.is_set() || all.is_set() {
            c.invalid_as(
                out,
                BadValue::null(),
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in \
                 the ResourceSlice spec",
            );
        }
        return;
    }
    let mut set = Vec::new();
    if name.is_set() && name.text().is_empty() {
        name.invalid(out, "must not be empty");
    } else if name.is_set() {
        set.push("nodeName");
        name.check(out, dns1123_subdomain);
    }
    if selector.is_set() {
        set.push("nodeSelector");
        validate_node_selector(&selector, out);
    }
    match (all.is_set(), all.bool()) {
        (true, true) => set.push("allNodes"),
        (true, false) => all.invalid(out, "must be either unset or set to true"),
        _ => {}
    }
    match set.len() {
        0 => c.required(out, ONE),
        1 => {}
        _ => c.invalid_as(out, chosen(&set).as_str(), ONE),
    }
}

fn validate_attribute(c: &Cursor<'_>, out: &mut Errors) {
    let mut set = 0;
    for field in ["bool", "int", "string", "version"] {
        let value = c.field(field);
        if value.is_set() {
            set += 1;
            validate_text(&value, field == "version", out);
        }
    }
    for field in ["bools", "ints", "strings", "versions"] {
        let values = c.field(field);
        if values.is_set() {
            set += 1;
            if values.is_empty() {
                values.invalid(out, "must not be empty if specified");
            }
            values.items().for_each(|value| validate_text(&value, field == "versions", out));
        }
    }
    match set {
        0 => c.invalid_as(out, "", ONE_VALUE),
        1 => {}
        _ => c.invalid(out, ONE_VALUE),
    }
}

fn validate_text(c: &Cursor<'_>, version: bool, out: &mut Errors) {
    if version && SEMVER.as_ref().is_some_and(|semver| !semver.is_match(c.text())) {
        c.invalid(out, "must be a string compatible with semver.org spec 2.0.0");
    }
    if c.text().len() > MAX_VALUE_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_VALUE_BYTES));
    }
}

fn validate_capacity(c: &Cursor<'_>, shared: bool, out: &mut Errors) {
    let policy = c.field("requestPolicy");
    if !policy.is_set() {
        return;
    }
    if !shared {
        return policy.forbidden(out, "allowMultipleAllocations must be true");
    }
    let (values, range, default) =
        (policy.field("validValues"), policy.field("validRange"), policy.field("default"));
    if !values.is_empty() && range.is_set() {
        return policy.forbidden(
            out,
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        );
    }
    for (c, name) in [(&values, "validValues"), (&range, "validRange")] {
        if !c.is_empty() && !default.is_set() {
            return default.required(out, format!("required when {name} is defined"));
        }
    }
    let whole = &c.value["value"];
    if !values.is_empty() {
        validate_valid_values(&values, default.value, whole, out);
    } else if range.is_set() {
        validate_range(&range, default.value, whole, out);
    }
}

fn validate_valid_values(values: &Cursor<'_>, default: &Value, whole: &Value, out: &mut Errors) {
    let amounts: Vec<_> = values.value.items().iter().filter_map(quantity).collect();
    for (i, pair) in amounts.windows(2).enumerate() {
        if pair[0] > pair[1] {
            values.index(i + 1).invalid(out, "values must be sorted in ascending order");
        }
    }
    let number = |value: &Value| quantity(value).map_or(String::new(), |q| q.value().to_string());
    keyed_set(values, MAX_VALID_VALUES, out, number, |value, out| {
        if quantity(value.value) > quantity(whole) {
            let text = whole.as_str().unwrap_or("");
            value.invalid(out, format!("option is larger than capacity value: {text}"));
        }
    });
    if !amounts.iter().any(|amount| Some(amount) == quantity(default).as_ref()) {
        values.invalid_as(out, Some(default), "default value is not valid according to the requestPolicy");
    }
}

fn validate_range(range: &Cursor<'_>, default: &Value, whole: &Value, out: &mut Errors) {
    let (min, max, step) = (range.field("min"), range.field("max"), range.field("step"));
    let own = range.field("default");
    if !min.is_set() {
        return min.required(out, "required when validRange is defined");
    }
    let (amount, text) = (|v: &Value| quantity(v), |v: &Value| v.as_str().unwrap_or("").to_owned());
    if amount(min.value) > amount(whole) {
        min.invalid(out, format!("min is larger than capacity value: {}", text(whole)));
    }
    if amount(default) < amount(min.value) {
        own.invalid_as(out, Some(default), format!("default is less than min: {}", text(min.value)));
    }
    if max.is_set() {
        if amount(min.value) > amount(max.value) {
            max.invalid_as(out, Some(min.value), format!("min is larger than max: {}", text(max.value)));
        }
        if amount(max.value) > amount(whole) {
            max.invalid(out, format!("max is larger than capacity value: {}", text(whole)));
        }
        if amount(default) > amount(max.value) {
            own.invalid_as(out, Some(default), format!("default is more than max: {}", text(max.value)));
        }
    }
    let Some(by) = amount(step.value) else { return };
    if by.sign() <= 0 {
        return step.invalid(out, "must be greater than zero");
    }
    let units = |v: &Value| amount(v).map_or(0, |q| q.value());
    let (first, by) = (units(min.value), by.value());
    if first.saturating_add(by) > units(whole) {
        let added = first.saturating_add(by);
        let detail = format!("one step {added} is larger than capacity value: {}", text(whole));
        step.invalid(out, detail);
    }
    for value in [default, max.value].into_iter().filter(|v| !v.is_null()) {
        if by > 0 && units(value).saturating_sub(first) % by != 0 {
            let detail = format!(
                "value is not a multiple of a given step ({}) from ({})",
                text(step.value),
                text(min.value)
            );
            step.invalid_as(out, Some(value), detail);
        }
    }
}

fn validate_counters(c: &Cursor<'_>, name: &str, max: usize, out: &mut Errors) {
    c.field(name).required_name(out, dns1123_label);
    let counters = c.field("counters");
    let count = counters.entries().len();
    match count {
        0 => counters.required(out, ""),
        _ if count > max => out.push(FieldError::too_many(&counters.path, count, max)),
        _ => {
            for (name, _) in counters.entries() {
                dns1123_label(name).into_iter().for_each(|m| counters.invalid_as(out, name.as_str(), m));
            }
        }
    }
}

/// Conditions that a device must reach, or must not, before a pod is bound.
pub(super) fn validate_binding(c: &Cursor<'_>, out: &mut Errors) {
    let (wanted, failed) = (c.field("bindingConditions"), c.field("bindingFailureConditions"));
    for list in [&wanted, &failed] {
        items(list, MAX_CONDITIONS, out, |condition, out| condition.check(out, label_key));
    }
    for list in [&wanted, &failed] {
        for (i, condition) in list.items().enumerate() {
            if list.value.items()[..i].contains(condition.value) {
                condition.duplicate(out);
            }
            if std::ptr::eq(list, &failed) && wanted.value.items().contains(condition.value) {
                condition.invalid(out, "bindingFailureConditions must not overlap with bindingConditions");
            }
        }
    }
    match (wanted.is_empty(), failed.is_empty()) {
        (true, false) => {
            wanted.invalid(out, "bindingConditions are required to use bindingFailureConditions");
        }
        (false, true) => {
            failed.invalid(out, "bindingFailureConditions are required to use bindingConditions");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    fn errors(spec: &Value) -> Vec<String> {
        let mut out = Errors::new();
        validate(&Cursor::root(spec), &Value::Null, &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn devices() {
        let slice = |device: Value| {
            value!({"driver": "d", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n",
                "devices": [(device)]})
        };
        assert_eq!(
            errors(&slice(value!({"name": "a", "attributes": {"v": {"version": "1.2.3-rc.1"}}}))),
            [""; 0]
        );
        for device in [
            value!({"name": "a", "attributes": {"v": {"version": "1.2"}}}),
            value!({"name": "a", "attributes": {"v": {"int": 1, "bool": true}}}),
            value!({"name": "a", "nodeName": "m"}),
            value!({"name": "a", "bindingConditions": ["x"]}),
            value!({"name": "a", "capacity": {"m": {"value": "1Gi", "requestPolicy": {}}}}),
            value!({"name": "a", "allowMultipleAllocations": true, "capacity": {"m": {"value": "4", "requestPolicy": {
                "default": "3", "validRange": {"min": "2", "max": "4", "step": "2"}}}}}),
        ] {
            assert_eq!(errors(&slice(device.clone())).len(), 1, "{device:?}");
        }
    }
}
