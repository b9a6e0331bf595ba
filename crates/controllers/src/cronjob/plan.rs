//! What a cron job has to start, stop and note.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::schedule::Schedule;
use crate::common::{owner, time};
use crate::job::end_of;

/// The instant, in the cron job's time zone, that a job was made for.
const SCHEDULED_ANNOTATION: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Added to the wait for the next time, so that it has come for sure.
const NEXT_DELTA: Duration = Duration::from_millis(100);
/// More missed times than this are said to be too many.
const MANY_MISSED: i64 = 100;

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Jobs of history that are no longer kept.
    pub forget: Vec<Arc<Job>>,
    /// Running jobs that give way to a new one.
    pub replace: Vec<Arc<Job>>,
    /// The job to start, and the time that it is for.
    pub start: Option<(Box<Job>, Timestamp)>,
    /// The status, with what has ended taken out.
    pub status: CronJobStatus,
    /// Events: warning or not, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
    /// When to look again.
    pub requeue: Option<Duration>,
}

/// What is to be done now, given the jobs that the cron job controls.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    note_jobs(cron, jobs, &mut plan);
    forget_history(cron, jobs, &mut plan);
    if cron.metadata.deletion_timestamp.is_none() && cron.spec.suspend != Some(true) {
        schedule(cron, jobs, now, &mut plan);
    }
    plan
}

fn note_jobs(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let noted = cron.status.as_ref().and_then(|s| s.active.clone()).unwrap_or_default();
    let mut active = noted.clone();
    for job in jobs {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let is_noted = noted.iter().any(|r| r.uid == job.metadata.uid);
        match (is_noted, end_of(job)) {
            (false, None) => {
                let text = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.events.push((true, "UnexpectedJob", text));
            }
            (true, Some(end)) => {
                active.retain(|r| r.uid != job.metadata.uid);
                let text = format!("Saw completed job: {name}, condition: {}", end.type_);
                plan.events.push((false, "SawCompletedJob", text));
            }
            _ => {}
        }
        let completed = job.status.as_ref().and_then(|s| s.completion_time.clone());
        if end_of(job).is_some_and(|end| end.type_ == "Complete")
            && completed > plan.status.last_successful_time
        {
            plan.status.last_successful_time = completed;
        }
    }
    active.retain(|r| {
        let there = jobs.iter().any(|job| job.metadata.uid == r.uid);
        if !there {
            let text = format!("Active job went missing: {}", r.name.as_deref().unwrap_or_default());
            plan.events.push((false, "MissingJob", text));
        }
        there
    });
    plan.status.active = Some(active).filter(|a| !a.is_empty());
}

fn forget_history(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let spec = &cron.spec;
    for (kind, limit) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { continue };
        let mut ended: Vec<&Arc<Job>> = jobs
            .iter()
            .filter(|job| {
                job.metadata.deletion_timestamp.is_none() && end_of(job).is_some_and(|e| e.type_ == kind)
            })
            .collect();
        ended.sort_by_key(|job| {
            let started = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
            (started.is_none(), started, job.metadata.name.clone())
        });
        let excess = ended.len().saturating_sub(limit);
        plan.forget.extend(ended.into_iter().take(excess).cloned());
    }
}

fn schedule(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp, plan: &mut Plan) {
    let spec = &cron.spec;
    let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
        None => TimeZone::UTC,
        Some(Ok(zone)) => zone,
        Some(Err(error)) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let text = format!("invalid timeZone: {name:?}: {error}");
            return plan.events.push((true, "UnknownTimeZone", text));
        }
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let text = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            return plan.events.push((true, "UnparseableSchedule", text));
        }
    };
    let due = most_recent(cron, now, &schedule, &zone);
    let next = schedule.next(due.map_or(now, |(at, _)| at.max(now)), &zone);
    plan.requeue = next.map(|at| time::until(now, at) + NEXT_DELTA);
    let Some((at, missed)) = due else { return };
    if missed > MANY_MISSED && spec.starting_deadline_seconds.is_none() {
        let text =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((true, "TooManyMissedTimes", text.to_owned()));
    }
    let too_late = spec.starting_deadline_seconds.is_some_and(|s| time::plus_seconds(at, s) < now);
    if too_late {
        let at = at.to_zoned(zone).strftime("%a, %d %b %Y %H:%M:%S %z");
        let text = format!("Missed scheduled time to start a job: {at}");
        return plan.events.push((true, "MissSchedule", text));
    }
    let name = job_name(cron, at);
    let active = plan.status.active.clone().unwrap_or_default();
    let started = active.iter().any(|r| r.name.as_ref() == Some(&name))
        || plan.status.last_schedule_time.as_ref().map(|t| t.0) == Some(at);
    if started {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.events.push((false, "JobAlreadyActive", text.to_owned()));
        }
        Some("Replace") => {
            let running = jobs.iter().filter(|job| active.iter().any(|r| r.uid == job.metadata.uid));
            plan.replace = running.cloned().collect();
            plan.status.active = None;
        }
        _ => {}
    }
    plan.start = Some((Box::new(new_job(cron, name, at, &zone)), at));
}

/// The last time that was due and not met, and how many were missed up to it.
fn most_recent(
    cron: &CronJob,
    now: Timestamp,
    schedule: &Schedule,
    zone: &TimeZone,
) -> Option<(Timestamp, i64)> {
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let last = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
    let mut earliest = last.map_or(created, |t| t.0);
    if let Some(seconds) = cron.spec.starting_deadline_seconds {
        earliest = earliest.max(time::plus_seconds(now, -seconds));
    }
    let first = schedule.next(earliest, zone)?;
    if now < first {
        return None;
    }
    let Some(second) = schedule.next(first, zone).filter(|second| *second <= now) else {
        return Some((first, 1));
    };
    // Long missed times are leapt over by their interval, and the rest walked through.
    let interval = time::since(first, second).as_secs().max(1);
    let count = time::since(first, now).as_secs() / interval + 1;
    let leap = SignedDuration::from_secs((count - 2).max(0) * interval);
    let start = first.checked_add(leap).ok()?;
    let mut recent = first;
    let mut next = schedule.next(start, zone);
    while let Some(at) = next.filter(|at| *at <= now) {
        recent = at;
        next = schedule.next(at, zone);
    }
    Some((recent, count))
}

