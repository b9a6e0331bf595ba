//! Endpoints and EndpointSlices.

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{dns1123_label, dns1123_subdomain, label_value, port_number, qualified_name};
use crate::net::{ip, not_special};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_ENDPOINTS: usize = 1000;
const MAX_ZONE_HINTS: usize = 8;
const MAX_NODE_HINTS: usize = 8;
const MAX_TOPOLOGY: usize = 16;

pub(super) const ENDPOINTS: KindRules = KindRules {
    validate: |endpoints, _, out| validate_endpoints(endpoints, out),
    validate_update: |endpoints, _, _, out| validate_endpoints(endpoints, out),
    ..KindRules::NONE
};

pub(super) const SLICES: KindRules = KindRules {
    validate: |slice, _, out| validate_slice(slice, out),
    validate_update: validate_slice_update,
    ..KindRules::NONE
};

fn validate_endpoints(endpoints: &Cursor<'_>, out: &mut Errors) {
    for subset in endpoints.field("subsets").items() {
        let (ready, not_ready) = (subset.field("addresses"), subset.field("notReadyAddresses"));
        if ready.is_empty() && not_ready.is_empty() {
            subset.required(out, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(not_ready.items()) {
            let text = address.field("ip");
            text.check(out, ip);
            if !address.text_of("hostname").is_empty() {
                address.field("hostname").check(out, dns1123_label);
            }
            if address.has("nodeName") {
                address.field("nodeName").check(out, dns1123_subdomain);
            }
            match text.text() {
                "" => text.invalid_as(out, "", "must be a valid IP address"),
                _ => not_special(&text, out),
            }
        }
        let ports = subset.field("ports");
        for port in ports.items() {
            let name = port.field("name");
            match name.text() {
                "" if ports.len() > 1 => name.required(out, ""),
                "" => {}
                _ => name.check(out, dns1123_label),
            }
            let number = port.field("port");
            port_number(number.int()).into_iter().for_each(|m| number.invalid_as(out, number.int(), m));
            port.field("protocol").one_of(out, &PROTOCOLS);
            if port.has("appProtocol") {
                port.field("appProtocol").check(out, qualified_name);
            }
        }
    }
}

fn validate_slice_update(new: &Cursor<'_>, old: &Value, _: &Write<'_>, out: &mut Errors) {
    validate_slice(new, out);
    new.field("addressType").immutable(out, &old["addressType"]);
}

fn validate_slice(slice: &Cursor<'_>, out: &mut Errors) {
    let kind = slice.field("addressType");
    match kind.text() {
        "" => kind.required(out, ""),
        _ => kind.among(out, &["FQDN", "IPv4", "IPv6"]),
    }
    let endpoints = slice.field("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        out.push(FieldError::too_many(&endpoints.path, endpoints.len(), MAX_ENDPOINTS));
    } else {
        endpoints.items().for_each(|endpoint| validate_endpoint(&endpoint, kind.text(), out));
    }
    validate_slice_ports(&slice.field("ports"), out);
}

fn validate_endpoint(c: &Cursor<'_>, kind: &str, out: &mut Errors) {
    let addresses = c.field("addresses");
    match addresses.len() {
        0 => addresses.required(out, "must contain at least 1 address"),
        len if len > MAX_ADDRESSES => {
            out.push(FieldError::too_many(&addresses.path, len, MAX_ADDRESSES));
        }
        _ => {}
    }
    for address in addresses.items() {
        match kind {
            "IPv4" | "IPv6" => {
                let (valid, words) = match kind {
                    "IPv4" => {
                        (address.text().parse::<std::net::Ipv4Addr>().is_ok(), "must be an IPv4 address")
                    }
                    _ => (address.text().parse::<std::net::Ipv6Addr>().is_ok(), "must be an IPv6 address"),
                };
                let messages = ip(address.text());
                match (messages.is_empty(), valid) {
                    (false, _) => address.each(out, messages),
                    (true, false) => address.invalid(out, words),
                    (true, true) => {}
                }
                not_special(&address, out);
            }
            "FQDN" => address.check(out, crate::names::fully_qualified_domain_name),
            _ => {}
        }
    }
    if c.has("nodeName") {
        c.field("nodeName").check(out, dns1123_subdomain);
    }
    let topology = c.field("deprecatedTopology");
    if topology.len() > MAX_TOPOLOGY {
        out.push(FieldError::too_many(&topology.path, topology.len(), MAX_TOPOLOGY));
    }
    if c.has("hostname") {
        c.field("hostname").check(out, dns1123_label);
    }
    let hints = c.field("hints");
    for (list, max) in [("forZones", MAX_ZONE_HINTS), ("forNodes", MAX_NODE_HINTS)] {
        let hints = hints.field(list);
        if hints.len() > max {
            out.push(FieldError::too_many(&hints.path, hints.len(), max));
            continue;
        }
        for (i, hint) in hints.items().enumerate() {
            let name = hint.field("name");
            if hints.value.items()[..i].iter().any(|h| h["name"] == *name.value) {
                name.duplicate(out);
            }
            match list {
                "forZones" => name.check(out, label_value),
                _ => name.check(out, dns1123_subdomain),
            }
        }
    }
}

fn validate_slice_ports(ports: &Cursor<'_>, out: &mut Errors) {
    if ports.len() > MAX_PORTS {
        return out.push(FieldError::too_many(&ports.path, ports.len(), MAX_PORTS));
    }
    for (i, port) in ports.items().enumerate() {
        let name = port.field("name");
        if !name.text().is_empty() {
            name.check(out, dns1123_label);
        }
        if ports.value.items()[..i].iter().any(|p| p["name"] == *name.value) {
            name.duplicate(out);
        }
        match port.has("protocol") {
            false => port.field("protocol").required(out, ""),
            true => port.field("protocol").among(out, &PROTOCOLS),
        }
        let number = port.field("port");
        if number.is_set() {
            number.each(out, port_number(number.int()));
        }
        if port.has("appProtocol") {
            port.field("appProtocol").check(out, qualified_name);
        }
    }
}
