//! Jobs step by step: what is planned, what is counted, how they end.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::act::Done;
use super::backoff::Record;
use super::observed::{INDEX, INDEX_FAILURES, Observed, TRACKING_FINALIZER};
use super::plan::{NewPod, condition, is_complete, plan};
use super::{counts, track};
use crate::common::pods;
use crate::common::testing::{PodBuilder, at, object, pod};

fn job(spec: Value, status: Value) -> Arc<Job> {
    let mut whole = json!({"parallelism": 2, "completions": 3, "backoffLimit": 6,
        "template": {"spec": {"restartPolicy": "Never", "containers": []}}});
    for (name, value) in spec.as_object().unwrap() {
        whole[name] = value.clone();
    }
    Arc::new(object(
        json!({"metadata": {"name": "j", "namespace": "ns", "uid": "j"}, "spec": whole, "status": status}),
    ))
}

fn tracked(name: &str) -> PodBuilder {
    pod(name).with("/metadata", "finalizers", json!([TRACKING_FINALIZER]))
}

fn indexed(name: &str, index: i32) -> PodBuilder {
    tracked(name).with("/metadata", "annotations", json!({INDEX: index.to_string()}))
}

fn ended(pod: PodBuilder, phase: &str, code: i32) -> PodBuilder {
    pod.phase(phase).with("/status", "containerStatuses", json!([{"name": "c", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}}}]))
}

fn observe(job: &Arc<Job>, pods: Vec<PodBuilder>) -> Observed {
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(|p| Arc::new(p.build())).collect();
    Observed::new(job.clone(), pods, HashSet::new(), at("2026-01-01T01:00:00Z"))
}

/// What a plan does with pods, in words.
fn moves(observed: &Observed) -> String {
    let planned = plan(observed, Record::default(), true);
    if let Some(over) = &planned.over {
        return format!("over: {} {}", over.reason.as_deref().unwrap(), planned.delete.len());
    }
    let created: Vec<String> =
        planned.create.iter().map(|p| p.index.map_or("+".to_owned(), |i| format!("+{i}"))).collect();
    let deleted: Vec<String> = planned.delete.iter().map(|p| format!("-{}", pods::name(p))).collect();
    [created, deleted].concat().join(" ")
}

#[test]
fn pods_are_made_up_to_parallelism_and_completions() {
    let plain = job(json!({}), json!({}));
    let with = |spec: Value, status: Value| job(spec, status);
    for (job, pods, expected) in [
        (plain.clone(), vec![], "+ +"),
        (plain.clone(), vec![tracked("a").running()], "+"),
        (plain.clone(), vec![tracked("a").running(), tracked("b").running()], ""),
        (plain.clone(), vec![ended(tracked("a"), "Succeeded", 0)], "+ +"),
        (with(json!({}), json!({"succeeded": 2})), vec![], "+"),
        (
            with(json!({"parallelism": 1}), json!({})),
            vec![tracked("a").running(), tracked("b").phase("Pending")],
            "-b",
        ),
        (with(json!({"suspend": true}), json!({})), vec![tracked("a").running()], "-a"),
        (with(json!({"completions": null}), json!({"succeeded": 1})), vec![tracked("a").running()], ""),
        (plain.clone(), vec![tracked("a").running().leaving()], "+ +"),
        (
            with(json!({"podReplacementPolicy": "Failed"}), json!({})),
            vec![tracked("a").running().leaving()],
            "+",
        ),
    ] {
        assert_eq!(moves(&observe(&job, pods)), expected, "{job:?}");
    }
}

#[test]
fn indexed_jobs_fill_their_indexes_and_remove_doubles() {
    let job_of = |status: Value| job(json!({"completionMode": "Indexed", "parallelism": 3}), status);
    for (status, pods, expected) in [
        (json!({}), vec![], "+0 +1 +2"),
        (json!({"completedIndexes": "1", "succeeded": 1}), vec![indexed("a", 0).running()], "+2"),
        (json!({}), vec![indexed("a", 0).ready(), indexed("b", 0).phase("Pending")], "-b"),
        (json!({}), vec![indexed("a", 7).running()], "-a"),
    ] {
        assert_eq!(moves(&observe(&job_of(status), pods)), expected);
    }
}

#[test]
fn jobs_end_by_their_limits() {
    let failed = |n: usize| (0..n).map(|i| ended(tracked(&format!("f{i}")), "Failed", 1)).collect::<Vec<_>>();
    let restarting = vec![tracked("a").running().with(
        "/status",
        "containerStatuses",
        json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 2}]),
    )];
    let policy = json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]}});
    let indexed_spec = |extra: Value| {
        let mut spec = json!({"completionMode": "Indexed", "parallelism": 3, "backoffLimit": i32::MAX});
        for (name, value) in extra.as_object().unwrap() {
            spec[name] = value.clone();
        }
        spec
    };
    let limit = |n: i32| json!({"backoffLimit": n});
    for (spec, status, pods, expected) in [
        (limit(1), json!({}), failed(2), "over: BackoffLimitExceeded 0"),
        (limit(0), json!({"failed": 1}), vec![tracked("a").running()], "over: BackoffLimitExceeded 1"),
        (
            json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}}),
            json!({}),
            restarting,
            "over: BackoffLimitExceeded 1",
        ),
        (
            json!({"activeDeadlineSeconds": 60}),
            json!({"startTime": "2026-01-01T00:00:00Z"}),
            vec![tracked("a").running()],
            "over: DeadlineExceeded 1",
        ),
        (policy, json!({}), failed(1), "over: PodFailurePolicy 0"),
        (
            indexed_spec(json!({"backoffLimitPerIndex": 0})),
            json!({"completedIndexes": "0,1", "succeeded": 2}),
            vec![ended(indexed("a", 2), "Failed", 1)],
            "over: FailedIndexes 0",
        ),
        (
            indexed_spec(json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0})),
            json!({}),
            vec![ended(indexed("a", 2), "Failed", 1)],
            "over: MaxFailedIndexesExceeded 0",
        ),
        (
            indexed_spec(json!({"successPolicy": {"rules": [{"succeededIndexes": "0"}]}})),
            json!({}),
            vec![ended(indexed("a", 0), "Succeeded", 0), indexed("b", 1).running()],
            "over: SuccessPolicy 1",
        ),
    ] {
        assert_eq!(moves(&observe(&job(spec, status), pods)), expected);
    }
}

