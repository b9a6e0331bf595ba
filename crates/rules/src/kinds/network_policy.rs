//! Network policies, IP addresses and ranges of service addresses.

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{BadValue, Errors, quote};
use crate::label_selector::validate_label_selector;
use crate::meta::IMMUTABLE;
use crate::names::{dns1123_subdomain, path_segment, port_name, port_number};
use crate::net::{cidr, network_of, parse_cidr};

pub(super) const POLICIES: KindRules = KindRules {
    defaults: |policy| {
        let egress = !policy["spec"]["egress"].is_zero();
        if let Some(spec) = policy.get_mut("spec")
            && spec["policyTypes"].is_zero()
        {
            spec.insert("policyTypes", if egress { vec!["Ingress", "Egress"] } else { vec!["Ingress"] });
        }
    },
    validate: |policy, _, out| validate_policy(policy, out),
    validate_update: |policy, _: &Value, _: &Write<'_>, out| validate_policy(policy, out),
    ..KindRules::NONE
};

fn validate_policy(policy: &Cursor<'_>, out: &mut Errors) {
    let spec = policy.field("spec");
    validate_label_selector(&spec.field("podSelector"), out);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(rules).items() {
            rule.field("ports").items().for_each(|port| validate_port(&port, out));
            rule.field(peers).items().for_each(|peer| validate_peer(&peer, out));
        }
    }
    let types = spec.field("policyTypes");
    if types.len() > 2 {
        return types.invalid(out, "may not specify more than two policyTypes");
    }
    types.items().for_each(|kind| kind.among(out, &["Egress", "Ingress"]));
}

fn validate_port(c: &Cursor<'_>, out: &mut Errors) {
    if c.has("protocol") {
        c.field("protocol").among(out, &["SCTP", "TCP", "UDP"]);
    }
    let (port, end) = (c.field("port"), c.field("endPort"));
    if !port.is_set() {
        if end.is_set() {
            end.invalid(out, "may not be specified when `port` is not specified");
        }
        return;
    }
    match port.as_int() {
        Some(number) => {
            port.each(out, port_number(number));
            if end.is_set() {
                if end.int() < number {
                    end.invalid(out, "must be greater than or equal to `port`");
                }
                end.each(out, port_number(end.int()));
            }
        }
        None => {
            if end.is_set() {
                end.invalid(out, "may not be specified when `port` is non-numeric");
            }
            port.check(out, port_name);
        }
    }
}

fn validate_peer(c: &Cursor<'_>, out: &mut Errors) {
    let mut peers = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if c.has(name) {
            peers += 1;
            validate_label_selector(&c.field(name), out);
        }
    }
    let block = c.field("ipBlock");
    if block.is_set() {
        peers += 1;
        validate_block(&block, out);
    }
    if peers == 0 {
        c.required(out, "must specify a peer");
    } else if peers > 1 && block.is_set() {
        c.forbidden(out, "may not specify both ipBlock and another peer");
    }
}

fn validate_block(c: &Cursor<'_>, out: &mut Errors) {
    let range = c.field("cidr");
    if range.text().is_empty() {
        return range.required(out, "");
    }
    range.check(out, cidr);
    let Some((network, bits)) = parse_cidr(range.text()) else { return };
    for except in c.field("except").items() {
        except.check(out, cidr);
        let Some((ip, inner)) = parse_cidr(except.text()) else { continue };
        let within = ip.is_ipv4() == network.is_ipv4() && network_of(ip, bits) == network_of(network, bits);
        if !within || bits >= inner {
            except.invalid(out, "must be a strict subset of `cidr`");
        }
    }
}

pub(super) const ADDRESSES: KindRules = KindRules {
    validate: |address, _, out| validate_address(address, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        let spec = new.field("spec");
        let parent = spec.field("parentRef");
        validate_address(new, out);
        if parent.value != &old["spec"]["parentRef"] {
            let text = |name: &str| quote(parent.text_of(name));
            let shown = format!(
                r#"{{"Group":{},"Resource":{},"Namespace":{},"Name":{}}}"#,
                text("group"),
                text("resource"),
                text("namespace"),
                text("name")
            );
            let shown = if parent.is_set() { BadValue::raw(shown) } else { BadValue::null() };
            parent.invalid_as(out, shown, IMMUTABLE);
        }
    },
    ..KindRules::NONE
};

fn validate_address(address: &Cursor<'_>, out: &mut Errors) {
    let spec = address.field("spec");
    let parent = spec.field("parentRef");
    if !parent.is_set() {
        return parent.required(out, "");
    }
    if !parent.text_of("group").is_empty() {
        parent.field("group").check(out, dns1123_subdomain);
    }
    parent.field("resource").required_name(out, path_segment);
    parent.field("name").required_name(out, path_segment);
    if !parent.text_of("namespace").is_empty() {
        parent.field("namespace").check(out, path_segment);
    }
}

pub(super) const RANGES: KindRules = KindRules {
    validate: |range, _, out| {
        let spec = range.field("spec");
        let ranges = spec.field("cidrs");
        match ranges.len() {
            0 => ranges.required(out, "at least one CIDR must be specified"),
            1 => {}
            len => {
                let families: Vec<bool> =
                    ranges.items().filter_map(|r| parse_cidr(r.text())).map(|(ip, _)| ip.is_ipv4()).collect();
                if len > 2 {
                    ranges.invalid(out, "may only hold up to 2 values");
                } else if families.len() == 2 && families[0] == families[1] {
                    ranges.invalid(out, "may specify no more than one IP for each IP family");
                }
            }
        }
        for item in ranges.items() {
            item.check(out, cidr);
            if let Some((ip, bits)) = parse_cidr(item.text())
                && network_of(ip, bits) != ip
            {
                item.invalid(out, "must not have bits set beyond the prefix length");
            }
        }
    },
    validate_update: |new, old, write: &Write<'_>, out| {
        if write.subresource.is_empty() {
            let spec = new.field("spec");
            let (ranges, before) = (spec.field("cidrs"), old["spec"]["cidrs"].items());
            // A second family may be added to the first.
            let extended = before.len() == 1 && ranges.len() == 2 && ranges.value.items()[0] == before[0];
            if !extended {
                ranges.immutable(out, &old["spec"]["cidrs"]);
            }
        }
    },
    ..KindRules::NONE
};

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn policy_types_follow_the_rules() {
        for (mut policy, types) in [
            (value!({"spec": {}}), value!(["Ingress"])),
            (value!({"spec": {"egress": [{}]}}), value!(["Ingress", "Egress"])),
            (value!({"spec": {"policyTypes": ["Egress"]}}), value!(["Egress"])),
        ] {
            (POLICIES.defaults)(&mut policy);
            assert_eq!(policy["spec"]["policyTypes"], types);
        }
    }

    #[test]
    fn blocks() {
        for (block, valid) in [
            (value!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}), true),
            (value!({"cidr": "10.0.0.0/8", "except": ["11.1.0.0/16"]}), false),
            (value!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}), false),
        ] {
            let mut out = Errors::new();
            validate_block(&Cursor::root(&block), &mut out);
            assert_eq!(out.is_empty(), valid, "{block:?}");
        }
    }
}
