//! Mode `RBAC`: roles, and bindings that give them to users and groups.

mod escalation;
mod index;
mod rule;

use std::sync::Arc;

use async_trait::async_trait;
use base::{TaskScope, UserInfo};
use schema::Value;

use super::{Attributes, Authorizer, Decision, UserRules};
use crate::registry::{Registry, Watched};

pub use escalation::RoleEscalation;
pub use index::{Grant, Index};
pub use rule::Rule;

/// Group of the kinds.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
/// What is watched for changes.
const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// Decides by roles and bindings, which are indexed by subject.
pub struct Rbac {
    index: Watched<Index>,
}

impl Rbac {
    /// Over the roles of `registry`; tasks in `scope` notice their changes.
    pub fn new(registry: Arc<Registry>, scope: &TaskScope) -> Arc<Self> {
        let index = Watched::new(registry, "roles", (GROUP, &KINDS), scope, Index::read);
        Arc::new(Self { index })
    }

    /// The roles and bindings as they are now: whoever asks while they are read anew waits for the new ones.
    pub fn index(&self) -> Arc<(u64, Index)> {
        self.index.get()
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let index = self.index();
        for grant in index.1.grants_of(&attributes.user) {
            let applies = grant
                .namespace
                .as_deref()
                .is_none_or(|n| attributes.is_resource && n == attributes.namespace);
            if applies && grant.rules.iter().any(|rule| rule.allows(attributes)) {
                return Decision::Allow(grant.reason());
            }
        }
        Decision::NoOpinion(String::new())
    }

    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let index = self.index();
        let mut all = UserRules::default();
        for grant in index.1.grants_of(user) {
            if grant.namespace.as_deref().is_some_and(|n| n != namespace) {
                continue;
            }
            for rule in grant.rules.iter() {
                match rule.is_resource_rule() {
                    true => all.resource_rules.push(rule.to_resource_rule()),
                    false if grant.namespace.is_none() => {
                        all.non_resource_rules.push(rule.to_non_resource_rule())
                    }
                    false => {}
                }
            }
        }
        all
    }
}

/// The rules of a role object.
pub(crate) fn rules_of(role: &Value) -> Vec<Rule> {
    role.items_at("rules").iter().map(Rule::from_value).collect()
}
