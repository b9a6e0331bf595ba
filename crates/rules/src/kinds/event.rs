//! Events.

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::Errors;
use crate::names::{dns1123_subdomain, qualified_name};

const MAX_WORD: usize = 128;
const MAX_MESSAGE: usize = 1024;

/// Events of the core group, checked as any kind of event is; those of `events.k8s.io` are the same objects in other words.
pub(super) const RULES: KindRules = KindRules {
    validate: |event, _, out| validate(event, out),
    validate_update: |new, _: &Value, _: &Write<'_>, out| validate(new, out),
    ..KindRules::NONE
};

fn validate(event: &Cursor<'_>, out: &mut Errors) {
    let namespace = event.value.str_at("metadata.namespace").unwrap_or("");
    let involved = event.field("involvedObject");
    let of = involved.field("namespace");
    let modern = !event.field("eventTime").is_empty();
    let agrees = match (modern, of.text().is_empty()) {
        (false, true) => matches!(namespace, "" | "default"),
        (false, false) => of.text() == namespace,
        (true, true) => matches!(namespace, "default" | "kube-system"),
        (true, false) => true,
    };
    if !agrees {
        of.invalid_as(out, of.text(), "does not match event.namespace");
    }
    if modern {
        let controller = event.field("reportingComponent");
        if controller.text().is_empty() {
            controller.required(out, "");
        }
        controller.check(out, qualified_name);
        for name in ["reportingInstance", "action", "reason"] {
            let word = event.field(name);
            if word.text().is_empty() {
                word.required(out, "");
            }
            if word.text().len() > MAX_WORD {
                word.invalid_as(out, "", format!("can have at most {MAX_WORD} characters"));
            }
        }
        if event.text_of("message").len() > MAX_MESSAGE {
            event.field("message").invalid_as(out, "", format!("can have at most {MAX_MESSAGE} characters"));
        }
    }
    dns1123_subdomain(namespace)
        .into_iter()
        .for_each(|m| event.field("namespace").invalid_as(out, namespace, m));
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn namespaces_agree() {
        for (event, valid) in [
            (value!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}), true),
            (value!({"metadata": {"namespace": "default"}, "involvedObject": {}}), true),
            (value!({"metadata": {"namespace": "a"}, "involvedObject": {}}), false),
            (value!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}), false),
        ] {
            let mut out = Errors::new();
            validate(&Cursor::root(&event), &mut out);
            assert_eq!(out.is_empty(), valid, "{event:?}");
        }
    }
}
