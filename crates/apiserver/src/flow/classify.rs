//! Which schema, and so which level and flow, a request belongs to.

use std::sync::Arc;

use base::UserInfo;
use schema::Value;

use super::config::{Config, Distinguisher, FlowSchema};
use super::level::Level;
use super::text;
use crate::request::RequestInfo;

const CLUSTER_SCOPE: &str = "clusterScope";

/// Where a request belongs.
pub struct Found<'a> {
    /// The schema that wants it.
    pub schema: &'a Arc<FlowSchema>,
    /// The schema's level.
    pub level: &'a Arc<Level>,
    /// Name of the user or namespace that its flow is of, or nothing.
    pub of: &'a str,
}

impl Found<'_> {
    /// The flow as a number.
    pub fn flow(&self) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        (&self.schema.name, self.of).hash(&mut hasher);
        hasher.finish()
    }
}

/// Finds it; the last schema wants everybody.
pub fn find<'a>(config: &'a Config, info: &'a RequestInfo, user: &'a UserInfo) -> Found<'a> {
    let wanting = config.schemas.iter().find(|s| s.rules.iter().any(|rule| matches(rule, info, user)));
    let found = wanting.and_then(|schema| Some((schema, config.levels.get(&schema.level)?)));
    let (schema, level) = found.unwrap_or((&config.catch_all.0, &config.catch_all.1));
    let of = match schema.by {
        Distinguisher::None => "",
        Distinguisher::User => user.name.as_str(),
        Distinguisher::Namespace => info.namespace.as_str(),
    };
    Found { schema, level, of }
}

fn matches(rule: &Value, info: &RequestInfo, user: &UserInfo) -> bool {
    if !rule.items_at("subjects").iter().any(|subject| is_subject(subject, user)) {
        return false;
    }
    match info.is_resource {
        true => rule.items_at("resourceRules").iter().any(|rule| wants_resource(rule, info)),
        false => rule.items_at("nonResourceRules").iter().any(|rule| {
            lists(rule, "verbs", info.verb)
                && rule
                    .items_at("nonResourceURLs")
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|p| is_path(p, &info.path))
        }),
    }
}

fn is_subject(subject: &Value, user: &UserInfo) -> bool {
    match text(subject, "kind") {
        "User" => matches!(text(subject, "user.name"), "*") || text(subject, "user.name") == user.name,
        "Group" => {
            let name = text(subject, "group.name");
            name == "*" || user.groups.iter().any(|group| group == name)
        }
        "ServiceAccount" => {
            let Some(account) = user.name.strip_prefix("system:serviceaccount:") else { return false };
            let Some((namespace, name)) = account.split_once(':') else { return false };
            let wanted = text(subject, "serviceAccount.name");
            text(subject, "serviceAccount.namespace") == namespace && (wanted == "*" || wanted == name)
        }
        _ => false,
    }
}

fn lists(rule: &Value, field: &str, wanted: &str) -> bool {
    rule.items_at(field).iter().any(|one| matches!(one.as_str(), Some(one) if one == "*" || one == wanted))
}

fn wants_resource(rule: &Value, info: &RequestInfo) -> bool {
    let resource = match info.subresource.as_str() {
        "" => info.resource.clone(),
        subresource => format!("{}/{subresource}", info.resource),
    };
    let scope = match info.namespace.as_str() {
        "" => rule.bool_at(CLUSTER_SCOPE) == Some(true),
        namespace => lists(rule, "namespaces", namespace),
    };
    scope
        && lists(rule, "verbs", info.verb)
        && lists(rule, "apiGroups", &info.group)
        && lists(rule, "resources", &resource)
}

fn is_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
