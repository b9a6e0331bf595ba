//! UpdateContainerResources.

use std::sync::Arc;

use proto::cri::v1::LinuxContainerResources;
use serde_json::Value;
use shim::Shim;

use super::{ContainerPhase, write_spec};
use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::spec::linux_resources;

impl Node {
    /// Changes limits; those not mentioned stay as they are.
    pub async fn update_resources(self: &Arc<Self>, id: &str, asked: LinuxContainerResources) -> Result<()> {
        let container = self.container(id)?;
        let _turn = container.turn.lock().await;
        let phase = container.record.with(|r| r.phase);
        let json = linux_resources(Some(&asked), &self.host);
        match phase {
            ContainerPhase::Running => {
                let sandbox = self.sandbox(&container.sandbox_id)?;
                let shim = Shim::connect(&sandbox.shim_dir()).await?;
                shim.update_container(&container.id, json.clone()).await?;
            }
            ContainerPhase::Created => {}
            ContainerPhase::Exited => {
                return Err(Error::FailedPrecondition(format!(
                    "container {:?} is in CONTAINER_EXITED state",
                    container.id
                )));
            }
        }
        let path = container.spec_path();
        blocking(move || {
            let mut spec: Value = disk::read_json(&path)?.unwrap_or_default();
            merge(&mut spec["linux"]["resources"], json);
            write_spec(&path, &spec)
        })
        .await?;
        container
            .record
            .update(move |r| {
                let linux = r.config.linux.get_or_insert_default();
                merge_cri(linux.resources.get_or_insert_default(), asked);
                Some(())
            })
            .await?;
        Ok(())
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn merge_cri(into: &mut LinuxContainerResources, from: LinuxContainerResources) {
    let number = |into: &mut i64, from: i64| {
        if from != 0 {
            *into = from;
        }
    };
    number(&mut into.cpu_period, from.cpu_period);
    number(&mut into.cpu_quota, from.cpu_quota);
    number(&mut into.cpu_shares, from.cpu_shares);
    number(&mut into.memory_limit_in_bytes, from.memory_limit_in_bytes);
    number(&mut into.memory_swap_limit_in_bytes, from.memory_swap_limit_in_bytes);
    number(&mut into.oom_score_adj, from.oom_score_adj);
    if !from.cpuset_cpus.is_empty() {
        into.cpuset_cpus = from.cpuset_cpus;
    }
    if !from.cpuset_mems.is_empty() {
        into.cpuset_mems = from.cpuset_mems;
    }
    if !from.hugepage_limits.is_empty() {
        into.hugepage_limits = from.hugepage_limits;
    }
    into.unified.extend(from.unified);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_mentioned_stays() {
        let mut spec = json!({"cpu": {"shares": 2, "quota": 5}, "memory": {"limit": 1}});
        merge(&mut spec, json!({"cpu": {"quota": 9}, "unified": {"a": "b"}}));
        let expect = json!({"cpu": {"shares": 2, "quota": 9}, "memory": {"limit": 1}, "unified": {"a": "b"}});
        assert_eq!(spec, expect);
        let mut kept = LinuxContainerResources { cpu_shares: 2, cpu_quota: 5, ..Default::default() };
        merge_cri(&mut kept, LinuxContainerResources { cpu_quota: 9, ..Default::default() });
        assert_eq!((kept.cpu_shares, kept.cpu_quota), (2, 9));
    }
}
