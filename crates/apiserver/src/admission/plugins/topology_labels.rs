//! PodTopologyLabels (KEP-4742): a pod that is bound takes the zone and region of its node as labels.

use async_trait::async_trait;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::ApiResult;

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// See the module.
pub struct PodTopologyLabels;

#[async_trait]
impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation) -> bool {
        // A binding comes as the change of the pod that it is.
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let pods = attributes.resource.group.is_empty() && attributes.resource.resource == "pods";
        let binding = attributes.subresource == "binding";
        let created = attributes.subresource.is_empty() && attributes.operation == Operation::Create;
        if !pods || !(binding || created) {
            return Ok(());
        }
        let bound = ["spec.nodeName", "target.name"].iter().find_map(|path| attributes.object.str_at(path));
        let Some(node) = bound.filter(|node| !node.is_empty()) else { return Ok(()) };
        let Some(node) = registry.find("", "nodes", "", node)? else { return Ok(()) };
        for label in LABELS {
            let Some(value) = node.map_at("metadata.labels").and_then(|labels| labels.get(label)) else {
                continue;
            };
            let labels = attributes.object.make_map().entry_map("metadata").entry_map("labels");
            labels.insert(label, value.clone());
        }
        Ok(())
    }
}
