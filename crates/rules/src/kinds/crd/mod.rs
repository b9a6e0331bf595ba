//! CustomResourceDefinitions (`pkg/apis/apiextensions/validation`, structural schemas and the compilation of rules included).

mod openapi;
mod parts;
mod rules;
mod structural;

use schema::{Value, value};

use super::KindRules;
use super::webhook::validate_client;
use crate::field::{BadValue, Errors, FieldError, json};
use crate::names::{Messages, dns1035_label, dns1123_subdomain, mask_trailing_dash};
use crate::{Cursor, Path, quote};

const APPROVED: &str = "api-approved.kubernetes.io";
const APPROVAL_RULES: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
const MAX_WARNING_BYTES: usize = 256;
/// Versions of `ConversionReview` that the server can send.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) const RULES: KindRules = KindRules {
    defaults,
    prepare_create: |definition, _| {
        // What Go writes of an empty status.
        definition
            .insert("status", value!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}}));
        add_stored_version(definition);
    },
    prepare_update: |new, _, write| {
        if write.subresource.is_empty() {
            add_stored_version(new);
        }
    },
    validate: |definition, _, out| {
        validate_name(definition, out);
        validate_spec(&definition.field("spec"), out);
        validate_status(definition, out);
        validate_stored_versions(definition, out);
        validate_approval(definition, None, out);
        validate_unknown_fields(definition, None, out);
    },
    validate_update: |new, old, write, out| match write.subresource {
        "status" => validate_status(new, out),
        _ => validate_update(new, old, out),
    },
    ..KindRules::NONE
};

fn defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec") else { return };
    if spec["conversion"].is_null() {
        spec.insert("conversion", value!({"strategy": "None"}));
    }
    let kind = spec["names"]["kind"].as_str().unwrap_or("").to_owned();
    let names = spec.make_map().entry_map("names");
    if names.get_str("singular").is_none_or(str::is_empty) {
        names.insert("singular", kind.to_lowercase());
    }
    if names.get_str("listKind").is_none_or(str::is_empty) && !kind.is_empty() {
        names.insert("listKind", format!("{kind}List"));
    }
}

/// The storage version is among the stored ones from the start.
fn add_stored_version(definition: &mut Value) {
    let storage =
        definition["spec"]["versions"].items().iter().find(|v| v["storage"].as_bool() == Some(true));
    let Some(name) = storage.and_then(|v| v["name"].as_smol()).cloned() else { return };
    let stored = definition.make_map().entry_map("status").entry_list("storedVersions");
    if !stored.iter().any(|v| v.as_smol() == Some(&name)) {
        stored.push(Value::from(name));
    }
}

/// A rule's `fieldPath` as errors print it, if it leads somewhere in the schema.
pub(crate) fn normalized_path(path: &str, schema: &Value) -> Option<String> {
    let (names, _) = parts::find(path, schema, true).ok()?;
    Some(names.join("."))
}

/// All messages in one error, as this API has them.
fn joined(c: &Cursor<'_>, prefix: &str, messages: &Messages, out: &mut Errors) {
    if !messages.is_empty() {
        c.invalid_as(out, c.text(), format!("{prefix}{}", messages.join(",")));
    }
}

fn validate_name(definition: &Cursor<'_>, out: &mut Errors) {
    let (metadata, spec) = (definition.field("metadata"), definition.field("spec"));
    let wanted = format!("{}.{}", spec.field("names").text_of("plural"), spec.text_of("group"));
    for field in ["generateName", "name"] {
        let c = metadata.field(field);
        if c.text().is_empty() {
            continue;
        }
        let syntax = match field {
            "name" => dns1123_subdomain(c.text()),
            _ => dns1123_subdomain(&mask_trailing_dash(c.text())),
        };
        c.each(out, syntax);
        if c.text() != wanted {
            c.invalid(out, "must be spec.names.plural+\".\"+spec.group");
        }
    }
}

/// A part of all versions that upstream lifts out of them when it is the same in each: its path is then another.
fn is_shared(spec: &Cursor<'_>, part: &str) -> bool {
    let versions = spec.value["versions"].items();
    versions.windows(2).all(|pair| pair[0][part] == pair[1][part])
}