#[test]
fn a_failed_index_is_tried_again_with_its_count() {
    let spec = json!({"completionMode": "Indexed", "completions": 1, "backoffLimitPerIndex": 3, "backoffLimit": i32::MAX});
    let job = job(spec, json!({}));
    let failed = || {
        ended(tracked("a"), "Failed", 1).with(
            "/metadata",
            "annotations",
            json!({INDEX: "0", INDEX_FAILURES: "1"}),
        )
    };
    let observed = observe(&job, vec![failed()]);
    let planned = plan(&observed, Record::default(), true);
    assert_eq!(planned.create, [NewPod { index: Some(0), failures: Some((2, 0)) }]);
    // Until the next pod exists the failed one stays: it holds the count.
    let step = track::note(&observed, observed.status.clone(), None, &planned.kept);
    assert!(step.release.is_empty());
    let observed = observe(&job, vec![failed(), indexed("b", 0).running()]);
    let planned = plan(&observed, Record::default(), true);
    let step = track::note(&observed, observed.status.clone(), None, &planned.kept);
    assert_eq!(step.release.len(), 1);
}

#[test]
fn failures_are_waited_for() {
    let job = job(json!({}), json!({}));
    let mut observed = observe(&job, vec![ended(tracked("a"), "Failed", 1)]);
    observed.now = at("2026-01-01T00:00:04Z");
    let record = Record::default().after(observed.newly_succeeded(), observed.newly_failed(), observed.now);
    let planned = plan(&observed, record, true);
    assert_eq!((planned.create.len(), planned.requeue.map(|d| d.as_secs())), (0, Some(6)));
}

#[test]
fn finished_pods_are_noted_released_and_counted_once() {
    let job_of = |status: Value| job(json!({"completions": 1}), status);
    let observed = observe(&job_of(json!({})), vec![ended(tracked("a"), "Succeeded", 0)]);
    assert!(is_complete(&observed, 0));
    let status = counts(&observed, &Done::default());
    let over = condition("SuccessCriteriaMet", "CompletionsReached", "done", observed.now);
    let mut step = track::note(&observed, status, Some(&over), &Default::default());
    let noted = step.status.uncounted_terminated_pods.clone().unwrap().succeeded;
    assert_eq!(noted.as_deref(), Some(&["uid-a".to_owned()][..]));
    assert!(
        !track::finish(&mut step.status, step.end.as_ref(), observed.now),
        "not while a pod is uncounted"
    );
    // The same again, as after a crash between note and release: noted, not counted, and not noted twice.
    let again = Observed {
        status: step.status.clone(),
        ..observe(&observed.job, vec![ended(tracked("a"), "Succeeded", 0)])
    };
    assert_eq!(again.succeeded(), 1);
    let second = track::note(&again, again.status.clone(), Some(&over), &Default::default());
    assert_eq!(second.status.uncounted_terminated_pods, step.status.uncounted_terminated_pods);
    step.holding.clear();
    track::count_released(&mut step.status, &step.holding);
    assert_eq!(step.status.succeeded, Some(1));
    assert!(track::finish(&mut step.status, step.end.as_ref(), observed.now));
    let kinds: Vec<&str> = step.status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds, ["SuccessCriteriaMet", "Complete"]);
    assert_eq!(step.status.completion_time.as_ref().map(|t| t.0), Some(observed.now));
}

#[test]
fn a_job_ends_only_when_no_pod_terminates() {
    let observed = observe(
        &job(json!({"backoffLimit": 0}), json!({})),
        vec![ended(tracked("a"), "Failed", 1), tracked("b").running()],
    );
    let planned = plan(&observed, Record::default(), true);
    let done = Done { deleted: (1, 0), ..Done::default() };
    let step = track::note(&observed, counts(&observed, &done), planned.over.as_ref(), &planned.kept);
    assert_eq!(step.release.len(), 2);
    assert_eq!(step.status.uncounted_terminated_pods.clone().unwrap().failed.unwrap().len(), 2);
    let mut status = step.status.clone();
    track::count_released(&mut status, &HashSet::new());
    assert_eq!((status.failed, status.terminating), (Some(2), Some(1)));
    assert!(!track::finish(&mut status, step.end.as_ref(), observed.now));
}
