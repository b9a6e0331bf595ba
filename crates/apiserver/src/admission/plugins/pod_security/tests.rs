//! What the levels say of pods, as upstream words it.

use schema::{Value, value};

use super::checks::{Subject, evaluate};
use super::policy::{Level, LevelVersion, Policy, Version};

fn pod(spec: Value) -> Value {
    value!({"metadata": {"name": "p"}, "spec": (spec)})
}

fn said(level: Level, minor: Option<u32>, pod: &Value) -> String {
    let version = minor.map_or(Version::Latest, Version::Minor);
    evaluate(LevelVersion { level, version }, &Subject::of(pod)).details()
}

const GOOD: &str = r#"{"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}"#;

fn good() -> Value {
    serde_json::from_str(GOOD).unwrap()
}

fn good_with(path: &str, change: Value) -> Value {
    let mut spec = good();
    match path.strip_prefix("c.") {
        Some(field) => {
            spec["containers"].items();
            spec.at_mut("containers").unwrap().as_list_mut().unwrap()[0].set(field, change);
        }
        None => {
            spec.set(path, change);
        }
    }
    pod(spec)
}

#[test]
fn one_change_breaks_a_good_pod_in_upstreams_words() {
    assert_eq!(said(Level::Restricted, None, &pod(good())), "");
    let base = [
        ("hostNetwork", value!(true), "host namespaces (hostNetwork=true)"),
        ("hostPID", value!(true), "host namespaces (hostPID=true)"),
        (
            "c.securityContext.privileged",
            value!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            "c.ports",
            value!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 443}]),
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            "c.securityContext.procMount",
            value!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "securityContext.seLinuxOptions",
            value!({"type": "spc_t", "user": "u"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            "c.securityContext.seccompProfile",
            value!({"type": "Unconfined"}),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "securityContext.sysctls",
            value!([{"name": "kernel.msgmax", "value": "1"}]),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "c.livenessProbe",
            value!({"httpGet": {"host": "example.com", "port": 1}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"example.com\")",
        ),
        (
            "c.securityContext.appArmorProfile",
            value!({"type": "Unconfined"}),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            "securityContext.windowsOptions",
            value!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (path, change, words) in base {
        let changed = good_with(path, change);
        assert_eq!(said(Level::Baseline, None, &changed), words, "{path}");
        assert_eq!(said(Level::Restricted, None, &changed), words, "{path}");
    }
    for (path, change, baseline, restricted) in [
        (
            "volumes",
            value!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "e", "emptyDir": {}}]),
            "hostPath volumes (volume \"h\")",
            "restricted volume types (volume \"h\" uses restricted volume type \"hostPath\")",
        ),
        (
            "c.securityContext.capabilities.add",
            value!(["CHOWN", "SYS_ADMIN"]),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "securityContext.runAsNonRoot",
            value!(false),
            "",
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "c.securityContext.runAsUser",
            value!(0),
            "",
            "runAsUser=0 (container \"c\" must not set runAsUser=0)",
        ),
    ] {
        let changed = good_with(path, change);
        assert_eq!(said(Level::Baseline, None, &changed), baseline, "{path}");
        assert_eq!(said(Level::Restricted, None, &changed), restricted, "{path}");
    }
}

#[test]
fn a_plain_pod_misses_all_of_restricted() {
    let plain = pod(value!({"containers": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(said(Level::Baseline, None, &plain), "");
    assert_eq!(
        said(Level::Restricted, None, &plain),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(
        said(Level::Restricted, Some(7), &plain),
        "runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true)"
    );
}

#[test]
fn versions_change_what_is_said() {
    let probe = good_with("c.livenessProbe", value!({"tcpSocket": {"host": "h"}}));
    assert_eq!(said(Level::Baseline, Some(33), &probe), "");
    assert_ne!(said(Level::Baseline, Some(34), &probe), "");
    let mut own_users = good();
    own_users.set("hostUsers", false);
    own_users.set("securityContext.runAsUser", 0);
    let own_users = pod(own_users);
    assert_eq!(said(Level::Restricted, None, &own_users), "");
    assert_eq!(said(Level::Restricted, Some(34), &own_users), "runAsUser=0 (pod must not set runAsUser=0)");
    let buffers = good_with("securityContext.sysctls", value!([{"name": "net.ipv4.tcp_rmem", "value": "1"}]));
    assert_eq!(said(Level::Baseline, Some(31), &buffers), "forbidden sysctls (net.ipv4.tcp_rmem)");
    assert_eq!(said(Level::Baseline, Some(99), &buffers), "");
}

#[test]
fn labels_make_a_policy() {
    let labels = value!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30", "pod-security.kubernetes.io/warn": "bogus",
        "pod-security.kubernetes.io/audit-version": "v2.1"});
    let (policy, errors) = Policy::of(labels.as_map(), Policy::PRIVILEGED);
    assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
    assert_eq!(policy.warn, LevelVersion::PRIVILEGED);
    assert_eq!(policy.compact(), "enforce=baseline:v1.30");
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v2.1\": must be \"latest\" or \"v1.x\"",
            "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"bogus\": must be one of privileged, baseline, restricted",
        ]
    );
}
