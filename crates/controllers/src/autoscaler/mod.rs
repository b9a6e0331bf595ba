//! HorizontalPodAutoscalers: scale what pods use to what they should (upstream's horizontal controller).

mod behavior;
mod evaluate;
mod metrics;
mod replicas;

use std::collections::HashMap;
use std::sync::Arc;

use client::{Cache, Event, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use parking_lot::Mutex;

use self::behavior::History;
use self::evaluate::{Invalid, Metric, combine};
use self::replicas::propose;
use crate::common::{api, conditions, discovery, time};
use crate::context::Context;
use crate::{Config, Error};

struct Controller {
    config: Arc<Config>,
    client: kube::Client,
    events: EventRecorder,
    autoscalers: Cache<HorizontalPodAutoscaler>,
    pods: Cache<Pod>,
    histories: Mutex<HashMap<ObjectKey, History>>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let autoscalers = context.informers.get::<HorizontalPodAutoscaler>();
    let pods = context.informers.get::<Pod>();
    let queue = WorkQueue::new("autoscaler");
    let changed = queue.clone();
    autoscalers.on_event(move |event| {
        // Only what a user changes: our own writes of the status must not quicken the pace.
        if !matches!(event, Event::Updated { old, new } if old.spec == new.spec) {
            changed.add(ObjectKey::of(event.object().as_ref()));
        }
    });
    autoscalers.synced().await;
    pods.synced().await;
    let controller = Arc::new(Controller {
        config: context.config.clone(),
        client: context.client.clone(),
        events: context.events.clone(),
        autoscalers: autoscalers.cache(),
        pods: pods.cache(),
        histories: Mutex::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

/// A status in the making.
struct Draft {
    status: HorizontalPodAutoscalerStatus,
}

impl Draft {
    fn say(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let known = conditions::find(self.status.conditions.as_ref(), kind);
        let since = known.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since.or_else(|| time::time(time::now())),
        };
        let list = self.status.conditions.get_or_insert_default();
        match list.iter_mut().find(|c| c.type_ == kind) {
            Some(old) => *old = condition,
            None => list.push(condition),
        }
    }
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(hpa) = self.autoscalers.get_key(key) else {
            self.histories.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let mut draft = Draft { status: hpa.status.clone().unwrap_or_default() };
        if let Err(error) = self.evaluate(key, &hpa, &mut draft).await {
            tracing::debug!(%key, %error, "autoscaler not evaluated");
        }
        self.write_status(&hpa, draft.status).await?;
        // Usage is not watched but asked for, as the metrics API has it.
        Ok(Outcome::RequeueAfter(self.config.hpa_sync_period))
    }

    async fn evaluate(
        &self,
        key: &ObjectKey,
        hpa: &HorizontalPodAutoscaler,
        draft: &mut Draft,
    ) -> Result<(), String> {
        let (scales, scale) = match self.scale_of(key, hpa).await {
            Ok(found) => found,
            Err(error) => {
                let text = error.to_string();
                let said = format!("the HPA controller was unable to get the target's current scale: {text}");
                self.events.event(hpa, EventType::Warning, "FailedGetScale", text.clone());
                draft.say("AbleToScale", "False", "FailedGetScale", &said);
                return Err(text);
            }
        };
        let text = "the HPA controller was able to get the target's current scale";
        draft.say("AbleToScale", "True", "SucceededGetScale", text);
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        draft.status.current_replicas = Some(current);
        let least = hpa.spec.min_replicas.unwrap_or(1);
        let (wanted, why) = if current == 0 && least != 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            draft.say("ScalingActive", "False", "ScalingDisabled", text);
            draft.status.desired_replicas = 0;
            return Ok(());
        } else if current > hpa.spec.max_replicas {
            (hpa.spec.max_replicas, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < least {
            (least, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            self.ask_metrics(key, hpa, &scale, current, draft).await?
        };
        draft.status.desired_replicas = wanted;
        if wanted != current {
            self.rescale(hpa, &scales, &scale, (current, wanted), &why, draft).await?;
        }
        Ok(())
    }

    async fn scale_of(
        &self,
        key: &ObjectKey,
        hpa: &HorizontalPodAutoscaler,
    ) -> Result<(Api<DynamicObject>, Scale), Error> {
        let target = &hpa.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or("v1");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let found = discovery::discover(&self.client).await?;
        let resource =
            found.resources.iter().find(|f| f.group == group && f.kind == target.kind).ok_or_else(|| {
                Error::Again(format!("no matches for kind {:?} in group {group:?}", target.kind))
            })?;
        let objects: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), key.namespace_or_empty(), &resource.api_resource());
        let scale = objects.get_scale(&target.name).await?;
        Ok((objects, scale))
    }

    /// The replicas that the metrics ask for, within limits, and which metric it was.
    async fn ask_metrics(
        &self,
        key: &ObjectKey,
        hpa: &HorizontalPodAutoscaler,
        scale: &Scale,
        current: i32,
        draft: &mut Draft,
    ) -> Result<(i32, String), String> {
        let selector = scale.status.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
        if selector.is_empty() {
            let text = "the HPA target's scale is missing a selector";
            self.events.event(hpa, EventType::Warning, "SelectorRequired", text);
            draft.say("ScalingActive", "False", "InvalidSelector", text);
            return Err(text.to_owned());
        }
        let mut proposals = Vec::new();
        let mut statuses: Vec<MetricStatus> = Vec::new();
        for metric in evaluate::metrics(hpa) {
            let proposal = match metric {
                Ok(metric) => self.ask(key, hpa, &selector, current, &metric, &mut statuses).await,
                Err(invalid) => Err(invalid),
            };
            if let Err(invalid) = &proposal {
                self.events.event(hpa, EventType::Warning, invalid.reason, invalid.message.clone());
            }
            proposals.push(proposal);
        }
        let (name, asked) = match combine(current, &proposals) {
            Ok(asked) => asked,
            Err(invalid) => {
                let first =
                    proposals.iter().find_map(|p| p.as_ref().err()).map_or("", |i| i.message.as_str());
                let said = format!("the HPA was unable to compute the replica count: {first}");
                draft.say("ScalingActive", "False", invalid.reason, &said);
                let text = invalid.message.clone();
                self.events.event(hpa, EventType::Warning, "FailedComputeMetricsReplicas", text);
                return Err(invalid.message);
            }
        };
        let text = format!("the HPA was able to successfully calculate a replica count from {name}");
        draft.say("ScalingActive", "True", "ValidMetricFound", &text);
        draft.status.current_metrics = Some(statuses).filter(|s| !s.is_empty());
        let window = self.config.hpa_downscale_stabilization.as_secs() as i64;
        let (wanted, said) = {
            let mut histories = self.histories.lock();
            let history = histories.entry(key.clone()).or_default();
            behavior::limit(&hpa.spec, current, asked, history, window, time::now())
        };
        for (kind, status, reason, message) in said {
            draft.say(kind, status, reason, message);
        }
        let why = if wanted > current {
            format!("{name} above target")
        } else {
            "All metrics below target".to_owned()
        };
        Ok((wanted, why))
    }

    async fn ask(
        &self,
        key: &ObjectKey,
        hpa: &HorizontalPodAutoscaler,
        selector: &str,
        current: i32,
        metric: &Metric,
        statuses: &mut Vec<MetricStatus>,
    ) -> Result<(String, i32), Invalid> {
        let what = if metric.container.is_some() { "container resource" } else { metric.resource.as_str() };
        let invalid = |why: String| Invalid {
            reason: metric.failure(),
            message: format!("failed to get {what} utilization: {why}"),
        };
        let namespace = key.namespace_or_empty();
        let samples =
            metrics::resource(&self.client, namespace, selector, metric.what()).await.map_err(invalid)?;
        let pods = self.selected(namespace, selector);
        let tolerance = self.tolerance(hpa);
        let proposal =
            propose(current, &pods, &samples, metric.what(), metric.target, tolerance, time::now())
                .map_err(invalid)?;
        statuses.push(metric.status(proposal));
        Ok((metric.name(), proposal.replicas))
    }

    fn tolerance(&self, hpa: &HorizontalPodAutoscaler) -> (f64, f64) {
        let behavior = hpa.spec.behavior.clone().unwrap_or_default();
        let of = |rules: Option<k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
            let text = rules.and_then(|r| r.tolerance)?;
            Some(base::Quantity::parse(&text.0).ok()?.nanos() as f64 / 1e9)
        };
        let default = self.config.hpa_tolerance;
        (of(behavior.scale_down).unwrap_or(default), of(behavior.scale_up).unwrap_or(default))
    }

    /// The pods that a selector in text form selects.
    fn selected(&self, namespace: &str, selector: &str) -> Vec<Arc<Pod>> {
        let Some(matcher) = crate::common::selector::Matcher::parse(selector) else { return Vec::new() };
        let mut pods = self.pods.list_namespace(namespace);
        pods.retain(|pod| matcher.matches(pod.metadata.labels.as_ref()));
        pods
    }

    async fn rescale(
        &self,
        hpa: &HorizontalPodAutoscaler,
        scales: &Api<DynamicObject>,
        scale: &Scale,
        (from, to): (i32, i32),
        why: &str,
        draft: &mut Draft,
    ) -> Result<(), String> {
        let mut wanted = scale.clone();
        wanted.spec.get_or_insert_default().replicas = Some(to);
        let name = &hpa.spec.scale_target_ref.name;
        if let Err(error) = replace_scale(scales, name, &wanted).await {
            let text = api::message(&error);
            let said = format!("New size: {to}; reason: {why}; error: {text}");
            self.events.event(hpa, EventType::Warning, "FailedRescale", said);
            let said = format!("the HPA controller was unable to update the target scale: {text}");
            draft.say("AbleToScale", "False", "FailedUpdateScale", &said);
            draft.status.desired_replicas = from;
            return Err(text);
        }
        let said = format!("the HPA controller was able to update the target scale to {to}");
        draft.say("AbleToScale", "True", "SucceededRescale", &said);
        self.events.event(
            hpa,
            EventType::Normal,
            "SuccessfulRescale",
            format!("New size: {to}; reason: {why}"),
        );
        self.histories.lock().entry(ObjectKey::of(hpa)).or_default().changed(from, to, time::now());
        draft.status.last_scale_time = time::time(time::now());
        Ok(())
    }

    async fn write_status(
        &self,
        hpa: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) -> Result<(), Error> {
        if hpa.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = ObjectKey::of(hpa);
        let autoscalers: Api<HorizontalPodAutoscaler> =
            Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let wanted = HorizontalPodAutoscaler { status: Some(status), ..hpa.clone() };
        api::ignore_not_found(autoscalers.replace_status(&key.name, &PostParams::default(), &wanted).await)?;
        Ok(())
    }
}

async fn replace_scale(scales: &Api<DynamicObject>, name: &str, scale: &Scale) -> Result<(), kube::Error> {
    scales.replace_scale(name, &PostParams::default(), scale).await.map(drop)
}