/// The same time gives the same name, so that no job is started twice.
fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60)
}

fn new_job(cron: &CronJob, name: String, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let mut metadata = template.metadata.unwrap_or_default();
    let stamp = at.to_zoned(zone.clone());
    let stamp = if stamp.offset().is_zero() {
        at.to_string()
    } else {
        stamp.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    metadata.annotations.get_or_insert_default().insert(SCHEDULED_ANNOTATION.to_owned(), stamp);
    metadata.name = Some(name);
    metadata.namespace.clone_from(&cron.metadata.namespace);
    metadata.creation_timestamp = time::time(at);
    metadata.owner_references = Some(vec![owner::controller_reference(cron)]);
    Job { metadata, spec: template.spec, status: None }
}

/// The reference by which a cron job remembers a job that runs.
pub fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::{Value, json};

    fn cron(spec: Value, status: Value) -> CronJob {
        let mut whole = json!({"schedule": "0 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}},
            "spec": {"template": {}}}, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        object(
            json!({"metadata": {"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": "2026-01-01T00:30:00Z"},
            "spec": whole, "status": status}),
        )
    }

    fn job(name: &str, end: Option<&str>) -> Arc<Job> {
        let conditions: Vec<Value> = end.iter().map(|e| json!({"type": e, "status": "True"})).collect();
        Arc::new(object(json!({"metadata": {"name": name, "namespace": "ns", "uid": name},
            "status": {"conditions": conditions, "completionTime": "2026-01-01T01:05:00Z"}})))
    }

    fn started(plan: &Plan) -> Option<String> {
        plan.start.as_ref().map(|(_, at)| at.to_string())
    }

    #[test]
    fn jobs_start_on_time_once() {
        for (now, status, spec, start) in [
            ("2026-01-01T00:59:59Z", json!({}), json!({}), None),
            ("2026-01-01T01:00:00Z", json!({}), json!({}), Some("2026-01-01T01:00:00Z")),
            ("2026-01-01T05:10:00Z", json!({}), json!({}), Some("2026-01-01T05:00:00Z")),
            ("2026-01-01T01:10:00Z", json!({"lastScheduleTime": "2026-01-01T01:00:00Z"}), json!({}), None),
            ("2026-01-01T01:10:00Z", json!({}), json!({"startingDeadlineSeconds": 60}), None),
            (
                "2026-01-01T01:00:30Z",
                json!({}),
                json!({"startingDeadlineSeconds": 60}),
                Some("2026-01-01T01:00:00Z"),
            ),
            ("2026-01-01T01:10:00Z", json!({}), json!({"suspend": true}), None),
            ("2026-06-01T00:00:30Z", json!({}), json!({}), Some("2026-06-01T00:00:00Z")),
        ] {
            let planned = plan(&cron(spec.clone(), status), &[], at(now));
            assert_eq!(started(&planned).as_deref(), start, "{now} {spec}");
        }
        let planned = plan(&cron(json!({}), json!({})), &[], at("2026-01-01T00:59:00Z"));
        assert_eq!(planned.requeue, Some(Duration::from_millis(60_100)));
        let planned =
            plan(&cron(json!({"timeZone": "Asia/Kolkata"}), json!({})), &[], at("2026-01-01T01:40:00Z"));
        let (job, _) = planned.start.unwrap();
        assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED_ANNOTATION], "2026-01-01T07:00:00+05:30");
        assert_eq!(job.metadata.name.unwrap(), format!("c-{}", at("2026-01-01T01:30:00Z").as_second() / 60));
    }

    #[test]
    fn concurrency_policies() {
        let active = json!({"active": [{"name": "old", "uid": "old"}]});
        let jobs = [job("old", None)];
        for (policy, starts, replaces, keeps) in
            [("Allow", true, 0, 1), ("Forbid", false, 0, 1), ("Replace", true, 1, 0)]
        {
            let planned = plan(
                &cron(json!({"concurrencyPolicy": policy}), active.clone()),
                &jobs,
                at("2026-01-01T01:00:00Z"),
            );
            let left = planned.status.active.as_ref().map_or(0, Vec::len);
            assert_eq!(
                (planned.start.is_some(), planned.replace.len(), left),
                (starts, replaces, keeps),
                "{policy}"
            );
        }
    }

    #[test]
    fn what_has_ended_is_noted_and_forgotten() {
        let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "gone", "uid": "gone"}]});
        let jobs = [job("a", Some("Complete")), job("b", Some("Complete")), job("c", Some("Failed"))];
        let planned = plan(&cron(json!({"suspend": true}), status), &jobs, at("2026-01-01T01:10:00Z"));
        let reasons: Vec<&str> = planned.events.iter().map(|e| e.1).collect();
        assert_eq!(reasons, ["SawCompletedJob", "MissingJob"]);
        assert_eq!(planned.status.active, None);
        assert_eq!(planned.status.last_successful_time.unwrap().0, at("2026-01-01T01:05:00Z"));
        assert_eq!(
            planned.forget.iter().map(|j| j.metadata.name.clone().unwrap()).collect::<Vec<_>>(),
            ["a"]
        );
    }
}
