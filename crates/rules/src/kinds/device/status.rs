//! The status of a claim: what it was given, and who uses it.

use schema::Value;

use super::names::{items, keyed_set, pool_name, raw_object, uid};
use super::slice::validate_binding;
use super::{MAX_CONFIGS, validate_driver, validate_reference, validate_references, validate_toleration};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::kinds::pod::scheduling::validate_node_selector;
use crate::names::dns1123_label;

const MAX_USERS: usize = 256;
const MAX_RESULTS: usize = 32;
const MAX_CONDITIONS: usize = 8;
const MAX_INTERFACE_BYTES: usize = 256;
const MAX_HARDWARE_BYTES: usize = 128;
const MAX_IPS: usize = 16;

/// The identity of a device, in part shared.
fn device_id(value: &Value) -> String {
    let part = |name: &str| value[name].as_str().unwrap_or("");
    let share = part("shareID");
    let id = format!("{}/{}/{}", part("driver"), part("pool"), part("device"));
    if share.is_empty() { id } else { format!("{id}/{share}") }
}

fn allocated(object: &Value) -> Vec<String> {
    object["status"]["allocation"]["devices"]["results"].items().iter().map(device_id).collect()
}

/// The status of devices that are given back goes with them.
pub(super) fn drop_deallocated(new: &mut Value, old: &Value) {
    let (before, now) = (allocated(old), allocated(new));
    if let Some(Value::List(devices)) = new.at_mut("status.devices") {
        devices.retain(|device| {
            let id = device_id(device);
            now.contains(&id) || !before.contains(&id)
        });
        if devices.is_empty() {
            new.remove_at("status.devices");
        }
    }
}

pub(super) fn validate(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let (status, before) = (new.field("status"), &old["status"]);
    let users = status.field("reservedFor");
    keyed_set(
        &users,
        MAX_USERS,
        out,
        |user| user["uid"].as_str().unwrap_or("").to_owned(),
        |user, out| {
            for name in ["resource", "name", "uid"] {
                if user.text_of(name).is_empty() {
                    user.field(name).required(out, "");
                }
            }
        },
    );
    let known = allocated(new.value);
    keyed_set(&status.field("devices"), usize::MAX, out, device_id, |device, out| {
        validate_device(device, &known, out);
    });
    let allocation = status.field("allocation");
    if !users.is_empty() {
        let added = || users.value.items().iter().any(|user| !before["reservedFor"].items().contains(user));
        if !allocation.is_set() {
            users.forbidden(out, "may not be specified when `allocated` is not set");
        } else if !new.value["metadata"]["deletionTimestamp"].is_null() && added() {
            users.forbidden(
                out,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
    }
    match (allocation.is_set(), before["allocation"].is_null()) {
        (true, false) => allocation.immutable(out, &before["allocation"]),
        (true, true) => validate_allocation(&allocation, &new.value["spec"]["devices"]["requests"], out),
        _ => {}
    }
}

fn validate_device(c: &Cursor<'_>, known: &[String], out: &mut Errors) {
    validate_driver(&c.field("driver"), out);
    pool_name(&c.field("pool"), out);
    c.field("device").check(out, dns1123_label);
    if c.has("shareID") {
        uid(&c.field("shareID"), out);
    }
    let id = device_id(c.value);
    if !known.contains(&id) {
        c.invalid_as(out, id.as_str(), "must be an allocated device in the claim");
    }
    let conditions = c.field("conditions");
    if conditions.len() > MAX_CONDITIONS {
        out.push(FieldError::too_many(&conditions.path, conditions.len(), MAX_CONDITIONS));
    }
    crate::meta::validate_conditions(&conditions, out);
    if c.has("data") {
        raw_object(&c.field("data"), out);
    }
    let network = c.field("networkData");
    for (name, max) in [("interfaceName", MAX_INTERFACE_BYTES), ("hardwareAddress", MAX_HARDWARE_BYTES)] {
        if network.text_of(name).len() > max {
            out.push(FieldError::too_long(&network.field(name).path, max));
        }
    }
    let address = |value: &Value| value.as_str().unwrap_or("").to_owned();
    keyed_set(&network.field("ips"), MAX_IPS, out, address, |ip, out| {
        if crate::net::parse_cidr(ip.text()).is_none() {
            ip.invalid(out, "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)");
        }
    });
}

fn validate_allocation(c: &Cursor<'_>, requests: &Value, out: &mut Errors) {
    let devices = c.field("devices");
    items(&devices.field("results"), MAX_RESULTS, out, |result, out| {
        validate_reference(&result.field("request"), requests, out);
        validate_driver(&result.field("driver"), out);
        pool_name(&result.field("pool"), out);
        result.field("device").check(out, dns1123_label);
        validate_binding(result, out);
        result.field("tolerations").items().for_each(|toleration| validate_toleration(&toleration, out));
        if result.has("shareID") {
            uid(&result.field("shareID"), out);
        }
    });
    // Those of the class and those of the claim.
    items(&devices.field("config"), 2 * MAX_CONFIGS, out, |config, out| {
        config.field("source").one_of(out, &["FromClaim", "FromClass"]);
        validate_references(&config.field("requests"), requests, out);
        super::opaque(config, out);
    });
    let selector = c.field("nodeSelector");
    if selector.is_set() {
        validate_node_selector(&selector, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    fn claim(users: Value, devices: Value) -> Value {
        value!({"spec": {"devices": {"requests": [{"name": "r"}]}}, "status": {"reservedFor": (users),
            "allocation": {"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": "x"}]}},
            "devices": (devices)}})
    }

    #[test]
    fn uses_and_devices() {
        let user = || value!([{"resource": "pods", "name": "a", "uid": "1"}]);
        let errors = |new: &Value, old: &Value| {
            let mut out = Errors::new();
            validate(&Cursor::root(new), old, &mut out);
            out.len()
        };
        let good = claim(user(), value!([{"driver": "d", "pool": "p", "device": "x"}]));
        assert_eq!(errors(&good, &Value::Null), 0);
        assert_eq!(errors(&claim(user(), value!([{"driver": "d", "pool": "p", "device": "y"}])), &good), 1);
        let mut free = good.clone();
        free.remove_at("status.allocation");
        assert_eq!(errors(&free, &good), 2);
        drop_deallocated(&mut free, &good);
        assert!(free["status"]["devices"].is_null());
    }
}
