//! Mode `RBAC`: roles, and bindings that give them to users and groups.

mod escalation;
mod index;
mod rule;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::{TaskScope, UserInfo};
use parking_lot::Mutex;
use schema::Value;
use store::{KeyRange, WatchOptions};

use super::{Attributes, Authorizer, Decision, UserRules};
use crate::registry::Registry;

pub use escalation::RoleEscalation;
pub use index::{Grant, Index};
pub use rule::Rule;

/// Group of the kinds.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
/// What is watched for changes.
const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// Decides by roles and bindings. They are indexed by subject, and indexed anew at the first question after a change.
pub struct Rbac {
    registry: Arc<Registry>,
    index: ArcSwap<(u64, Index)>,
    /// Counts changes; an index knows how many it has seen.
    changes: Arc<AtomicU64>,
    reading: Mutex<()>,
}

impl Rbac {
    /// Over the roles of `registry`; tasks in `scope` notice their changes.
    pub fn new(registry: Arc<Registry>, scope: &TaskScope) -> Arc<Self> {
        let changes = Arc::new(AtomicU64::new(1));
        for kind in KINDS {
            if let Some(served) = registry.stored_resource(GROUP, kind) {
                let range = KeyRange::prefix(served.key_prefix(None));
                scope.spawn(notice(registry.clone(), range, changes.clone()));
            }
        }
        Arc::new(Self { registry, index: ArcSwap::default(), changes, reading: Mutex::default() })
    }

    /// The roles and bindings as they are now: whoever asks while they are read anew waits for the new ones.
    pub fn index(&self) -> Arc<(u64, Index)> {
        let current = self.index.load_full();
        if current.0 == self.changes.load(Ordering::Acquire) {
            return current;
        }
        let _reading = self.reading.lock();
        let changes = self.changes.load(Ordering::Acquire);
        let current = self.index.load_full();
        if current.0 == changes {
            return current;
        }
        match Index::read(&self.registry) {
            Ok(index) => self.index.store(Arc::new((changes, index))),
            Err(error) => tracing::error!(error = %error.message, "roles cannot be read"),
        }
        self.index.load_full()
    }
}

/// Counts every change in `range`, and one more when changes may have been missed.
async fn notice(registry: Arc<Registry>, range: KeyRange, changes: Arc<AtomicU64>) {
    loop {
        let Ok(mut watcher) = registry.store.watch(range.clone(), WatchOptions::default()) else { return };
        changes.fetch_add(1, Ordering::AcqRel);
        while watcher.next().await.is_ok() {
            changes.fetch_add(1, Ordering::AcqRel);
        }
        if registry.store.health().is_err() {
            return;
        }
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