fn validate_spec(spec: &Cursor<'_>, out: &mut Errors) {
    let group = spec.field("group");
    let syntax = dns1123_subdomain(group.text());
    if group.text().is_empty() {
        group.required(out, "");
    } else if !syntax.is_empty() {
        joined(&group, "", &syntax, out);
    } else if !group.text().contains('.') {
        group.invalid(out, "should be a domain with at least one dot");
    }
    spec.field("scope").one_of(out, &["Cluster", "Namespaced"]);
    validate_versions(spec, out);
    let names = spec.field("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if names.text_of(field).is_empty() {
            names.field(field).required(out, "");
        }
    }
    validate_names(&names, out);
    validate_shared_parts(spec, out);
    validate_conversion(&spec.field("conversion"), out);
}

/// The versions as errors show them: by the names and in the order of upstream's internal type, where what is the same in all
/// stands above them.
fn shown_versions(spec: &Cursor<'_>, versions: &Value) -> BadValue {
    const PARTS: [(&str, &str); 4] = [
        ("Schema", "schema"),
        ("Subresources", "subresources"),
        ("AdditionalPrinterColumns", "additionalPrinterColumns"),
        ("SelectableFields", "selectableFields"),
    ];
    let one = |version: &Value| {
        let truth = |name: &str| version[name].as_bool() == Some(true);
        let mut text = format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{}",
            json(&version["name"]),
            truth("served"),
            truth("storage"),
            truth("deprecated"),
            json(&version["deprecationWarning"])
        );
        for (go, name) in PARTS {
            let value = if is_shared(spec, name) { &Value::Null } else { &version[name] };
            text.push_str(&format!(",\"{go}\":{}", json(value)));
        }
        text + "}"
    };
    if versions.items().is_empty() {
        return BadValue::null();
    }
    let all: Vec<String> = versions.items().iter().map(one).collect();
    BadValue::raw(format!("[{}]", all.join(",")))
}

