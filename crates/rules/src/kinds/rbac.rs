//! Roles and bindings.

use schema::Value;

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{BadValue, ErrorKind, Errors, FieldError, quote};
use crate::label_selector::{selector_matches, validate_label_selector};
use crate::names::{dns1123_subdomain, path_segment};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const ROLES: KindRules = KindRules {
    validate: |role, _, out| validate_rules(role, true, out),
    validate_update: |role, _, _, out| validate_rules(role, true, out),
    ..KindRules::NONE
};

pub(super) const CLUSTER_ROLES: KindRules = KindRules {
    validate: |role, _, out| validate_cluster_role(role, out),
    validate_update: |role, _, _, out| validate_cluster_role(role, out),
    ..KindRules::NONE
};

pub(super) const ROLE_BINDINGS: KindRules = KindRules {
    defaults: default_subjects,
    validate: |binding, _, out| validate_binding(binding, true, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        validate_binding(new, true, out);
        validate_same_role(new, old, out);
    },
    ..KindRules::NONE
};

pub(super) const CLUSTER_ROLE_BINDINGS: KindRules = KindRules {
    defaults: default_subjects,
    validate: |binding, _, out| validate_binding(binding, false, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        validate_binding(new, false, out);
        validate_same_role(new, old, out);
    },
    ..KindRules::NONE
};

/// Users and groups are of RBAC's own group, service accounts of the core group.
fn default_subjects(binding: &mut Value) {
    let Some(Value::List(subjects)) = binding.get_mut("subjects") else { return };
    for subject in subjects.iter_mut() {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) && subject["apiGroup"].is_zero() {
            subject.insert("apiGroup", GROUP);
        }
    }
}

fn validate_rules(role: &Cursor<'_>, namespaced: bool, out: &mut Errors) {
    for rule in role.field("rules").items() {
        if rule.field("verbs").is_empty() {
            rule.field("verbs").required(out, "verbs must contain at least one value");
        }
        let urls = rule.field("nonResourceURLs");
        if !urls.is_empty() {
            if namespaced {
                urls.invalid(out, "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !rule.field(f).is_empty()) {
                urls.invalid(out, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if rule.field("apiGroups").is_empty() {
            rule.field("apiGroups").required(out, "resource rules must supply at least one api group");
        }
        if rule.field("resources").is_empty() {
            rule.field("resources").required(out, "resource rules must supply at least one resource");
        }
    }
}

fn validate_cluster_role(role: &Cursor<'_>, out: &mut Errors) {
    validate_rules(role, false, out);
    let aggregation = role.field("aggregationRule");
    if !aggregation.is_set() {
        return;
    }
    let selectors = aggregation.field("clusterRoleSelectors");
    if selectors.is_empty() {
        selectors.required(out, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for selector in selectors.items() {
        validate_label_selector(&selector, out);
        if selector.is_set() && selector_matches(selector.value, None).is_none() {
            selector.invalid_as(out, BadValue::null(), "invalid label selector.");
        }
    }
}

/// `Unsupported value` with the choices in the order given.
pub(super) fn not_supported(c: &Cursor<'_>, choices: &[&str], out: &mut Errors) {
    let quoted: Vec<String> = choices.iter().map(|choice| quote(choice)).collect();
    let detail = format!("supported values: {}", quoted.join(", "));
    out.push(FieldError::new(ErrorKind::NotSupported, &c.path, c.text(), detail));
}

fn validate_binding(binding: &Cursor<'_>, namespaced: bool, out: &mut Errors) {
    let role = binding.field("roleRef");
    if role.text_of("apiGroup") != GROUP {
        not_supported(&role.field("apiGroup"), &[GROUP], out);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.text_of("kind")) {
        not_supported(&role.field("kind"), kinds, out);
    }
    role.field("name").required_name(out, path_segment);
    for subject in binding.field("subjects").items() {
        validate_subject(&subject, namespaced, out);
    }
}

fn validate_subject(subject: &Cursor<'_>, namespaced: bool, out: &mut Errors) {
    let (name, group) = (subject.field("name"), subject.field("apiGroup"));
    if name.text().is_empty() {
        name.required(out, "");
    }
    match subject.text_of("kind") {
        "ServiceAccount" => {
            if !name.text().is_empty() {
                name.check(out, dns1123_subdomain);
            }
            if !group.text().is_empty() {
                not_supported(&group, &[""], out);
            }
            if !namespaced && subject.text_of("namespace").is_empty() {
                subject.field("namespace").required(out, "");
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                not_supported(&group, &[GROUP], out);
            }
        }
        _ => not_supported(&subject.field("kind"), &["ServiceAccount", "User", "Group"], out),
    }
}

fn validate_same_role(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let role = new.field("roleRef");
    let before = &old["roleRef"];
    if ["apiGroup", "kind", "name"].iter().any(|f| role.text_of(f) != before[*f].as_str().unwrap_or("")) {
        let shown = format!(
            r#"{{"APIGroup":{},"Kind":{},"Name":{}}}"#,
            quote(role.text_of("apiGroup")),
            quote(role.text_of("kind")),
            quote(role.text_of("name")),
        );
        role.invalid_as(out, BadValue::raw(shown), "cannot change roleRef");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn subjects_get_their_group() {
        let mut binding =
            value!({"subjects": [{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "name": "b"}]});
        default_subjects(&mut binding);
        assert_eq!(binding["subjects"][0]["apiGroup"].as_str(), Some(GROUP));
        assert!(binding["subjects"][1]["apiGroup"].is_null());
    }

    #[test]
    fn bindings() {
        for (binding, errors) in [
            (
                value!({"roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
                    "subjects": [{"kind": "ServiceAccount", "name": "s"}]}),
                "[]",
            ),
            (
                value!({"roleRef": {"apiGroup": GROUP, "kind": "X", "name": "a/b"}}),
                "[roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\", \
                 roleRef.name: Invalid value: \"a/b\": may not contain '/']",
            ),
        ] {
            let mut out = Errors::new();
            validate_binding(&Cursor::root(&binding), true, &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
