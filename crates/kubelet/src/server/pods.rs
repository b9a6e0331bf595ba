//! `/pods`, `/runningpods/`, `/configz`.

use http::Response;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::Server;
use super::answer::{self, Body};
use crate::cri::ContainerState;
use crate::pod::{PodView, spec};

/// The pods of this node as they are asked for, with their statuses.
pub fn list(server: &Server) -> Response<Body> {
    let pods = server.registry.list().into_iter().map(|view| {
        let mut pod = (*view.pod).clone();
        pod.status = Some(view.status);
        pod
    });
    answer::json(&pod_list(pods.collect()))
}

/// What runs, as far as the runtime knows.
pub async fn running(server: &Server) -> Response<Body> {
    let views = server.registry.list();
    let pods = views.iter().filter(|v| v.observed.running().next().is_some()).map(running_pod);
    answer::json(&pod_list(pods.collect()))
}

fn running_pod(view: &PodView) -> Pod {
    let running = view.observed.containers.iter().filter(|c| c.state == ContainerState::Running);
    let containers = running.map(|c| Container {
        name: c.name.clone(),
        image: Some(c.image_ref.clone()),
        ..Container::default()
    });
    Pod {
        metadata: ObjectMeta {
            name: Some(spec::name(&view.pod).to_owned()),
            namespace: Some(spec::namespace(&view.pod).to_owned()),
            uid: view.pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { containers: containers.collect(), ..PodSpec::default() }),
        status: None,
    }
}

fn pod_list(pods: Vec<Pod>) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
}

/// The configuration in KubeletConfiguration's words.
pub fn configz(server: &Server) -> Response<Body> {
    let config = &server.shared.config;
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs());
    answer::json(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "staticPodPath": config.static_pod_path,
        "address": config.listen.ip().to_string(),
        "port": config.listen.port(),
        "clusterDomain": config.cluster_domain,
        "clusterDNS": config.cluster_dns,
        "nodeStatusUpdateFrequency": seconds(config.node_status_update_frequency),
        "nodeStatusReportFrequency": seconds(config.node_status_report_frequency),
        "nodeLeaseDurationSeconds": config.node_lease_duration.as_secs(),
        "imageMinimumGCAge": seconds(config.image_minimum_gc_age),
        "imageGCHighThresholdPercent": config.image_gc_high_threshold_percent,
        "imageGCLowThresholdPercent": config.image_gc_low_threshold_percent,
        "cgroupRoot": config.cgroup_root,
        "cgroupsPerQOS": config.cgroups_per_qos,
        "cgroupDriver": "cgroupfs",
        "maxPods": config.max_pods,
        "podPidsLimit": config.pod_pids_limit,
        "podCIDR": config.pod_cidr,
        "resolvConf": config.resolv_conf,
        "evictionHard": config.eviction_hard,
        "kubeReserved": config.kube_reserved,
        "systemReserved": config.system_reserved,
        "containerLogMaxSize": config.container_log_max_size.to_string(),
        "containerLogMaxFiles": config.container_log_max_files,
        "seccompDefault": config.seccomp_default,
        "containerRuntimeEndpoint": format!("unix://{}", config.runtime_endpoint.display()),
        "podLogsDir": config.pod_logs_dir,
    }}))
}
