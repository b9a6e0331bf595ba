//! API services of aggregated servers.

use schema::{Value, value};

use super::{KindRules, Write};
use crate::field::Errors;
use crate::names::{dns1035_label, dns1123_subdomain, path_segment, port_number};
use crate::{Cursor, quote};

const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1000;

pub(super) const RULES: KindRules = KindRules {
    prepare_create: |service, write| {
        if service["spec"]["service"].is_null() {
            service.insert(
                "status",
                value!({"conditions": [{"type": "Available", "status": "True",
                "reason": "Local", "message": "Local APIServices are always available",
                "lastTransitionTime": (write.now)}]}),
            );
        }
    },
    validate: |service, _, out| validate(service, out),
    validate_update: |new, _: &Value, write: &Write<'_>, out| {
        if write.subresource.is_empty() {
            validate(new, out);
        }
    },
    ..KindRules::NONE
};

fn validate(object: &Cursor<'_>, out: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    let (group, version) = (spec.field("group"), spec.field("version"));
    let name = metadata.field("name");
    let wanted = format!("{}.{}", version.text(), group.text());
    let messages = path_segment(name.text());
    if !messages.is_empty() {
        name.each(out, messages);
    } else if name.text() != wanted && !name.text().is_empty() {
        name.invalid(out, format!("must be `spec.version+\".\"+spec.group`: {}", quote(&wanted)));
    }
    if !group.text().is_empty() {
        group.check(out, dns1123_subdomain);
    } else if version.text() != "v1" {
        group.required(out, "only v1 may have an empty group and it better be legacy kube");
    }
    version.check(out, dns1035_label);
    for (field, max) in
        [("groupPriorityMinimum", MAX_GROUP_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY)]
    {
        let priority = spec.field(field);
        if priority.int() <= 0 || priority.int() > max {
            priority.invalid_as(out, priority.int(), format!("must be positive and less than {max}"));
        }
    }
    let (service, bundle, insecure) =
        (spec.field("service"), spec.field("caBundle"), spec.field("insecureSkipTLSVerify"));
    if !service.is_set() {
        if !bundle.is_empty() {
            let bytes = super::config::decode(bundle.text()).map_or(0, |b| b.len());
            let shown = format!("{bytes} bytes");
            bundle.invalid_as(out, shown.as_str(), "local APIServices may not have a caBundle");
        }
        if insecure.bool() {
            insecure.invalid(out, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    for field in ["namespace", "name"] {
        if service.text_of(field).is_empty() {
            service.field(field).required(out, "");
        }
    }
    let port = service.field("port");
    if port.is_set() {
        for message in port_number(port.int()) {
            port.invalid(out, format!("port is not valid: {message}"));
        }
    }
    if insecure.bool() && !bundle.is_empty() {
        insecure.invalid(out, "may not be true if caBundle is present");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_version_and_group() {
        for (name, valid) in [("v1.a.b", true), ("v2.a.b", false)] {
            let service = value!({"metadata": {"name": name}, "spec": {"group": "a.b", "version": "v1",
                "groupPriorityMinimum": 1, "versionPriority": 1}});
            let mut out = Errors::new();
            validate(&Cursor::root(&service), &mut out);
            assert_eq!(out.is_empty(), valid, "{name}: {out:?}");
        }
    }
}
