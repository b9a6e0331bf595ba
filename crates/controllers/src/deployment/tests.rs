//! Deployments step by step, on replica sets whose pods do what a test lets them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use serde_json::{Value, json};

use super::observed::{Observed, available, size};
use super::plan::{Action, Plan, plan};
use super::{annotations, progress};
use crate::common::conditions;
use crate::common::testing::{at, object};

/// A deployment and its replica sets, moved by plans.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    seconds: i64,
    old_pods_run: bool,
    made: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut whole = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let deployment =
            object(json!({"metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
            "spec": whole}));
        Self { deployment, sets: Vec::new(), seconds: 0, old_pods_run: false, made: 0 }
    }

    fn observed(&self) -> Observed {
        let sets = self.sets.iter().cloned().map(Arc::new).collect();
        let now = crate::common::time::plus_seconds(at("2026-01-01T00:00:00Z"), self.seconds);
        Observed::new(Arc::new(self.deployment.clone()), sets, |_| self.old_pods_run, now).unwrap()
    }

    /// Plans and carries out one step; gives what it did.
    fn step(&mut self) -> Vec<String> {
        let plan = plan(&self.observed()).unwrap();
        self.apply(plan)
    }

    fn apply(&mut self, plan: Plan) -> Vec<String> {
        let mut done = Vec::new();
        for action in plan.actions {
            match action {
                Action::Create(mut rs) => {
                    self.seconds += 1;
                    rs.metadata.uid = Some(format!("rs{}", self.made));
                    self.made += 1;
                    rs.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.observed().now));
                    done.push(format!("create {}", size(&rs)));
                    self.sets.push(*rs);
                }
                Action::Update(rs) => {
                    done.push("update".to_owned());
                    self.put(*rs);
                }
                Action::Scale { from, to } => {
                    done.push(format!(
                        "{} {}→{}",
                        from.metadata.uid.clone().unwrap(),
                        size(&from),
                        size(&to)
                    ));
                    self.put(*to);
                }
                Action::Delete(rs) => {
                    done.push(format!("delete {}", rs.metadata.uid.clone().unwrap()));
                    self.sets.retain(|s| s.metadata.uid != rs.metadata.uid);
                }
            }
        }
        if let Some(status) = plan.status {
            self.deployment.status = Some(status);
        }
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(annotations::REVISION.to_owned(), revision);
        }
        done
    }

    fn put(&mut self, rs: ReplicaSet) {
        let place = self.sets.iter_mut().find(|s| s.metadata.uid == rs.metadata.uid).unwrap();
        *place = rs;
    }

    /// Lets every replica set have its pods, all available.
    fn settle(&mut self) {
        for rs in &mut self.sets {
            let n = size(rs);
            rs.status = Some(ReplicaSetStatus {
                replicas: n,
                ready_replicas: Some(n),
                available_replicas: Some(n),
                terminating_replicas: Some(0),
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().unwrap();
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(size).collect()
    }

    fn reason(&self, kind: &str) -> Option<String> {
        let status = self.deployment.status.as_ref()?;
        conditions::find(status.conditions.as_ref(), kind)?.reason.clone()
    }

    /// Steps and settles until nothing moves.
    fn run(&mut self) {
        for _ in 0..100 {
            let before = self.deployment.status.clone();
            let idle = self.step().is_empty() && self.deployment.status == before;
            self.settle();
            if idle {
                return;
            }
        }
        panic!("never at rest: {:?}", self.sizes());
    }
}

#[test]
fn a_new_deployment_makes_one_replica_set_and_completes() {
    let mut world = World::new(json!({}));
    assert_eq!(world.step(), ["create 3"]);
    assert_eq!(world.reason(progress::PROGRESSING).as_deref(), Some("NewReplicaSetCreated"));
    assert_eq!(world.reason("Available").as_deref(), Some("MinimumReplicasUnavailable"));
    assert_eq!(world.step(), [""; 0]);
    world.settle();
    world.step();
    assert_eq!(world.reason(progress::PROGRESSING).as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(world.reason("Available").as_deref(), Some("MinimumReplicasAvailable"));
    let rs = &world.sets[0];
    let labels = rs.metadata.labels.as_ref().unwrap();
    assert_eq!(rs.metadata.name.as_deref().unwrap(), format!("web-{}", labels["pod-template-hash"]));
    let noted = rs.metadata.annotations.as_ref().unwrap();
    assert_eq!(noted["deployment.kubernetes.io/revision"], "1");
    assert_eq!(noted["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(noted["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[annotations::REVISION], "1");
}

#[test]
fn a_rolling_update_stays_within_its_bounds() {
    for (replicas, surge, unavailable) in [
        (3, json!("25%"), json!("25%")),
        (10, json!(3), json!(0)),
        (4, json!(0), json!(1)),
        (1, json!(0), json!(0)),
    ] {
        let mut world = World::new(json!({"replicas": replicas, "strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}));
        world.run();
        world.set_image("v2");
        let observed = world.observed();
        let (most, least) = (observed.max_total(), replicas - observed.max_unavailable);
        for _ in 0..200 {
            world.step();
            assert!(world.sizes().iter().sum::<i32>() <= most, "{replicas} {:?}", world.sizes());
            // Pods that shrinking takes are gone at once, those that growing makes are not available yet.
            for rs in &mut world.sets {
                let n = size(rs).min(available(rs));
                rs.status = Some(ReplicaSetStatus {
                    replicas: size(rs),
                    available_replicas: Some(n),
                    ..Default::default()
                });
            }
            assert!(world.sets.iter().map(available).sum::<i32>() >= least, "{replicas} {:?}", world.sizes());
            world.settle();
        }
        assert_eq!(world.sizes(), [0, replicas]);
        assert_eq!(world.reason(progress::PROGRESSING).as_deref(), Some("NewReplicaSetAvailable"));
    }
}

#[test]
fn going_back_to_a_template_reuses_its_replica_set_with_a_new_revision() {
    let mut world = World::new(json!({}));
    world.run();
    world.set_image("v2");
    world.run();
    world.set_image("v1");
    world.run();
    assert_eq!(world.sizes(), [3, 0]);
    let noted = world.sets[0].metadata.annotations.clone().unwrap();
    assert_eq!(noted["deployment.kubernetes.io/revision"], "3");
    assert_eq!(noted["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[annotations::REVISION], "3");
}

#[test]
fn recreate_waits_for_the_old_pods_to_be_gone() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate"}}));
    world.run();
    world.set_image("v2");
    world.old_pods_run = true;
    assert_eq!(world.step(), ["rs0 3→0"]);
    world.settle();
    assert_eq!(world.step(), [""; 0]);
    world.old_pods_run = false;
    assert_eq!(world.step(), ["create 3"]);
    world.run();
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn a_paused_deployment_scales_in_proportion_and_does_not_roll() {
    let mut world = World::new(json!({"replicas": 10, "strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    world.run();
    world.set_image("v2");
    world.step();
    // The new pods never become available: as in the documentation, 8 old and 5 new.
    for _ in 0..5 {
        world.step();
        let old = &mut world.sets[0];
        let n = size(old);
        old.status =
            Some(ReplicaSetStatus { replicas: n, available_replicas: Some(n), ..Default::default() });
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.deployment.spec.as_mut().unwrap().replicas = Some(15);
    world.step();
    assert_eq!(world.sizes(), [11, 7]);
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.step();
    assert_eq!(world.reason(progress::PROGRESSING).as_deref(), Some("DeploymentPaused"));
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn history_keeps_so_many_revisions() {
    let mut world = World::new(json!({"revisionHistoryLimit": 1}));
    for image in ["v1", "v2", "v3", "v4"] {
        world.set_image(image);
        world.run();
    }
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn a_rollout_that_stands_still_times_out() {
    let mut world = World::new(json!({"progressDeadlineSeconds": 10}));
    world.step();
    let planned = plan(&world.observed()).unwrap();
    assert_eq!(planned.requeue.map(|d| d.as_secs()), Some(10));
    world.seconds += 20;
    world.step();
    assert_eq!(world.reason(progress::PROGRESSING).as_deref(), Some("ProgressDeadlineExceeded"));
    world.settle();
    world.step();
    assert_eq!(world.reason(progress::PROGRESSING).as_deref(), Some("NewReplicaSetAvailable"));
}
