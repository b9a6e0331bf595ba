//! Having a Node object: made, or taken over if it is there.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use super::{NodeFacts, info, node_status};
use crate::config::Config;

const ATTACH_DETACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// First and longest pause between tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(7));

/// Creates the Node or takes over the one that is there; tries until the API server answers. A new one is created with
/// its whole status, so that it is Ready with its first sight; whether it was there before is told with it.
pub async fn register(client: &kube::Client, config: &Config, facts: impl Fn() -> NodeFacts) -> (Node, bool) {
    let api: Api<Node> = Api::all(client.clone());
    let mut pause = PAUSE.0;
    loop {
        match try_register(&api, config, facts()).await {
            Ok(node) => return node,
            Err(error) => tracing::warn!(%error, "cannot register the node yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn try_register(
    api: &Api<Node>,
    config: &Config,
    facts: NodeFacts,
) -> Result<(Node, bool), kube::Error> {
    let wanted = initial(config, facts);
    if !config.register_node {
        return Ok((api.get(&config.node_name).await?, true));
    }
    match api.create(&PostParams::default(), &wanted).await {
        Ok(node) => {
            tracing::info!(node = config.node_name, "registered the node");
            Ok((node, false))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok((adopt(api, &wanted).await?, true)),
        Err(error) => Err(error),
    }
}

fn initial(config: &Config, facts: NodeFacts) -> Node {
    let mut labels = info::default_labels(&config.node_name);
    labels.extend(config.node_labels.clone());
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            annotations: Some([(ATTACH_DETACH.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.register_with_taints.is_empty()).then(|| config.register_with_taints.clone()),
            provider_id: config.provider_id.clone(),
            ..NodeSpec::default()
        }),
        status: Some(node_status(None, &facts)),
    }
}

/// Gives a Node that is there the labels that this kubelet has for it.
async fn adopt(api: &Api<Node>, wanted: &Node) -> Result<Node, kube::Error> {
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let there = api.get(name).await?;
    let missing = |want: &Option<std::collections::BTreeMap<String, String>>,
                   have: &Option<std::collections::BTreeMap<String, String>>| {
        let have = have.clone().unwrap_or_default();
        let wrong = want.iter().flatten().filter(|(key, value)| have.get(*key) != Some(value));
        wrong.map(|(key, value)| (key.clone(), value.clone())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let labels = missing(&wanted.metadata.labels, &there.metadata.labels);
    let annotations = missing(&wanted.metadata.annotations, &there.metadata.annotations);
    if labels.is_empty() && annotations.is_empty() {
        return Ok(there);
    }
    let patch = serde_json::json!({"metadata": {"labels": labels, "annotations": annotations}});
    api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await
}
