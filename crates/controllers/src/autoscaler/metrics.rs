//! What pods use, as the resource metrics API says it.

use std::collections::BTreeMap;

use base::Quantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;

use super::replicas::{Sample, What};
use crate::common::api;

#[derive(Debug, Clone, Deserialize)]
struct PodMetrics {
    metadata: Name,
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Clone, Deserialize)]
struct Name {
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct List {
    items: Vec<PodMetrics>,
}

/// The samples of the pods that `selector` selects, by name. An error says why there are none.
pub async fn resource(
    client: &kube::Client,
    namespace: &str,
    selector: &str,
    what: What<'_>,
) -> Result<BTreeMap<String, Sample>, String> {
    let unable = |why: String| {
        format!(
            "unable to get metrics for resource {}: unable to fetch metrics from resource metrics API: {why}",
            what.resource
        )
    };
    let url = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let request =
        Request::new(url).list(&ListParams::default().labels(selector)).map_err(|e| unable(e.to_string()))?;
    let list: List = client.request(request).await.map_err(|error| {
        unable(match &error {
            error if api::is_not_found(error) => {
                "the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned()
            }
            error => api::message(error),
        })
    })?;
    if list.items.is_empty() {
        return Err(format!("no metrics returned from resource metrics API for resource {}", what.resource));
    }
    Ok(list.items.into_iter().filter_map(|pod| sample(pod, what)).collect())
}

/// A pod counts only if all its containers are measured.
fn sample(pod: PodMetrics, what: What<'_>) -> Option<(String, Sample)> {
    let mut milli = 0;
    let mut found = false;
    for container in pod.containers.iter().filter(|c| what.container.is_none_or(|name| c.name == name)) {
        milli += Quantity::parse(container.usage.get(what.resource)?).ok()?.milli_value();
        found = true;
    }
    let window = pod.window.parse::<SignedDuration>().unwrap_or(SignedDuration::from_secs(60));
    found.then_some((pod.metadata.name, Sample { at: pod.timestamp, window, milli }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn containers_are_summed_or_chosen() {
        let pod: PodMetrics = object(
            json!({"metadata": {"name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
            "containers": [{"name": "a", "usage": {"cpu": "100m"}}, {"name": "b", "usage": {"cpu": "50000000n"}}]}),
        );
        let (_, all) = sample(pod.clone(), What { resource: "cpu", container: None }).unwrap();
        assert_eq!((all.milli, all.window), (150, SignedDuration::from_secs(30)));
        let (_, one) = sample(pod.clone(), What { resource: "cpu", container: Some("b") }).unwrap();
        assert_eq!(one.milli, 50);
        assert!(sample(pod, What { resource: "memory", container: None }).is_none());
    }
}
