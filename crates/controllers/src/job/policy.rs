//! Rules on which failures count and which successes suffice (KEP-3329, KEP-3998).

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use crate::common::pods;

/// What a rule makes of a failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The job has failed, and why.
    FailJob(String),
}

/// The verdict of the first rule that matches; without one it counts.
pub fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let Some(what) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {at}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// What of the pod the rule matches, in words.
fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pods::name(pod);
    if let Some(requirement) = &rule.on_exit_codes {
        return exit_code(requirement, pod).map(|(container, code)| {
            format!("Container {container} for pod {namespace}/{name} failed with exit code {code}")
        });
    }
    rule.on_pod_conditions.iter().flatten().find_map(|pattern| {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        pods::condition(pod, &pattern.type_)
            .filter(|c| c.status == wanted)
            .map(|c| format!("Pod {namespace}/{name} has condition {}", c.type_))
    })
}

fn exit_code(requirement: &PodFailurePolicyOnExitCodesRequirement, pod: &Pod) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?;
    let containers =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    containers
        .filter(|c| requirement.container_name.as_ref().is_none_or(|name| *name == c.name))
        .filter_map(|c| Some((c.name.clone(), c.state.as_ref()?.terminated.as_ref()?.exit_code)))
        .filter(|(_, code)| *code != 0)
        .find(|(_, code)| {
            let listed = requirement.values.contains(code);
            if requirement.operator == "NotIn" { !listed } else { listed }
        })
}

/// Which rule the succeeded indexes fulfil, in words.
pub fn success(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    policy?.rules.iter().enumerate().find_map(|(at, rule)| {
        let (have, need) = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                (succeeded.common(&wanted), rule.succeeded_count.unwrap_or(wanted.len()))
            }
            None => (succeeded.len(), rule.succeeded_count?),
        };
        (have >= need).then(|| format!("Matched rules at index {at}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{object, pod};
    use serde_json::json;

    #[test]
    fn the_first_matching_rule_decides() {
        let policy: PodFailurePolicy = object(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}));
        let exited = |code: i32| {
            pod("p").phase("Failed").with("/status", "containerStatuses", json!([{"name": "main", "image": "",
                "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]))
        };
        let disrupted =
            exited(42).with("/status", "conditions", json!([{"type": "DisruptionTarget", "status": "True"}]));
        let message = "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        for (pod, expected) in [
            (disrupted, Verdict::Ignore),
            (exited(42), Verdict::FailJob(message.to_owned())),
            (exited(3), Verdict::FailIndex),
            (exited(1), Verdict::Count),
            (exited(0), Verdict::Count),
        ] {
            assert_eq!(judge(Some(&policy), &pod.build()), expected);
        }
        assert_eq!(judge(None, &exited(42).build()), Verdict::Count);
    }

    #[test]
    fn success_needs_indexes_or_a_count() {
        let policy = |rule: serde_json::Value| -> SuccessPolicy { object(json!({"rules": [rule]})) };
        let have = Indexes::parse("0-2", 5);
        for (rule, met) in [
            (json!({"succeededIndexes": "0,1"}), true),
            (json!({"succeededIndexes": "0,3"}), false),
            (json!({"succeededIndexes": "0,3", "succeededCount": 1}), true),
            (json!({"succeededCount": 3}), true),
            (json!({"succeededCount": 4}), false),
        ] {
            assert_eq!(success(Some(&policy(rule.clone())), 5, &have).is_some(), met, "{rule}");
        }
    }
}
