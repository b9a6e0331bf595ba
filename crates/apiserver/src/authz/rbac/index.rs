//! Roles and bindings, arranged by whom they are for.

use std::collections::HashMap;
use std::sync::Arc;

use base::UserInfo;
use schema::Value;

use super::{GROUP, Rule, rules_of};
use crate::registry::Registry;
use crate::status::ApiResult;

/// What one binding gives one subject.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Where it holds; None everywhere.
    pub namespace: Option<String>,
    /// What it allows.
    pub rules: Arc<Vec<Rule>>,
    /// `RoleBinding "x/ns" of Role "y" to Group "z"`.
    description: String,
}

impl Grant {
    /// Why a request is allowed, in upstream's words.
    pub fn reason(&self) -> String {
        format!("RBAC: allowed by {}", self.description)
    }
}

/// Grants by user and by group.
#[derive(Debug, Default)]
pub struct Index {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Index {
    /// Reads all roles and bindings. A binding whose role is not there grants nothing.
    pub fn read(registry: &Registry) -> ApiResult<Self> {
        let mut index = Self::default();
        let mut roles: HashMap<(String, String), Arc<Vec<Rule>>> = HashMap::new();
        for plural in ["clusterroles", "roles"] {
            for role in registry.find_all(GROUP, plural, None)? {
                let text = |path: &str| role.str_at(path).unwrap_or_default().to_owned();
                roles.insert((text("metadata.namespace"), text("metadata.name")), Arc::new(rules_of(&role)));
            }
        }
        for plural in ["clusterrolebindings", "rolebindings"] {
            for binding in registry.find_all(GROUP, plural, None)? {
                let namespace = binding.str_at("metadata.namespace").unwrap_or_default();
                let role_namespace = match binding.str_at("roleRef.kind") {
                    Some("Role") => namespace,
                    _ => "",
                };
                let name = binding.str_at("roleRef.name").unwrap_or_default();
                if let Some(rules) = roles.get(&(role_namespace.to_owned(), name.to_owned())) {
                    index.add(&binding, namespace, rules);
                }
            }
        }
        Ok(index)
    }

    fn add(&mut self, binding: &Value, namespace: &str, rules: &Arc<Vec<Rule>>) {
        let text = |value: &Value, path: &str| value.str_at(path).unwrap_or_default().to_owned();
        let name = text(binding, "metadata.name");
        let (kind, shown) = match namespace {
            "" => ("ClusterRoleBinding", name),
            _ => ("RoleBinding", format!("{name}/{namespace}")),
        };
        let (role_kind, role) = (text(binding, "roleRef.kind"), text(binding, "roleRef.name"));
        for subject in binding.items_at("subjects") {
            let (subject_kind, subject_name) = (text(subject, "kind"), text(subject, "name"));
            let mut subject_shown = subject_name.clone();
            let (map, key) = match subject_kind.as_str() {
                "User" => (&mut self.users, subject_name),
                "Group" => (&mut self.groups, subject_name),
                "ServiceAccount" => {
                    let own = text(subject, "namespace");
                    let of = if own.is_empty() { namespace.to_owned() } else { own };
                    subject_shown = format!("{subject_name}/{of}");
                    (&mut self.users, format!("system:serviceaccount:{of}:{subject_name}"))
                }
                _ => continue,
            };
            let description =
                format!("{kind} {shown:?} of {role_kind} {role:?} to {subject_kind} {subject_shown:?}");
            let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
            map.entry(key).or_default().push(Grant { namespace, rules: rules.clone(), description });
        }
    }

    /// What `user` has been granted, by name or by a group.
    pub fn grants_of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let own = self.users.get(&user.name).into_iter().flatten();
        own.chain(user.groups.iter().flat_map(|group| self.groups.get(group).into_iter().flatten()))
    }
}