fn validate_versions(spec: &Cursor<'_>, out: &mut Errors) {
    let versions = spec.field("versions");
    let [schema, subresources, columns, selectable] =
        ["schema", "subresources", "additionalPrinterColumns", "selectableFields"]
            .map(|p| is_shared(spec, p));
    for (i, version) in versions.items().enumerate() {
        if !(version.has("schema") && version.field("schema").has("openAPIV3Schema")) {
            let path = version.path.child("schema.openAPIV3Schema");
            out.push(FieldError::required(&path, ""));
        }
        joined(&version.field("name"), "", &dns1035_label(version.text_of("name")), out);
        validate_deprecation(&version, out);
        if !schema {
            openapi::validate_schema(&version.field("schema"), has_status(&version), out);
        }
        if !subresources {
            parts::validate_subresources(&version.field("subresources"), out);
        }
        if !columns {
            parts::validate_columns(&version.field("additionalPrinterColumns"), out);
        }
        if !selectable {
            parts::validate_selectable(&version.field("selectableFields"), &version.value["schema"], out);
        }
        let before = versions.value.items().iter().take(i);
        if before.into_iter().any(|v| v["name"] == version.value["name"]) {
            versions.invalid(out, "must contain unique version names");
        }
    }
    let stored = versions.value.items().iter().filter(|v| v["storage"].as_bool() == Some(true)).count();
    if stored != 1 {
        let shown = shown_versions(spec, versions.value);
        versions.invalid_as(out, shown, "must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.value.items().first() {
        let version = Cursor::new(&first["name"], spec.path.child("version"));
        if !version.text().is_empty() {
            joined(&version, "", &dns1035_label(version.text()), out);
        }
    }
}

fn has_status(version: &Cursor<'_>) -> bool {
    !version.value["subresources"]["status"].is_null()
}

/// What all versions have in common stands above them for upstream.
fn validate_shared_parts(spec: &Cursor<'_>, out: &mut Errors) {
    let versions = spec.field("versions");
    let first = versions.index(0);
    if is_shared(spec, "schema") {
        let status = versions.items().any(|version| has_status(&version));
        openapi::validate_schema(&first.field("schema").at(spec.path.child("validation")), status, out);
    }
    for (part, check) in [
        ("subresources", parts::validate_subresources as fn(&Cursor<'_>, &mut Errors)),
        ("additionalPrinterColumns", parts::validate_columns),
    ] {
        if is_shared(spec, part) {
            check(&first.field(part).at(spec.path.child(part)), out);
        }
    }
    if is_shared(spec, "selectableFields") {
        let fields = first.field("selectableFields");
        parts::validate_selectable(
            &fields.at(spec.path.child("selectableFields")),
            &first.value["schema"],
            out,
        );
    }
}

fn validate_deprecation(version: &Cursor<'_>, out: &mut Errors) {
    let warning = version.field("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.bool_of("deprecated") {
        warning.invalid(out, "can only be set for deprecated versions");
    }
    let text = warning.text();
    if text.len() > MAX_WARNING_BYTES {
        warning.invalid(out, format!("must be <= {MAX_WARNING_BYTES} characters long"));
    }
    if text.is_empty() {
        warning.invalid(out, "must not be an empty string");
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        );
        warning.invalid(out, detail);
    }
}

/// Names of a spec, or those that were accepted.
fn validate_names(names: &Cursor<'_>, out: &mut Errors) {
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    for field in ["plural", "singular"] {
        let c = names.field(field);
        if !c.text().is_empty() {
            joined(&c, "", &dns1035_label(c.text()), out);
        }
    }
    for field in ["kind", "listKind"] {
        let c = names.field(field);
        if !c.text().is_empty() {
            joined(&c, MIXED, &dns1035_label(&c.text().to_lowercase()), out);
        }
    }
    for list in ["shortNames", "categories"] {
        names.field(list).items().for_each(|c| joined(&c, "", &dns1035_label(c.text()), out));
    }
    let kind = names.text_of("kind");
    if !kind.is_empty() && kind == names.text_of("listKind") {
        names.field("listKind").invalid(out, "kind and listKind may not be the same");
    }
}

/// Upstream checks its older, flat form.
fn validate_conversion(conversion: &Cursor<'_>, out: &mut Errors) {
    conversion.field("strategy").one_of(out, &["None", "Webhook"]);
    let webhook = conversion.field("webhook");
    let (client, versions) = (webhook.field("clientConfig"), webhook.field("conversionReviewVersions"));
    let client = client.at(conversion.path.child("webhookClientConfig"));
    let versions = versions.at(conversion.path.child("conversionReviewVersions"));
    if conversion.text_of("strategy") != "Webhook" {
        const ELSEWHERE: &str = "should not be set when strategy is not set to Webhook";
        if client.is_set() {
            client.forbidden(out, ELSEWHERE);
        }
        if !versions.is_empty() {
            versions.forbidden(out, ELSEWHERE);
        }
        return;
    }
    match client.is_set() {
        true => validate_client(&client, "exactly one of url or service is required", out),
        false => client.required(out, "required when strategy is set to Webhook"),
    }
    if versions.is_empty() {
        return versions.required(out, "");
    }
    for (i, version) in versions.items().enumerate() {
        match versions.value.items()[..i].contains(version.value) {
            true => version.invalid(out, "duplicate version"),
            false => version.check(out, dns1035_label),
        }
    }
    if !versions.items().any(|version| REVIEW_VERSIONS.contains(&version.text())) {
        versions.invalid(out, format!("must include at least one of {}", REVIEW_VERSIONS.join(", ")));
    }
}

fn validate_status(definition: &Cursor<'_>, out: &mut Errors) {
    let status = definition.field("status");
    validate_names(&status.field("acceptedNames"), out);
}

fn validate_stored_versions(definition: &Cursor<'_>, out: &mut Errors) {
    let status = definition.field("status");
    let stored = status.field("storedVersions");
    if stored.is_empty() {
        return stored.invalid(out, "must have at least one stored version");
    }
    let versions = definition.value["spec"]["versions"].items();
    for version in versions.iter().filter(|v| v["storage"].as_bool() == Some(true)) {
        if !stored.value.items().contains(&version["name"]) {
            let name = version["name"].as_str().unwrap_or("");
            stored.invalid_as(out, version, format!("must have the storage version {name}"));
        }
    }
    for name in stored.items() {
        if !versions.iter().any(|version| &version["name"] == name.value) {
            name.invalid(out, "must appear in spec.versions");
        }
    }
}

#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Invalid,
    Fine,
}

fn approval(object: &Value) -> Approval {
    let text = object["metadata"]["annotations"].get(APPROVED).and_then(Value::as_str).unwrap_or("");
    let url = || {
        text.split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'))
    };
    match text {
        "" => Approval::Missing,
        _ if text.starts_with("unapproved") || url() => Approval::Fine,
        _ => Approval::Invalid,
    }
}

/// Groups of the project need a word that its API reviewers have seen them.
fn validate_approval(new: &Cursor<'_>, old: Option<&Value>, out: &mut Errors) {
    let group = new.value["spec"]["group"].as_str().unwrap_or("");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|g| g.ends_with('.')));
    let state = approval(new.value);
    if !protected || old.is_some_and(|old| approval(old) == state) {
        return;
    }
    let annotations = Path::new("metadata.annotations");
    let path = annotations.key(APPROVED);
    match state {
        Approval::Fine => {}
        Approval::Missing => out.push(FieldError::required(
            &path,
            format!("protected groups must have approval annotation {}, {APPROVAL_RULES}", quote(APPROVED)),
        )),
        Approval::Invalid => out.push(FieldError::invalid(
            &path,
            new.value["metadata"]["annotations"].get(APPROVED),
            format!(
                "protected groups must have approval annotation {} with either a URL or a reason starting with \
                 \"unapproved\", {APPROVAL_RULES}",
                quote(APPROVED)
            ),
        )),
    }
}

