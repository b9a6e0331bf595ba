//! What the default filters say of a pod and a node, in upstream's words.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Handles, registry};
use crate::framework::{CycleState, Diagnosis, Profile};
use crate::lister::Lister;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// Namespaces that are labelled with their own name, and given budgets.
#[derive(Default)]
pub struct Listed {
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    pub volumes: Vec<Arc<PersistentVolume>>,
    pub classes: Vec<Arc<StorageClass>>,
}

impl Lister for Listed {
    fn namespace_labels(&self, name: &str) -> Option<std::collections::BTreeMap<String, String>> {
        Some([("name".to_owned(), name.to_owned())].into())
    }

    fn budgets(&self, _: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.clone()
    }

    fn claim(&self, _: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        self.volumes.clone()
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        tokio::sync::watch::channel(()).1
    }
}

/// The default profile, with an API that cannot be reached.
pub fn profile() -> Profile {
    profile_with(Listed::default())
}

/// The same, over these objects.
pub fn profile_with(listed: Listed) -> Profile {
    let client = kube::Client::new(
        tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no server"))
        }),
        "default",
    );
    let handles = Handles { client, recorder: None, lister: Arc::new(listed) };
    Profile::new("default-scheduler", registry(&handles)).unwrap()
}

fn node(labels: Value, spec: Value, cpu: &str) -> NodeInfo {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n1", "labels": labels},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "2"}},
    }))
    .unwrap();
    NodeInfo::new(Arc::new(node))
}

fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    let mut full = json!({"containers": [{"name": "c"}]});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": name, "uid": name, "namespace": "d"}, "spec": full}),
    )
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

/// The message of a pod that finds no place on `node`, or `fits`.
fn check(spec: Value, node: NodeInfo) -> String {
    let (profile, pod, mut state) = (profile(), pod("p", spec), CycleState::default());
    let snapshot = Snapshot::new(vec![Arc::new(node)]);
    let mut diagnosis = Diagnosis { all_nodes: 1, ..Diagnosis::default() };
    if let Err(status) = profile.run_pre_filter(&mut state, &pod, &snapshot) {
        diagnosis.pre_filter = Some(status);
        return diagnosis.message();
    }
    match profile.run_filter(&state, &pod, &snapshot.nodes()[0]) {
        Ok(()) => "fits".to_owned(),
        Err(status) => {
            diagnosis.nodes.insert("n1".to_owned(), status);
            diagnosis.message()
        }
    }
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
}

fn plain() -> NodeInfo {
    node(json!({"disk": "ssd", "size": "8"}), json!({}), "2")
}

#[tokio::test]
async fn filters_speak_as_upstream() {
    let taint = |effect: &str| json!({"taints": [{"key": "k", "value": "v", "effect": effect}]});
    let affinity = |operator: &str, key: &str, values: Value| {
        let requirement = json!({"key": key, "operator": operator, "values": values});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}}})
    };
    let mismatch = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    let tainted = |effect: &str| node(json!({}), taint(effect), "2");
    let table: Vec<(Value, NodeInfo, &str)> = vec![
        (json!({}), plain(), "fits"),
        (cpu("2"), plain(), "fits"),
        (cpu("2001m"), plain(), "0/1 nodes are available: 1 Insufficient cpu."),
        (json!({"nodeSelector": {"disk": "ssd"}}), plain(), "fits"),
        (json!({"nodeSelector": {"disk": "hdd"}}), plain(), mismatch),
        (affinity("In", "disk", json!(["nvme", "ssd"])), plain(), "fits"),
        (affinity("Gt", "size", json!(["7"])), plain(), "fits"),
        (affinity("Lt", "size", json!(["8"])), plain(), mismatch),
        (affinity("DoesNotExist", "disk", json!(null)), plain(), mismatch),
        (
            json!({}),
            tainted("NoSchedule"),
            "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.",
        ),
        (json!({}), tainted("PreferNoSchedule"), "fits"),
        (json!({"tolerations": [{"key": "k", "operator": "Exists"}]}), tainted("NoExecute"), "fits"),
        (
            json!({}),
            node(json!({}), json!({"unschedulable": true}), "2"),
            "0/1 nodes are available: 1 node(s) were unschedulable.",
        ),
    ];
    for (spec, node, expected) in table {
        assert_eq!(check(spec.clone(), node), expected, "{spec}");
    }
}

#[tokio::test]
async fn pods_on_a_node_leave_less_for_others() {
    let mut full = plain();
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    full.add_pod(pod("a", port.clone()));
    full.add_pod(pod("b", cpu("1500m")));
    let expected = "0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods.";
    assert_eq!(check(cpu("600m"), full.clone()), expected);
    full.remove_pod("b");
    let ports = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(check(port, full.clone()), ports);
    assert_eq!(check(cpu("2"), full), "fits");
}

