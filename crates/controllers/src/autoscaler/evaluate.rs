//! What an autoscaler's metrics ask for together.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use base::Quantity;

use super::replicas::{Proposal, Target, What};

/// The metric that is used if none is given: CPU at 80 %.
const DEFAULT_UTILIZATION: i32 = 80;

/// Why a metric could not be used: the reason of condition and event, and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// `FailedGetResourceMetric`, …
    pub reason: &'static str,
    /// What went wrong.
    pub message: String,
}

/// A metric that can be evaluated.
#[derive(Debug, Clone)]
pub struct Metric {
    /// The resource.
    pub resource: String,
    /// One container, or all.
    pub container: Option<String>,
    /// What is asked for.
    pub target: Target,
}

impl Metric {
    /// What is measured.
    pub fn what(&self) -> What<'_> {
        What { resource: &self.resource, container: self.container.as_deref() }
    }

    /// Its name in reasons of events.
    pub fn name(&self) -> String {
        let of = self.container.as_ref().map(|c| format!("container {c} ")).unwrap_or_default();
        match self.target {
            Target::Utilization(_) => {
                format!("{}{of}resource utilization (percentage of request)", self.prefix())
            }
            Target::Average(_) => format!("{}{of}resource", self.prefix()),
        }
    }

    fn prefix(&self) -> String {
        format!("{} ", self.resource)
    }

    /// The reason if it cannot be had.
    pub fn failure(&self) -> &'static str {
        if self.container.is_some() { "FailedGetContainerResourceMetric" } else { "FailedGetResourceMetric" }
    }

    /// What the status says of it.
    pub fn status(&self, proposal: Proposal) -> MetricStatus {
        let average = Quantity::from_milli(proposal.average_milli).to_string();
        let current = MetricValueStatus {
            average_utilization: proposal.utilization,
            average_value: Some(ApiQuantity(average)),
            value: None,
        };
        match &self.container {
            Some(container) => MetricStatus {
                type_: "ContainerResource".to_owned(),
                container_resource: Some(ContainerResourceMetricStatus {
                    container: container.clone(),
                    name: self.resource.clone(),
                    current,
                }),
                ..MetricStatus::default()
            },
            None => MetricStatus {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricStatus { name: self.resource.clone(), current }),
                ..MetricStatus::default()
            },
        }
    }
}

/// The metrics of an autoscaler, each usable or not.
pub fn metrics(hpa: &HorizontalPodAutoscaler) -> Vec<Result<Metric, Invalid>> {
    let specs = hpa.spec.metrics.clone().unwrap_or_default();
    if specs.is_empty() {
        let target = Target::Utilization(DEFAULT_UTILIZATION);
        return vec![Ok(Metric { resource: "cpu".to_owned(), container: None, target })];
    }
    specs.iter().map(metric).collect()
}

fn metric(spec: &MetricSpec) -> Result<Metric, Invalid> {
    let unsupported = |reason: &'static str, name: &str, api: &str| {
        let message = format!(
            "unable to get metric {name}: unable to fetch metrics from {api} metrics API: the {api} metrics API is not \
             supported by this controller"
        );
        Err(Invalid { reason, message })
    };
    if let Some(source) = &spec.resource {
        let target = target(&source.target, "FailedGetResourceMetric")?;
        return Ok(Metric { resource: source.name.clone(), container: None, target });
    }
    if let Some(source) = &spec.container_resource {
        let target = target(&source.target, "FailedGetContainerResourceMetric")?;
        return Ok(Metric {
            resource: source.name.clone(),
            container: Some(source.container.clone()),
            target,
        });
    }
    match (&spec.pods, &spec.object, &spec.external) {
        (Some(source), _, _) => unsupported("FailedGetPodsMetric", &source.metric.name, "custom"),
        (_, Some(source), _) => unsupported("FailedGetObjectMetric", &source.metric.name, "custom"),
        (_, _, Some(source)) => unsupported("FailedGetExternalMetric", &source.metric.name, "external"),
        _ => Err(Invalid {
            reason: "InvalidMetricSourceType",
            message: format!("unknown metric source type {:?}", spec.type_),
        }),
    }
}

fn target(target: &MetricTarget, reason: &'static str) -> Result<Target, Invalid> {
    let average = target.average_value.as_ref().and_then(|q| Quantity::parse(&q.0).ok());
    match (target.average_utilization, average) {
        (_, Some(average)) => Ok(Target::Average(average.milli_value())),
        (Some(percent), None) => Ok(Target::Utilization(percent)),
        _ => {
            let message = "invalid resource metric source: neither an average utilization nor an average value target was set";
            Err(Invalid { reason, message: message.to_owned() })
        }
    }
}

/// What all metrics together ask for: the most of them. If some cannot be used nothing shrinks.
pub fn combine(current: i32, proposals: &[Result<(String, i32), Invalid>]) -> Result<(String, i32), Invalid> {
    let best = proposals.iter().flatten().max_by_key(|(_, replicas)| *replicas);
    let first = proposals.iter().find_map(|p| p.as_ref().err());
    match (best, first) {
        (Some((name, replicas)), None) => Ok((name.clone(), *replicas)),
        (Some((name, replicas)), Some(_)) if *replicas >= current => Ok((name.clone(), *replicas)),
        (_, Some(first)) => {
            let invalid = proposals.iter().filter(|p| p.is_err()).count();
            let message = format!(
                "invalid metrics ({invalid} invalid out of {}), first error is: {}",
                proposals.len(),
                first.message
            );
            Err(Invalid { reason: first.reason, message })
        }
        (None, None) => {
            Err(Invalid { reason: "FailedComputeMetricsReplicas", message: "no metrics".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn the_most_counts_and_doubt_keeps() {
        let ok = |n: i32| Ok(("m".to_owned(), n));
        let bad = || Err(Invalid { reason: "FailedGetResourceMetric", message: "x".to_owned() });
        assert_eq!(combine(3, &[ok(2), ok(5)]).unwrap().1, 5);
        assert_eq!(combine(3, &[ok(5), bad()]).unwrap().1, 5);
        let error = combine(3, &[ok(2), bad()]).unwrap_err();
        assert_eq!(error.message, "invalid metrics (1 invalid out of 2), first error is: x");
    }

    #[test]
    fn metric_specs_are_read() {
        let hpa = |metrics: serde_json::Value| -> HorizontalPodAutoscaler {
            object(json!({"metadata": {}, "spec": {"maxReplicas": 3, "metrics": metrics,
                "scaleTargetRef": {"kind": "Deployment", "name": "web"}}}))
        };
        let read = metrics(&hpa(json!([{"type": "Resource", "resource": {"name": "memory",
            "target": {"type": "AverageValue", "averageValue": "100Mi"}}}])));
        assert!(matches!(read[0].as_ref().unwrap().target, Target::Average(104_857_600_000)));
        assert_eq!(metrics(&hpa(json!([])))[0].as_ref().unwrap().resource, "cpu");
        let custom = metrics(&hpa(
            json!([{"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value"}}}]),
        ));
        assert_eq!(custom[0].as_ref().unwrap_err().reason, "FailedGetExternalMetric");
    }
}
