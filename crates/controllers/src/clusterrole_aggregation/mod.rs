//! Fills aggregated ClusterRoles with the rules of the roles they select (upstream's clusterroleaggregation).

use std::sync::Arc;

use client::{Event, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::Error;
use crate::common::api;
use crate::common::selector::Matcher;
use crate::context::Context;

/// The rules that `role` is to have; None if it is not aggregated or has them.
fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.clone().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in &selectors {
        let Ok(matcher) = Matcher::new(selector) else { continue };
        let selected = all.iter().filter(|other| other.metadata.name != role.metadata.name);
        for other in selected.filter(|other| matcher.matches(other.metadata.labels.as_ref())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (rules != role.rules.clone().unwrap_or_default()).then_some(rules)
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let roles = context.informers.get::<ClusterRole>();
    let queue = WorkQueue::new("clusterrole-aggregation");
    let (of_roles, cache) = (queue.clone(), roles.cache());
    roles.on_event(move |event| {
        if let Event::Updated { old, new } = event
            && old.rules == new.rules
            && old.metadata.labels == new.metadata.labels
            && old.aggregation_rule == new.aggregation_rule
        {
            return;
        }
        // Any role may be part of any aggregated one.
        for role in cache.list_where(|role| role.aggregation_rule.is_some()) {
            of_roles.add(ObjectKey::of(role.as_ref()));
        }
    });
    roles.synced().await;
    let (cache, client) = (roles.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (cache, client) = (cache.clone(), client.clone());
        async move {
            let rules = cache.get_key(&key).and_then(|role| plan(&role, &cache.list()));
            if let Some(rules) = rules {
                let roles: Api<ClusterRole> = Api::all(client);
                let patch = Patch::Merge(json!({"rules": rules}));
                api::ignore_not_found(roles.patch(&key.name, &PatchParams::default(), &patch).await)?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;

    #[test]
    fn rules_of_selected_roles_are_joined_without_doubles() {
        let role = |name: &str, label: &str, verb: &str| -> Arc<ClusterRole> {
            Arc::new(object(json!({"metadata": {"name": name, "labels": {"to": label}},
                "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})))
        };
        let aggregated: ClusterRole = object(json!({"metadata": {"name": "all"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]}}));
        let all = [
            role("a", "all", "get"),
            role("b", "all", "list"),
            role("c", "all", "get"),
            role("d", "other", "watch"),
        ];
        let rules = plan(&aggregated, &all).unwrap();
        assert_eq!(rules.iter().map(|r| r.verbs[0].as_str()).collect::<Vec<_>>(), ["get", "list"]);
        let filled = ClusterRole { rules: Some(rules), ..aggregated };
        assert_eq!(plan(&filled, &all), None);
        assert_eq!(plan(&all[0], &all), None);
    }
}