#[test]
fn sidecars_and_init_containers_count_at_their_peak() {
    let container = |name: &str, cpu: &str, policy: Option<&str>| json!({"name": name, "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
    let spec = json!({
        "initContainers": [container("i", "3", None), container("s", "1", Some("Always")), container("j", "4", None)],
        "containers": [container("a", "1", None), container("b", "500m", None)],
        "overhead": {"cpu": "100m"},
    });
    assert_eq!(pod("p", spec).requests.milli_cpu, 5100, "sidecar and second init container together");
}

#[tokio::test]
async fn a_group_is_spread_over_domains() {
    let spread = |extra: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        constraint.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"topologySpreadConstraints": [constraint]})
    };
    let labelled = |name: &str, spec: Value| {
        let info = pod(name, spec);
        let mut object = Pod::clone(&info.pod);
        object.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        Arc::new(PodInfo::new(Arc::new(object)))
    };
    let zone = |name: &str, labels: Value, count: usize| {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "9"}}}))
        .unwrap();
        let mut info = NodeInfo::new(Arc::new(node));
        (0..count).for_each(|number| info.add_pod(labelled(&format!("{name}{number}"), json!({}))));
        Arc::new(info)
    };
    let uneven = "node(s) didn't match pod topology spread constraints";
    let unlabelled = "node(s) didn't match pod topology spread constraints (missing required label)";
    let table: Vec<(Value, [usize; 2], [&str; 3])> = vec![
        (spread(json!({})), [1, 0], [uneven, "ok", unlabelled]),
        (spread(json!({})), [1, 1], ["ok", "ok", unlabelled]),
        (spread(json!({"maxSkew": 2})), [1, 0], ["ok", "ok", unlabelled]),
        (spread(json!({"minDomains": 3})), [1, 1], [uneven, uneven, unlabelled]),
        (spread(json!({"labelSelector": {"matchLabels": {"app": "db"}}})), [5, 0], ["ok", "ok", unlabelled]),
        (spread(json!({"whenUnsatisfiable": "ScheduleAnyway"})), [5, 0], ["ok", "ok", "ok"]),
    ];
    for (spec, counts, expected) in table {
        let (profile, pod, mut state) = (profile(), labelled("p", spec.clone()), CycleState::default());
        let snapshot = Snapshot::new(vec![
            zone("a", json!({"zone": "1"}), counts[0]),
            zone("b", json!({"zone": "2"}), counts[1]),
            zone("c", json!({}), 0),
        ]);
        profile.run_pre_filter(&mut state, &pod, &snapshot).unwrap();
        let verdicts: Vec<String> = snapshot
            .nodes()
            .iter()
            .map(|node| {
                profile.run_filter(&state, &pod, node).map_or_else(|s| s.message(), |()| "ok".to_owned())
            })
            .collect();
        assert_eq!(verdicts, expected, "{spec} {counts:?}");
        let scores = profile.run_score(&mut state, &pod, snapshot.nodes()).unwrap();
        if spec.to_string().contains("ScheduleAnyway") {
            assert!(scores[1].total > scores[0].total, "the emptier zone is better: {scores:?}");
        }
    }
}

#[tokio::test]
async fn a_pod_goes_where_its_volumes_are() {
    let volume = |name: &str, zone: &str, size: &str, extra: Value| {
        let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "zone", "operator": "In", "values": [zone]}]}]}}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let value = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}});
        Arc::new(serde_json::from_value::<PersistentVolume>(value).unwrap())
    };
    let claim = |class: &str, volume: Option<&str>| {
        let done = volume.map(|_| json!({"pv.kubernetes.io/bind-completed": "yes"}));
        let value = json!({"metadata": {"name": "data", "namespace": "d", "annotations": done},
            "spec": {"storageClassName": class, "volumeName": volume, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "5Gi"}}}});
        Arc::new(serde_json::from_value::<PersistentVolumeClaim>(value).unwrap())
    };
    let class = |name: &str, provisioner: &str, mode: &str| {
        let value =
            json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        Arc::new(serde_json::from_value::<StorageClass>(value).unwrap())
    };
    let kept = json!({"claimRef": {"namespace": "d", "name": "other"}});
    let (none, elsewhere) = (
        "node(s) didn't find available persistent volumes to bind",
        "node(s) didn't match PersistentVolume's node affinity",
    );
    let table = [
        ("bound here", claim("local", Some("v")), volume("v", "1", "9Gi", json!({})), "ok"),
        ("bound elsewhere", claim("local", Some("v")), volume("v", "2", "9Gi", json!({})), elsewhere),
        ("waits, found", claim("local", None), volume("v", "1", "9Gi", json!({})), "ok"),
        ("waits, elsewhere", claim("local", None), volume("v", "2", "9Gi", json!({})), none),
        ("waits, too small", claim("local", None), volume("v", "1", "4Gi", json!({})), none),
        ("waits, taken", claim("local", None), volume("v", "1", "9Gi", kept), none),
        ("made on demand", claim("made", None), volume("v", "2", "9Gi", json!({})), "ok"),
        (
            "bound at once",
            claim("fast", None),
            volume("v", "1", "9Gi", json!({})),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
    ];
    for (name, claim, volume, expected) in table {
        let wait = "WaitForFirstConsumer";
        let classes = vec![
            class("local", "kubernetes.io/no-provisioner", wait),
            class("made", "example.com/disk", wait),
            class("fast", "example.com/disk", "Immediate"),
        ];
        let listed = Listed { claims: vec![claim], volumes: vec![volume], classes, ..Listed::default() };
        let profile = profile_with(listed);
        let pod =
            pod("p", json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}));
        let snapshot = Snapshot::new(vec![Arc::new(node(json!({"zone": "1"}), json!({}), "2"))]);
        let mut state = CycleState::default();
        let verdict = profile
            .run_pre_filter(&mut state, &pod, &snapshot)
            .and_then(|_| profile.run_filter(&state, &pod, &snapshot.nodes()[0]))
            .and_then(|()| profile.run_reserve(&mut state, &pod, "n1"));
        assert_eq!(verdict.map_or_else(|status| status.message(), |()| "ok".to_owned()), expected, "{name}");
    }
}
