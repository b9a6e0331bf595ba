//! `/stats/summary`: usage of node and pods.

use http::{Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use proto::cri::v1::{
    ContainerStats, CpuUsage, ListPodSandboxStatsRequest, MemoryUsage, PodSandboxStats, UInt64Value,
};
use serde_json::{Map, Value, json};

use super::Server;
use super::answer::{self, Body};
use crate::node::{disk, memory_available};

/// The summary (`stats/v1alpha1`).
pub async fn summary(server: &Server) -> Response<Body> {
    match pod_stats(server).await {
        Ok(pods) => {
            let pods: Vec<Value> = pods.iter().filter_map(pod).collect();
            answer::json(&json!({"node": node(server), "pods": pods}))
        }
        Err(text) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}

/// What the runtime measured of each pod.
pub async fn pod_stats(server: &Server) -> Result<Vec<PodSandboxStats>, String> {
    let answer = server.shared.cri.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    answer.map(|a| a.stats).map_err(|e| format!("failed to list pod stats: {e}"))
}

/// CPU of the whole machine since its start, in nanoseconds, and memory in use in bytes.
pub fn node_usage(server: &Server) -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .map(|line| line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect())
        .unwrap_or_default();
    // user nice system irq softirq steal; idle and iowait are left out. 100 ticks are a second.
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|i| ticks.get(*i)).sum();
    let used = server.shared.machine.memory().saturating_sub(memory_available());
    (busy * 10_000_000, used.max(0) as u64)
}

fn node(server: &Server) -> Value {
    let now = server.shared.now().0.to_string();
    let (cpu, memory) = node_usage(server);
    let fs = disk::usage(&server.shared.config.root_dir).unwrap_or_default();
    json!({
        "nodeName": server.shared.config.node_name,
        "startTime": Timestamp::try_from(server.shared.started).unwrap_or_default().to_string(),
        "cpu": {"time": now, "usageCoreNanoSeconds": cpu},
        "memory": {
            "time": now,
            "availableBytes": memory_available(),
            "usageBytes": memory,
            "workingSetBytes": memory,
        },
        "fs": {
            "time": now,
            "availableBytes": fs.available,
            "capacityBytes": fs.capacity,
            "usedBytes": fs.used(),
            "inodesFree": fs.inodes_free,
            "inodes": fs.inodes,
            "inodesUsed": fs.inodes.saturating_sub(fs.inodes_free),
        },
    })
}

fn pod(stats: &PodSandboxStats) -> Option<Value> {
    let meta = stats.attributes.as_ref()?.metadata.as_ref()?;
    let mut value = Map::new();
    let reference = json!({"name": meta.name, "namespace": meta.namespace, "uid": meta.uid});
    value.insert("podRef".to_owned(), reference);
    if let Some(linux) = &stats.linux {
        put_usage(&mut value, linux.cpu.as_ref(), linux.memory.as_ref());
        let containers: Vec<Value> = linux.containers.iter().filter_map(container).collect();
        value.insert("containers".to_owned(), containers.into());
        if let Some(interface) = linux.network.as_ref().and_then(|n| n.default_interface.as_ref()) {
            let number = |v: &Option<UInt64Value>| v.as_ref().map(|v| v.value);
            let network = json!({
                "time": time(linux.network.as_ref().map_or(0, |n| n.timestamp)),
                "name": interface.name,
                "rxBytes": number(&interface.rx_bytes), "rxErrors": number(&interface.rx_errors),
                "txBytes": number(&interface.tx_bytes), "txErrors": number(&interface.tx_errors),
            });
            value.insert("network".to_owned(), network);
        }
        if let Some(count) = linux.process.as_ref().and_then(|p| p.process_count.as_ref()) {
            value.insert("process_stats".to_owned(), json!({"process_count": count.value}));
        }
    }
    Some(value.into())
}

fn container(stats: &ContainerStats) -> Option<Value> {
    let mut value = Map::new();
    let name = &stats.attributes.as_ref()?.metadata.as_ref()?.name;
    value.insert("name".to_owned(), name.clone().into());
    put_usage(&mut value, stats.cpu.as_ref(), stats.memory.as_ref());
    if let Some(layer) = &stats.writable_layer {
        let number = |v: &Option<UInt64Value>| v.as_ref().map(|v| v.value);
        let rootfs = json!({
            "time": time(layer.timestamp),
            "usedBytes": number(&layer.used_bytes),
            "inodesUsed": number(&layer.inodes_used),
        });
        value.insert("rootfs".to_owned(), rootfs);
    }
    Some(value.into())
}

fn put_usage(value: &mut Map<String, Value>, cpu: Option<&CpuUsage>, memory: Option<&MemoryUsage>) {
    let number = |v: &Option<UInt64Value>| v.as_ref().map(|v| v.value);
    if let Some(cpu) = cpu {
        let usage = json!({
            "time": time(cpu.timestamp),
            "usageNanoCores": number(&cpu.usage_nano_cores),
            "usageCoreNanoSeconds": number(&cpu.usage_core_nano_seconds),
        });
        value.insert("cpu".to_owned(), usage);
    }
    if let Some(memory) = memory {
        let usage = json!({
            "time": time(memory.timestamp),
            "availableBytes": number(&memory.available_bytes),
            "usageBytes": number(&memory.usage_bytes),
            "workingSetBytes": number(&memory.working_set_bytes),
            "rssBytes": number(&memory.rss_bytes),
            "pageFaults": number(&memory.page_faults),
            "majorPageFaults": number(&memory.major_page_faults),
        });
        value.insert("memory".to_owned(), usage);
    }
}

fn time(nanos: i64) -> String {
    Timestamp::from_nanosecond(nanos.into()).unwrap_or_default().to_string()
}
