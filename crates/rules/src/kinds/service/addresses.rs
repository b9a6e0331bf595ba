//! Cluster addresses of services and their families.

use std::net::IpAddr;

use schema::Value;

use super::{FIXED, is_headless, kind};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::net::{ip, is_dual_stack};

/// What is wrong with the addresses that a service asks for, told before any is given out.
pub fn service_address_errors(service: &Value) -> Errors {
    let mut out = Errors::new();
    if kind(service) != "ExternalName" {
        validate_cluster_ips(&Cursor::root(service).field("spec"), is_headless(service), &mut out);
    }
    out
}

/// `ValidateServiceClusterIPsRelatedFields`.
pub(super) fn validate_cluster_ips(spec: &Cursor<'_>, headless: bool, out: &mut Errors) {
    let (first, ips) = (spec.text_of("clusterIP"), spec.field("clusterIPs"));
    let texts: Vec<&str> = ips.value.items().iter().filter_map(Value::as_str).collect();
    match (first.is_empty(), texts.first()) {
        (false, None) => ips.required(out, ""),
        (false, Some(listed)) if *listed != first => ips.invalid(out, "first value must match `clusterIP`"),
        (true, Some(_)) => ips.invalid(out, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let families = spec.field("ipFamilies");
    for (i, family) in families.items().enumerate() {
        family.among(out, &["IPv4", "IPv6"]);
        if families.value.items()[..i].contains(family.value) {
            family.duplicate(out);
        }
    }
    if spec.has("ipFamilyPolicy") {
        spec.field("ipFamilyPolicy").among(out, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let mut wrong = false;
    for (i, address) in ips.items().enumerate() {
        if i == 0 && address.text() == "None" {
            if texts.len() > 1 {
                wrong = true;
                ips.invalid(out, "'None' must be the first and only value");
            }
            continue;
        }
        let messages = ip(address.text());
        wrong |= !messages.is_empty();
        address.each(out, messages);
    }
    if texts.len() > 2 {
        ips.invalid(out, "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    if texts.len() > 1 && !is_dual_stack(&texts) {
        ips.invalid(out, "may specify no more than one IP for each IP family");
    }
    if headless {
        return;
    }
    for (i, (address, family)) in ips.items().zip(families.value.items()).enumerate() {
        let wanted = family.as_str().unwrap_or("");
        let is_v6 = address.text().parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        if (wanted == "IPv4" && is_v6) || (wanted == "IPv6" && !is_v6) {
            address.invalid(out, format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`"));
        }
    }
}

pub(super) fn validate_cluster_ip_change(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    if kind(new.value) == "ExternalName"
        || kind(old) == "ExternalName"
        || (is_headless(new.value) && is_headless(old))
    {
        return;
    }
    let spec = new.field("spec");
    let ips = spec.field("clusterIPs");
    let (now, was) = (ips.value.items(), old["spec"]["clusterIPs"].items());
    let at = |i: usize, message: &str, out: &mut Errors| {
        out.push(FieldError::invalid(&ips.path.index(i), ips.value, message));
    };
    if now.len() == was.len() {
        for i in (0..was.len()).filter(|i| was[*i] != now[*i]) {
            at(i, FIXED, out);
        }
        return;
    }
    if now.is_empty() {
        at(0, "primary clusterIP can not be unset", out);
    } else if !was.is_empty() && now[0] != was[0] {
        at(0, FIXED, out);
    }
    let policy = spec.field("ipFamilyPolicy");
    if was.len() > now.len() && now.len() == 1 && policy.text() != "SingleStack" {
        policy.invalid(out, "must be set to 'SingleStack' when releasing the secondary clusterIP");
    }
}

pub(super) fn validate_family_change(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let headless = (is_headless(new.value), is_headless(old));
    if kind(new.value) == "ExternalName" || kind(old) == "ExternalName" || headless != (false, false) {
        return;
    }
    let spec = new.field("spec");
    let families = spec.field("ipFamilies");
    let (now, was) = (families.value.items(), old["spec"]["ipFamilies"].items());
    let first = |message: &str, out: &mut Errors| {
        out.push(FieldError::invalid(&families.path.index(0), families.value, message));
    };
    if now.len() == was.len() {
        was.iter().zip(now).filter(|(a, b)| a != b).for_each(|_| first(FIXED, out));
        return;
    }
    if was.len() > now.len() && spec.field("clusterIPs").is_empty() {
        first("primary ipFamily can not be unset", out);
    }
    if !now.is_empty() && !was.is_empty() && now[0] != was[0] {
        first(FIXED, out);
    }
    let policy = spec.field("ipFamilyPolicy");
    if was.len() > now.len() && now.len() == 1 && policy.text() != "SingleStack" {
        policy.invalid(out, "must be set to 'SingleStack' when releasing the secondary ipFamily");
    }
}
