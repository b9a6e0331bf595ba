//! What is counted, in which scopes, and what is said when it is too much.

use base::UserInfo;
use schema::{GroupVersionKind, GroupVersionResource, Value, value};

use super::usage::Evaluator;
use super::{charged, scopes};
use crate::admission::{Attributes, Operation};

fn attributes<'a>(
    (group, plural): (&str, &str),
    object: Value,
    user: &'a UserInfo,
    old: &'a Value,
) -> Attributes<'a> {
    Attributes {
        operation: if old.is_null() { Operation::Create } else { Operation::Update },
        kind: GroupVersionKind::new(group, "v1", "Kind"),
        resource: GroupVersionResource::new(group, "v1", plural),
        subresource: "",
        namespace: "ns",
        name: "",
        object,
        old_object: old,
        user,
        dry_run: false,
        options: &Value::Null,
        warnings: Vec::new(),
        audit_annotations: Vec::new(),
        riders: Vec::new(),
        held: Vec::new(),
        reinvocation: crate::admission::Reinvocation::default(),
    }
}

/// The usage after a write, as `name=amount,...`, or the refusal.
fn outcome(quota: &Value, kind: (&str, &str), object: Value, old: &Value) -> String {
    let user = UserInfo::authenticated("u", &[]);
    let attributes = attributes(kind, object, &user, old);
    let Some(evaluator) = Evaluator::of(&attributes) else { return "not counted".to_owned() };
    match charged(quota, &evaluator, &attributes, 0) {
        Ok(None) => "same".to_owned(),
        Ok(Some(used)) => used.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","),
        Err(error) => error.message,
    }
}

fn quota(hard: Value, used: Value) -> Value {
    value!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {}, "status": {"hard": (hard), "used": (used)}})
}

fn pod(resources: Value) -> Value {
    value!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": (resources)}]}})
}

#[test]
fn what_fits_is_added_and_what_does_not_is_refused() {
    let cpu =
        quota(value!({"pods": "2", "requests.cpu": "1"}), value!({"pods": "1", "requests.cpu": "600m"}));
    let ask = |amount: &str| pod(value!({"requests": {"cpu": (amount)}}));
    let pods = ("", "pods");
    assert_eq!(outcome(&cpu, pods, ask("400m"), &Value::Null), "pods=2,requests.cpu=1");
    assert_eq!(
        outcome(&cpu, pods, ask("500m"), &Value::Null),
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, \
         limited: requests.cpu=1"
    );
    assert_eq!(
        outcome(&cpu, pods, pod(Value::Null), &Value::Null),
        "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    let unknown = quota(value!({"pods": "2"}), value!({}));
    assert_eq!(
        outcome(&unknown, pods, ask("1"), &Value::Null),
        "pods \"p\" is forbidden: status unknown for quota: q, resources: pods"
    );
    let gpu = quota(value!({"requests.nvidia.com/gpu": "1"}), value!({"requests.nvidia.com/gpu": "1"}));
    let ask = pod(value!({"requests": {"nvidia.com/gpu": "2"}}));
    assert_eq!(
        outcome(&gpu, pods, ask, &Value::Null),
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=2, used: \
         requests.nvidia.com/gpu=1, limited: requests.nvidia.com/gpu=1"
    );
}

#[test]
fn other_kinds() {
    let counts = quota(
        value!({"count/widgets.example.com": "1", "secrets": "5", "services.nodeports": "2",
            "fast.storageclass.storage.k8s.io/requests.storage": "3Gi"}),
        value!({"count/widgets.example.com": "1", "secrets": "0", "services.nodeports": "0",
            "fast.storageclass.storage.k8s.io/requests.storage": "0"}),
    );
    let named = || value!({"metadata": {"name": "x"}});
    assert_eq!(
        outcome(&counts, ("example.com", "widgets"), named(), &Value::Null),
        "widgets.example.com \"x\" is forbidden: exceeded quota: q, requested: count/widgets.example.com=1, used: \
         count/widgets.example.com=1, limited: count/widgets.example.com=1"
    );
    assert!(outcome(&counts, ("", "secrets"), named(), &Value::Null).contains("secrets=1"));
    assert_eq!(outcome(&counts, ("", "configmaps"), named(), &Value::Null), "same");
    assert_eq!(outcome(&counts, ("", "events"), named(), &Value::Null), "not counted");
    let service = |kind: &str, ports: usize| {
        let ports: Vec<Value> = (0..ports).map(|port| value!({"port": (port as i64 + 1)})).collect();
        value!({"metadata": {"name": "s"}, "spec": {"type": (kind), "ports": (ports)}})
    };
    let services = ("", "services");
    assert!(
        outcome(&counts, services, service("NodePort", 2), &service("ClusterIP", 2)).contains("nodeports=2")
    );
    assert!(outcome(&counts, services, service("NodePort", 3), &Value::Null).contains("exceeded quota"));
    assert_eq!(outcome(&counts, services, service("NodePort", 1), &service("NodePort", 2)), "same");
    let claim = |size: &str| {
        value!({"metadata": {"name": "c"}, "spec": {"storageClassName": "fast",
            "resources": {"requests": {"storage": (size)}}}})
    };
    let claims = ("", "persistentvolumeclaims");
    assert!(outcome(&counts, claims, claim("2Gi"), &Value::Null).contains("requests.storage=2Gi"));
    assert!(outcome(&counts, claims, claim("4Gi"), &Value::Null).contains("exceeded quota"));
}

#[test]
fn scopes_choose() {
    let best = pod(Value::Null);
    let mut urgent = pod(value!({"requests": {"cpu": "1"}}));
    urgent.set("spec.priorityClassName", "high");
    urgent.set("spec.activeDeadlineSeconds", 5);
    let scope = |name: &str, operator: &str, values: Value| value!({"scopeName": (name), "operator": (operator), "values": (values)});
    for (scope, of_best, of_urgent) in [
        (scope("BestEffort", "Exists", value!([])), true, false),
        (scope("NotBestEffort", "Exists", value!([])), false, true),
        (scope("Terminating", "Exists", value!([])), false, true),
        (scope("NotTerminating", "Exists", value!([])), true, false),
        (scope("PriorityClass", "In", value!(["high"])), false, true),
        (scope("PriorityClass", "NotIn", value!(["high"])), true, false),
        (scope("PriorityClass", "DoesNotExist", value!([])), true, false),
        (scope("VolumeAttributesClass", "Exists", value!([])), false, false),
    ] {
        assert_eq!(scopes::of_pod(&scope, &best), of_best, "{scope:?}");
        assert_eq!(scopes::of_pod(&scope, &urgent), of_urgent, "{scope:?}");
    }
    let scoped = value!({"spec": {"scopes": ["BestEffort"]}});
    assert!(scopes::all_hold(&scoped, |scope| scopes::of_pod(scope, &best)));
    let claim = value!({"spec": {"volumeAttributesClassName": "gold"}});
    let gold = scope("VolumeAttributesClass", "In", value!(["gold"]));
    assert!(scopes::of_claim(&gold, &claim));
    assert!(!scopes::of_claim(&gold, &value!({"spec": {}})));
}
