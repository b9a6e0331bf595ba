//! Which requests a webhook or a policy is for: rules, selectors, and equivalent resources.

use schema::{GroupVersionKind, GroupVersionResource, SmolStr, Value};

use super::{Attributes, Operation};
use crate::registry::Registry;
use crate::selectors::LabelSelector;
use crate::status::{ApiError, ApiResult};

/// Group of webhook configurations and policies.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// The resource and kind by which a request matched; differs from the request's where versions are equivalent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// As the rule names it.
    pub resource: GroupVersionResource,
    /// What its objects are.
    pub kind: GroupVersionKind,
}

/// `RuleWithOperations`, or `NamedRuleWithOperations` of policies.
#[derive(Debug, Clone)]
pub struct Rule {
    operations: Vec<SmolStr>,
    groups: Vec<SmolStr>,
    versions: Vec<SmolStr>,
    resources: Vec<SmolStr>,
    names: Vec<SmolStr>,
    scope: SmolStr,
}

fn texts(value: &Value, field: &str) -> Vec<SmolStr> {
    value.items_at(field).iter().filter_map(Value::as_smol).cloned().collect()
}

impl Rule {
    /// From the API's form.
    pub fn from_value(rule: &Value) -> Self {
        Self {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            names: texts(rule, "resourceNames"),
            scope: rule.str_at("scope").unwrap_or("*").into(),
        }
    }

    /// Whether the rule is for `resource` as it is written to.
    fn matches(&self, attributes: &Attributes<'_>, resource: &GroupVersionResource) -> bool {
        let has = |list: &[SmolStr], text: &str| list.iter().any(|item| item == "*" || item == text);
        self.in_scope(attributes)
            && has(&self.operations, attributes.operation.as_str())
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.resources.iter().any(|named| names(named, &resource.resource, attributes.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    fn in_scope(&self, attributes: &Attributes<'_>) -> bool {
        let cluster = is_namespace(attributes) || attributes.namespace.is_empty();
        match self.scope.as_str() {
            "Namespaced" => !cluster,
            "Cluster" => cluster,
            _ => true,
        }
    }
}

/// `pods`, `pods/log`, `*`, `pods/*`, `*/scale`, `*/*`
fn names(pattern: &str, resource: &str, subresource: &str) -> bool {
    let (wanted, below) = pattern.split_once('/').unwrap_or((pattern, ""));
    (wanted == "*" || wanted == resource) && (below == "*" || below == subresource)
}

fn is_namespace(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group.is_empty() && attributes.resource.resource == "namespaces"
}

/// What a webhook, a policy or a binding is limited to.
#[derive(Debug, Clone)]
pub struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

impl Constraints {
    /// Of a webhook (`rules`) or of `MatchResources` (`resourceRules`).
    pub fn from_value(value: &Value, rules: &str) -> Self {
        let selector = |field: &str| match &value[field] {
            Value::Null => LabelSelector::from_value(&Value::map()),
            selector => LabelSelector::from_value(selector),
        };
        let list = |field: &str| value.items_at(field).iter().map(Rule::from_value).collect();
        Self {
            rules: list(rules),
            excluded: list("excludeResourceRules"),
            equivalent: value.str_at("matchPolicy") != Some("Exact"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// How a request matches, if it does. Without rules (a binding) every resource does.
    pub fn matches(&self, attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<Option<Matched>> {
        let in_namespace = self.matches_namespace(attributes, registry);
        if let Ok(false) = in_namespace {
            return Ok(None);
        }
        if !self.matches_object(attributes)? {
            return Ok(None);
        }
        let asked = || Matched { resource: attributes.resource.clone(), kind: attributes.kind.clone() };
        if !self.excluded.is_empty() && self.by_rules(&self.excluded, attributes, registry).is_some() {
            return Ok(None);
        }
        let matched = match self.rules.is_empty() {
            true => Some(asked()),
            false => self.by_rules(&self.rules, attributes, registry),
        };
        // An unknown namespace matters only to those that the request is for.
        match matched {
            Some(matched) => in_namespace.map(|_| Some(matched)),
            None => Ok(None),
        }
    }

    fn by_rules(&self, rules: &[Rule], attributes: &Attributes<'_>, registry: &Registry) -> Option<Matched> {
        if rules.iter().any(|rule| rule.matches(attributes, &attributes.resource)) {
            return Some(Matched { resource: attributes.resource.clone(), kind: attributes.kind.clone() });
        }
        if !self.equivalent {
            return None;
        }
        let others = equivalents(attributes, registry);
        rules
            .iter()
            .find_map(|rule| others.iter().find(|other| rule.matches(attributes, &other.resource)).cloned())
    }

    fn matches_namespace(&self, attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<bool> {
        let selector = self.namespaces.as_ref().map_err(ApiError::internal)?;
        if selector.is_everything() || (attributes.namespace.is_empty() && !is_namespace(attributes)) {
            return Ok(true);
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_namespace(attributes) && attributes.subresource.is_empty() && written {
            return Ok(selector.matches_value(&attributes.object["metadata"]["labels"]));
        }
        let namespace = registry.require("", "namespaces", "", attributes.namespace)?;
        Ok(selector.matches_value(&namespace["metadata"]["labels"]))
    }

    fn matches_object(&self, attributes: &Attributes<'_>) -> ApiResult<bool> {
        let selector = self.objects.as_ref().map_err(ApiError::internal)?;
        let matches = |object: &Value| {
            object.get("metadata").is_some() && selector.matches_value(&object["metadata"]["labels"])
        };
        Ok(selector.is_everything() || matches(&attributes.object) || matches(attributes.old_object))
    }
}

/// The same resource in other versions and groups: what is stored in the same place.
fn equivalents(attributes: &Attributes<'_>, registry: &Registry) -> Vec<Matched> {
    let table = registry.resources.load();
    let Some(asked) = table.get(&attributes.resource) else { return Vec::new() };
    let same_place = |prefix: &SmolStr| *prefix == asked.hub.storage.prefix;
    table
        .all()
        .iter()
        .filter(|s| same_place(&s.hub.storage.prefix) && s.resource.gvr() != attributes.resource)
        .filter_map(|s| {
            let kind = match attributes.subresource {
                "" | "status" => s.resource.gvk(),
                name => s.resource.subresource(name)?.kind.clone(),
            };
            Some(Matched { resource: s.resource.gvr(), kind })
        })
        .collect()
}

/// True for the configuration of admission itself, which no webhook sees.
pub fn is_configuration(attributes: &Attributes<'_>) -> bool {
    const KINDS: [&str; 2] = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"];
    is_policy(attributes)
        || (attributes.resource.group == GROUP && KINDS.contains(&attributes.resource.resource.as_str()))
}

/// True for policies and their bindings, which no policy sees.
pub fn is_policy(attributes: &Attributes<'_>) -> bool {
    const KINDS: [&str; 4] = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    attributes.resource.group == GROUP && KINDS.contains(&attributes.resource.resource.as_str())
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn resources_and_subresources() {
        for (pattern, resource, subresource, expected) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "log", false),
            ("pods/*", "pods", "", true),
            ("pods/log", "pods", "log", true),
            ("*", "pods", "", true),
            ("*", "pods", "log", false),
            ("*/scale", "deployments", "scale", true),
            ("*/*", "pods", "exec", true),
        ] {
            assert_eq!(names(pattern, resource, subresource), expected, "{pattern} {resource}/{subresource}");
        }
    }
}
