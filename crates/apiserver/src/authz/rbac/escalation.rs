//! Nobody gives what they do not have: the checks of upstream's policy-based storage for roles and bindings.

use std::sync::Arc;

use async_trait::async_trait;
use schema::Value;

use super::{GROUP, Rbac, Rule, rules_of};
use crate::admission::{Admission, Attributes, Operation};
use crate::authz::{self, Authorizer};
use crate::registry::Registry;
use crate::status::ApiResult;

/// Refuses roles and bindings that would give more than the writer has, unless the writer may `escalate` or `bind`.
pub struct RoleEscalation {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

impl RoleEscalation {
    /// Compares with the rules of `rbac`; asks `authorizer` for the exceptions.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(
        &self,
        attributes: &Attributes<'_>,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let asked = authz::Attributes {
            user: attributes.user.clone(),
            verb: verb.to_owned(),
            is_resource: true,
            api_group: GROUP.to_owned(),
            api_version: "*".to_owned(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..authz::Attributes::default()
        };
        self.authorizer.authorize(&asked).await.is_allowed()
    }

    /// The atoms of `wanted` that the writer does not have in `namespace`.
    fn missing(&self, attributes: &Attributes<'_>, namespace: &str, wanted: &[Rule]) -> Vec<Rule> {
        let index = self.rbac.index();
        let grants: Vec<_> = index
            .1
            .grants_of(attributes.user)
            .filter(|grant| grant.namespace.as_deref().is_none_or(|n| n == namespace))
            .collect();
        let has = |atom: &Rule| grants.iter().any(|grant| grant.rules.iter().any(|rule| rule.covers(atom)));
        wanted.iter().flat_map(Rule::atoms).filter(|atom| !has(atom)).collect()
    }

    async fn check_role(&self, attributes: &Attributes<'_>) -> ApiResult<()> {
        let wanted = rules_of(&attributes.object);
        let unchanged = attributes.old_object.at("rules") == attributes.object.at("rules")
            && attributes.old_object.at("aggregationRule") == attributes.object.at("aggregationRule");
        if attributes.operation == Operation::Update && unchanged {
            return Ok(());
        }
        let resource = attributes.resource.resource.to_string();
        if self.may(attributes, "escalate", &resource, attributes.namespace, name(attributes)).await {
            return Ok(());
        }
        if attributes.object.at("aggregationRule").is_some_and(|rule| !rule.is_null()) {
            let everything = [Rule {
                verbs: vec!["*".into()],
                groups: vec!["*".into()],
                resources: vec!["*".into()],
                ..Rule::default()
            }];
            if !self.missing(attributes, "", &everything).is_empty() {
                return Err(
                    attributes.forbidden("must have cluster-admin privileges to use the aggregationRule")
                );
            }
        }
        self.refuse(attributes, &wanted)
    }

    async fn check_binding(&self, attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let (old, new) = (attributes.old_object, &attributes.object);
        let unchanged = old.at("roleRef") == new.at("roleRef") && old.at("subjects") == new.at("subjects");
        if attributes.operation == Operation::Update && unchanged {
            return Ok(());
        }
        let role = new.str_at("roleRef.name").unwrap_or_default();
        let (plural, namespace) = match new.str_at("roleRef.kind") {
            Some("Role") => ("roles", attributes.namespace),
            _ => ("clusterroles", ""),
        };
        if self.may(attributes, "bind", plural, attributes.namespace, role).await {
            return Ok(());
        }
        // As upstream: who may not see what the role gives may not give it.
        let found = registry.require(GROUP, plural, namespace, role)?;
        self.refuse(attributes, &rules_of(&found))
    }

    fn refuse(&self, attributes: &Attributes<'_>, wanted: &[Rule]) -> ApiResult<()> {
        let missing = self.missing(attributes, attributes.namespace, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let groups: Vec<String> = attributes.user.groups.iter().map(|g| format!("{g:?}")).collect();
        let lines: Vec<String> = missing.iter().map(describe).collect();
        Err(attributes.forbidden(format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            attributes.user.name,
            groups.join(" "),
            lines.join("\n")
        )))
    }
}

fn name<'a>(attributes: &'a Attributes<'_>) -> &'a str {
    attributes.object.str_at("metadata.name").unwrap_or(attributes.name)
}

/// `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
fn describe(rule: &Rule) -> String {
    let part = |name: &str, list: &[schema::SmolStr]| {
        let texts: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
        (!list.is_empty()).then(|| format!("{name}:[{}]", texts.join(" ")))
    };
    let parts = [
        part("APIGroups", &rule.groups),
        part("Resources", &rule.resources),
        part("ResourceNames", &rule.names),
        part("NonResourceURLs", &rule.urls),
        part("Verbs", &rule.verbs),
    ];
    format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

#[async_trait]
impl Admission for RoleEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let privileged = attributes.user.groups.iter().any(|g| g == "system:masters");
        if privileged || attributes.resource.group != GROUP || attributes.object == Value::Null {
            return Ok(());
        }
        match attributes.resource.resource.as_str() {
            "roles" | "clusterroles" => self.check_role(attributes).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(attributes, registry).await,
            _ => Ok(()),
        }
    }
}