fn validate_unknown_fields(new: &Cursor<'_>, old: Option<&Value>, out: &mut Errors) {
    if old.is_some_and(|old| old["spec"]["preserveUnknownFields"].as_bool() == Some(true)) {
        return;
    }
    let spec = new.field("spec");
    if spec.bool_of("preserveUnknownFields") {
        spec.field("preserveUnknownFields").invalid(
            out,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

fn validate_update(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let spec = new.field("spec");
    validate_spec(&spec, out);
    let (names, before) = (spec.field("names"), &old["spec"]);
    let established = old["status"]["conditions"]
        .items()
        .iter()
        .any(|c| c["type"].as_str() == Some("Established") && c["status"].as_str() == Some("True"));
    if established {
        spec.field("scope").immutable(out, &before["scope"]);
        names.field("kind").immutable(out, &before["names"]["kind"]);
    }
    spec.field("group").immutable(out, &before["group"]);
    names.field("plural").immutable(out, &before["names"]["plural"]);
    validate_status(new, out);
    validate_stored_versions(new, out);
    validate_approval(new, Some(old), out);
    validate_unknown_fields(new, Some(old), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(definition: &Value) -> Vec<String> {
        let mut out = Errors::new();
        (RULES.validate)(&Cursor::root(definition), &super::super::Write::default(), &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    fn widget() -> Value {
        let mut definition = value!({"metadata": {"name": "widgets.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]
        }});
        defaults(&mut definition);
        (RULES.prepare_create)(&mut definition, &super::super::Write::default());
        definition
    }

    #[test]
    fn a_plain_definition_is_valid() {
        let definition = widget();
        assert_eq!(errors(&definition), Vec::<String>::new());
        assert_eq!(definition["spec"]["names"]["singular"].as_str(), Some("widget"));
        assert_eq!(definition["status"]["storedVersions"], value!(["v1"]));
    }

    #[test]
    fn parts_that_differ_are_named_by_version() {
        let mut definition = widget();
        let versions = definition.at_mut("spec.versions").and_then(Value::as_list_mut).unwrap();
        versions.push(value!({"name": "v2", "served": true, "storage": false,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}}));
        assert_eq!(
            errors(&definition),
            [
                "spec.versions[1].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for \
              specified object fields"
            ]
        );
    }

    #[test]
    fn groups_of_the_project_need_approval() {
        let mut definition = widget();
        definition.set("spec.group", "x.k8s.io");
        definition.set("metadata.name", "widgets.x.k8s.io");
        assert_eq!(errors(&definition).len(), 1);
        definition.set("metadata.annotations", value!({APPROVED: "https://example.com/1"}));
        assert_eq!(errors(&definition), Vec::<String>::new());
    }
}
