//! One policy rule: verbs on resources or on paths.

use schema::{SmolStr, Value, value};

use super::super::Attributes;

/// A `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<SmolStr>,
    /// Groups, `*` for all.
    pub groups: Vec<SmolStr>,
    /// `pods`, `pods/log`, `*/status`, `*`.
    pub resources: Vec<SmolStr>,
    /// Names; empty for all.
    pub names: Vec<SmolStr>,
    /// Paths, with `*` at the end for all below.
    pub urls: Vec<SmolStr>,
}

impl Rule {
    /// Reads one entry of a role's `rules`.
    pub fn from_value(rule: &Value) -> Self {
        let list = |name: &str| rule.items_at(name).iter().filter_map(Value::as_smol).cloned().collect();
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// True if it allows the request.
    pub fn allows(&self, asked: &Attributes) -> bool {
        if !has(&self.verbs, &asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.urls.iter().any(|url| covers_path(url, &asked.path));
        }
        has(&self.groups, &asked.api_group)
            && self.resources.iter().any(|r| covers_resource(r, &asked.resource, &asked.subresource))
            && (self.names.is_empty() || self.names.iter().any(|n| *n == asked.name))
    }

    /// True for rules about resources, false for those about paths.
    pub fn is_resource_rule(&self) -> bool {
        !self.resources.is_empty()
    }

    /// As a ResourceRule of `authorization.k8s.io`.
    pub fn to_resource_rule(&self) -> Value {
        let mut rule = value!({"verbs": (list(&self.verbs)), "apiGroups": (list(&self.groups)),
            "resources": (list(&self.resources))});
        if !self.names.is_empty() {
            rule.insert("resourceNames", list(&self.names));
        }
        rule
    }

    /// As a NonResourceRule of `authorization.k8s.io`.
    pub fn to_non_resource_rule(&self) -> Value {
        value!({"verbs": (list(&self.verbs)), "nonResourceURLs": (list(&self.urls))})
    }

    /// The same permissions as rules of one verb, group, resource, name or path each.
    pub fn atoms(&self) -> Vec<Rule> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for url in &self.urls {
                atoms.push(Rule { verbs: vec![verb.clone()], urls: vec![url.clone()], ..Rule::default() });
            }
            for (group, resource) in
                self.groups.iter().flat_map(|g| self.resources.iter().map(move |r| (g, r)))
            {
                let atom = Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                match self.names.as_slice() {
                    [] => atoms.push(atom),
                    names => {
                        atoms.extend(names.iter().map(|n| Rule { names: vec![n.clone()], ..atom.clone() }))
                    }
                }
            }
        }
        atoms
    }

    /// True if it gives at least what `atom`, a rule of [`Rule::atoms`], gives.
    pub fn covers(&self, atom: &Rule) -> bool {
        let all = |have: &[SmolStr], asked: &[SmolStr]| asked.iter().all(|one| has(have, one));
        let resource = |asked: &SmolStr| {
            let (plural, sub) = asked.split_once('/').unwrap_or((asked, ""));
            self.resources.iter().any(|have| have == asked || covers_resource(have, plural, sub))
        };
        let names = self.names.is_empty()
            || (!atom.names.is_empty() && atom.names.iter().all(|n| self.names.contains(n)));
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(resource)
            && (atom.resources.is_empty() || names)
            && atom.urls.iter().all(|url| self.urls.iter().any(|have| covers_path(have, url)))
    }
}

fn list(texts: &[SmolStr]) -> Value {
    Value::List(texts.iter().map(|text| Value::str(text.clone())).collect())
}

fn has(list: &[SmolStr], text: &str) -> bool {
    list.iter().any(|one| one == "*" || one == text)
}

fn covers_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// `pods` does not cover `pods/log`; `*` covers all, `*/log` the subresource of all.
fn covers_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    match pattern.split_once('/') {
        Some((left, right)) => right == subresource && (left == resource || left == "*"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str, urls: &str) -> Rule {
        let split =
            |text: &str| text.split(',').filter(|t| !t.is_empty()).map(SmolStr::from).collect::<Vec<_>>();
        let groups = if groups == "core" { vec![SmolStr::default()] } else { split(groups) };
        Rule {
            verbs: split(verbs),
            groups,
            resources: split(resources),
            names: split(names),
            urls: split(urls),
        }
    }

    fn asks(verb: &str, group: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.into(),
            is_resource: true,
            api_group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_allow_what_they_name() {
        let pods = rule("get,list", "core", "pods", "", "");
        for (rule, verb, group, resource, sub, name, expected) in [
            (&pods, "get", "", "pods", "", "a", true),
            (&pods, "get", "", "pods", "log", "a", false),
            (&pods, "delete", "", "pods", "", "a", false),
            (&pods, "get", "apps", "pods", "", "a", false),
            (&rule("*", "*", "*", "", ""), "any", "apps", "deployments", "scale", "", true),
            (&rule("get", "*", "*/log", "", ""), "get", "", "pods", "log", "a", true),
            (&rule("get", "*", "pods/log", "", ""), "get", "", "pods", "log", "a", true),
            (&rule("get", "core", "secrets", "a,b", ""), "get", "", "secrets", "", "b", true),
            (&rule("get", "core", "secrets", "a,b", ""), "get", "", "secrets", "", "", false),
        ] {
            assert_eq!(
                rule.allows(&asks(verb, group, resource, sub, name)),
                expected,
                "{rule:?} {verb} {resource}/{sub}"
            );
        }
        let paths = rule("get", "", "", "", "/healthz,/apis/*");
        let path = |path: &str| Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
        assert!(
            paths.allows(&path("/apis/apps"))
                && paths.allows(&path("/healthz"))
                && !paths.allows(&path("/healthz/x"))
        );
    }

    #[test]
    fn covering_is_decided_atom_by_atom() {
        let wanted = rule("get,list", "core", "pods,secrets", "a,b", "");
        assert_eq!(wanted.atoms().len(), 8);
        let owner = [rule("*", "core", "pods", "", ""), rule("get,list", "core", "secrets", "a,b,c", "")];
        assert!(wanted.atoms().iter().all(|atom| owner.iter().any(|have| have.covers(atom))));
        let all_names = rule("get", "core", "secrets", "", "");
        assert!(!owner[1].covers(&all_names.atoms()[0]), "some names do not cover all");
        assert!(rule("*", "*", "*", "", "").covers(&rule("get", "*", "*", "", "").atoms()[0]));
        assert!(!rule("get", "core", "*", "", "").covers(&rule("*", "core", "pods", "", "").atoms()[0]));
    }
}
