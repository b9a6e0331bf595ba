//! DefaultBinder: binds by the `binding` subresource.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status as ApiStatus};

use crate::framework::{Bind, CycleState, Plugin, Points, Status, Verdict};
use crate::pod_info::PodInfo;

/// Tells the API server which node a pod has.
pub struct DefaultBinder {
    client: kube::Client,
}

impl DefaultBinder {
    /// Binds with `client`.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    async fn post(&self, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name().to_owned()),
                namespace: Some(pod.namespace().to_owned()),
                uid: Some(pod.uid().to_owned()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace(), pod.name());
        let body = serde_json::to_vec(&binding).map_err(kube::Error::SerdeError)?;
        let request = Request::post(path).header("content-type", "application/json").body(body);
        let request = request.map_err(kube::Error::HttpError)?;
        self.client.request::<ApiStatus>(request).await.map(drop)
    }
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { bind: Some(self), ..Points::default() }
    }
}

/// What the API server says; anything else about its answer is nobody's business.
fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl Bind for DefaultBinder {
    fn bind<'a>(&'a self, _: &'a CycleState, pod: &'a PodInfo, node: &'a str) -> BoxFuture<'a, Verdict> {
        self.post(pod, node).map(|result| result.map_err(|e| Status::error(said(e)))).boxed()
    }
}
