//! Mode `ABAC`: a file of policies, one JSON object per line (`pkg/auth/authorizer/abac`).

use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;

use super::{Attributes, Authorizer, Decision};
use crate::Error;

const VERSIONED: &str = "abac.authorization.kubernetes.io/v1beta1";
const EVERYONE: &str = "system:authenticated";

/// A policy; empty fields match nothing, `*` everything.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    #[serde(rename = "nonResourcePath")]
    path: String,
}

/// One line of the file: a `Policy` of version `v1beta1`, or the fields alone as in the times before it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    spec: Policy,
    #[serde(flatten)]
    bare: Policy,
}

/// Allows what some policy says; has no opinion on anything else.
pub struct Abac(Vec<Policy>);

impl Abac {
    /// Reads the file of `--authorization-policy-file`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| Error::Config { path: path.to_owned(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut policies = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let policy = policy(line).map_err(|why| format!("line {}: {why}", index + 1))?;
            policies.push(policy);
        }
        Ok(Self(policies))
    }
}

fn policy(line: &str) -> Result<Policy, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let mut policy = match (line.api_version.as_str(), line.kind.as_str()) {
        (VERSIONED, "Policy") => line.spec,
        ("", "") => unversioned(line.bare),
        (version, kind) => return Err(format!("no kind {kind:?} is known in version {version:?}")),
    };
    if policy.user == "*" {
        policy.user.clear();
        policy.group = EVERYONE.to_owned();
    }
    Ok(policy)
}

/// What left out fields meant before there were versions: everyone, everything.
fn unversioned(mut policy: Policy) -> Policy {
    if policy.user.is_empty() && policy.group.is_empty() {
        policy.group = EVERYONE.to_owned();
    }
    if policy.namespace.is_empty() && policy.resource.is_empty() {
        policy.path = "*".to_owned();
    }
    policy.api_group = "*".to_owned();
    for field in [&mut policy.namespace, &mut policy.resource] {
        if field.is_empty() {
            *field = "*".to_owned();
        }
    }
    policy
}

impl Policy {
    fn matches(&self, attributes: &Attributes) -> bool {
        let reads = matches!(attributes.verb.as_str(), "get" | "list" | "watch");
        self.is_about(attributes) && (reads || !self.readonly) && self.covers(attributes)
    }

    fn is_about(&self, attributes: &Attributes) -> bool {
        let user = self.user.is_empty() || self.user == attributes.user.name;
        let group =
            self.group.is_empty() || self.group == "*" || attributes.user.groups.contains(&self.group);
        !(self.user.is_empty() && self.group.is_empty()) && user && group
    }

    fn covers(&self, attributes: &Attributes) -> bool {
        let is = |wanted: &str, found: &str| wanted == "*" || wanted == found;
        if attributes.is_resource {
            return is(&self.namespace, &attributes.namespace)
                && is(&self.resource, &attributes.resource)
                && is(&self.api_group, &attributes.api_group);
        }
        match self.path.strip_suffix('*') {
            Some(begin) => attributes.path.starts_with(begin),
            None => self.path == attributes.path,
        }
    }
}

#[async_trait]
impl Authorizer for Abac {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        match self.0.iter().any(|policy| policy.matches(attributes)) {
            true => Decision::Allow(String::new()),
            false => Decision::NoOpinion("No policy matched.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::UserInfo;

    use super::*;

    fn asked(user: &str, verb: &str, namespace: &str, resource: &str) -> Attributes {
        let groups = vec![EVERYONE.to_owned()];
        Attributes {
            user: UserInfo { name: user.to_owned(), groups, ..UserInfo::default() },
            verb: verb.to_owned(),
            is_resource: !resource.is_empty(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            path: "/version".to_owned(),
            ..Attributes::default()
        }
    }

    #[tokio::test]
    async fn policies_allow_what_they_say() {
        let text = r#"
# comment
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"alice","namespace":"*","resource":"pods"}}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"*","nonResourcePath":"/ver*"}}
{"user":"bob","readonly":true,"namespace":"dev"}
"#;
        let abac = Abac::parse(text).unwrap();
        for (attributes, allowed) in [
            (asked("alice", "create", "x", "pods"), true),
            (asked("alice", "create", "x", "secrets"), false),
            (asked("bob", "list", "dev", "secrets"), true),
            (asked("bob", "delete", "dev", "secrets"), false),
            (asked("bob", "list", "prod", "secrets"), false),
            (asked("eve", "get", "", ""), true),
            (asked("eve", "get", "dev", "pods"), false),
        ] {
            let decision = abac.authorize(&attributes).await;
            assert_eq!(decision.is_allowed(), allowed, "{attributes:?}");
        }
        assert!(Abac::parse("{\"kind\":\"Zork\"}").err().unwrap().starts_with("line 1"));
        assert!(Abac::parse("\n{").is_err());
    }

    #[test]
    fn lines_without_a_version_mean_everything_they_leave_out() {
        let all = policy("{}").unwrap();
        assert_eq!((all.group.as_str(), all.path.as_str(), all.resource.as_str()), (EVERYONE, "*", "*"));
        assert_eq!(policy(r#"{"user":"a","resource":"pods"}"#).unwrap().path, "");
    }
}
