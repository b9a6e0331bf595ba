//! `/metrics` and `/metrics/resource`, in the Prometheus text format 0.0.4.

use std::fmt::Write;

use http::{Response, StatusCode};
use proto::cri::v1::{CpuUsage, MemoryUsage};

use super::answer::{self, Body};
use super::{Server, stats};
use crate::cri::ContainerState;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, time_ms: Option<i64>) {
        let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let time = time_ms.map(|t| format!(" {t}")).unwrap_or_default();
        let _ = writeln!(self.0, "{name}{labels} {value}{time}");
    }

    fn answer(self) -> Response<Body> {
        answer::with_type(StatusCode::OK, CONTENT_TYPE, self.0.into())
    }
}

/// Metrics of the kubelet itself.
pub fn kubelet(server: &Server) -> Response<Body> {
    let shared = &server.shared;
    let views = server.registry.list();
    let mut text = Text::default();
    text.family("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.");
    text.sample("kubelet_node_name", &[("node", &shared.config.node_name)], 1.0, None);
    let with_sandbox = views.iter().filter(|v| v.observed.ready_sandbox().is_some()).count();
    text.family("kubelet_running_pods", "gauge", "[ALPHA] Number of pods that have a running pod sandbox");
    text.sample("kubelet_running_pods", &[], with_sandbox as f64, None);
    text.family("kubelet_running_containers", "gauge", "[ALPHA] Number of containers currently running");
    let states = [
        ("created", ContainerState::Created),
        ("exited", ContainerState::Exited),
        ("running", ContainerState::Running),
        ("unknown", ContainerState::Unknown),
    ];
    for (name, state) in states {
        let count = views.iter().flat_map(|v| &v.observed.containers).filter(|c| c.state == state).count();
        text.sample("kubelet_running_containers", &[("container_state", name)], count as f64, None);
    }
    let started = shared.started.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    text.family(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
    );
    text.sample("process_start_time_seconds", &[], started.as_secs_f64(), None);
    text.answer()
}

/// Usage of node, pods and containers, for the metrics server.
pub async fn resource(server: &Server) -> Response<Body> {
    let pods = stats::pod_stats(server).await;
    let mut rows = Rows::default();
    let failed = pods.is_err();
    for pod in pods.unwrap_or_default() {
        let (Some(meta), Some(linux)) = (pod.attributes.and_then(|a| a.metadata), pod.linux) else {
            continue;
        };
        let of_pod = vec![("namespace", meta.namespace.clone()), ("pod", meta.name.clone())];
        rows.add("pod", &of_pod, linux.cpu.as_ref(), linux.memory.as_ref());
        for container in &linux.containers {
            let name =
                container.attributes.as_ref().and_then(|a| a.metadata.as_ref()).map(|m| m.name.clone());
            let mut labels = vec![("container", name.unwrap_or_default())];
            labels.extend(of_pod.iter().cloned());
            rows.add("container", &labels, container.cpu.as_ref(), container.memory.as_ref());
        }
    }
    let mut text = Text::default();
    let now_ms = server.shared.now().0.as_millisecond();
    let (cpu, memory) = stats::node_usage(server);
    let help = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
    text.family("node_cpu_usage_seconds_total", "counter", help);
    text.sample("node_cpu_usage_seconds_total", &[], cpu as f64 / 1e9, Some(now_ms));
    text.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    text.sample("node_memory_working_set_bytes", &[], memory as f64, Some(now_ms));
    rows.write(&mut text);
    text.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    text.sample("resource_scrape_error", &[], f64::from(u8::from(failed)), None);
    text.answer()
}

type Labels = Vec<(&'static str, String)>;

#[derive(Default)]
struct Rows(Vec<(String, &'static str, &'static str, Labels, f64, i64)>);

impl Rows {
    fn add(&mut self, of: &str, labels: &Labels, cpu: Option<&CpuUsage>, memory: Option<&MemoryUsage>) {
        if let Some((cpu, value)) = cpu.and_then(|c| Some((c, c.usage_core_nano_seconds.as_ref()?.value))) {
            let name = format!("{of}_cpu_usage_seconds_total");
            let help = "[STABLE] Cumulative cpu time consumed in core-seconds";
            self.0.push((
                name,
                "counter",
                help,
                labels.clone(),
                value as f64 / 1e9,
                cpu.timestamp / 1_000_000,
            ));
        }
        if let Some((memory, value)) = memory.and_then(|m| Some((m, m.working_set_bytes.as_ref()?.value))) {
            let name = format!("{of}_memory_working_set_bytes");
            let help = "[STABLE] Current working set in bytes";
            self.0.push((name, "gauge", help, labels.clone(), value as f64, memory.timestamp / 1_000_000));
        }
    }

    /// Samples of one name belong together.
    fn write(mut self, text: &mut Text) {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        let mut last = String::new();
        for (name, kind, help, labels, value, time) in self.0 {
            if name != last {
                text.family(&name, kind, help);
            }
            let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
            text.sample(&name, &labels, value, Some(time));
            last = name;
        }
    }
}
