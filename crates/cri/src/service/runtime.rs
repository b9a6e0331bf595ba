//! CRI's runtime service: translates requests, and leaves the work to the node.
//!
//! Longer than others, since it is one trait of 34 methods that do little each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use proto::cri::v1 as cri;
use proto::cri::v1::runtime_service_server::RuntimeService;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status, async_trait};

use super::{Services, in_pieces, required};
use crate::container::{self, Container};
use crate::disk::now_ns;
use crate::error::Error;
use crate::sandbox::{self, Sandbox};
use crate::streaming::Pending;

type Reply<T> = Result<Response<T>, Status>;
type Pieces<T> = BoxStream<'static, Result<T, Status>>;

const API_VERSION: &str = "0.1.0";
const RUNTIME_API_VERSION: &str = "v1";
const RUNTIME_NAME: &str = "corten";

impl Services {
    fn sandboxes_matching(&self, filter: Option<&cri::PodSandboxFilter>) -> Vec<cri::PodSandbox> {
        let visible = self.node.sandboxes().into_iter().filter(|s| s.is_visible());
        visible.map(|s| s.to_list_item()).filter(|s| sandbox::matches_filter(s, filter)).collect()
    }

    fn containers_matching(&self, filter: Option<&cri::ContainerFilter>) -> Vec<cri::Container> {
        let all = self.node.containers().into_iter();
        all.map(|c| c.to_list_item()).filter(|c| container::matches_filter(c, filter)).collect()
    }

    async fn stats_of_containers(
        &self,
        filter: Option<cri::ContainerStatsFilter>,
    ) -> Result<Vec<cri::ContainerStats>, Status> {
        let filter = filter.map(|f| cri::ContainerFilter {
            id: f.id,
            state: None,
            pod_sandbox_id: f.pod_sandbox_id,
            label_selector: f.label_selector,
        });
        let wanted = |c: &Arc<Container>| container::matches_filter(&c.to_list_item(), filter.as_ref());
        let mut stats = Vec::new();
        for container in self.node.containers().into_iter().filter(|c| c.is_running()).filter(wanted) {
            stats.push(self.node.container_stats(&container).await?);
        }
        Ok(stats)
    }

    async fn stats_of_sandboxes(
        &self,
        filter: Option<cri::PodSandboxStatsFilter>,
    ) -> Result<Vec<cri::PodSandboxStats>, Status> {
        let filter =
            filter.map(|f| cri::PodSandboxFilter { id: f.id, state: None, label_selector: f.label_selector });
        let wanted = |s: &Arc<Sandbox>| sandbox::matches_filter(&s.to_list_item(), filter.as_ref());
        let mut stats = Vec::new();
        for sandbox in self.node.sandboxes().into_iter().filter(|s| s.is_ready()).filter(wanted) {
            stats.push(self.node.sandbox_stats(&sandbox).await?);
        }
        Ok(stats)
    }

    fn conditions(&self) -> Vec<cri::RuntimeCondition> {
        let network = self.node.cni.ready().err().map(|e| format!("Network plugin returns error: {e}"));
        vec![
            cri::RuntimeCondition { r#type: "RuntimeReady".to_owned(), status: true, ..Default::default() },
            cri::RuntimeCondition {
                r#type: "NetworkReady".to_owned(),
                status: network.is_none(),
                reason: if network.is_some() { "NetworkPluginNotReady".to_owned() } else { String::new() },
                message: network.unwrap_or_default(),
            },
        ]
    }
}

fn verbose(wanted: bool, info: impl FnOnce() -> serde_json::Value) -> HashMap<String, String> {
    if wanted { HashMap::from([("info".to_owned(), info().to_string())]) } else { HashMap::new() }
}

/// Seconds of a request; less than zero is as good as none.
fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

#[async_trait]
impl RuntimeService for Services {
    type StreamPodSandboxesStream = Pieces<cri::StreamPodSandboxesResponse>;
    type StreamContainersStream = Pieces<cri::StreamContainersResponse>;
    type StreamContainerStatsStream = Pieces<cri::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Pieces<cri::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Pieces<cri::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Pieces<cri::ContainerEventResponse>;

    async fn version(&self, _: Request<cri::VersionRequest>) -> Reply<cri::VersionResponse> {
        Ok(Response::new(cri::VersionResponse {
            version: API_VERSION.to_owned(),
            runtime_name: RUNTIME_NAME.to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: RUNTIME_API_VERSION.to_owned(),
        }))
    }

    async fn status(&self, request: Request<cri::StatusRequest>) -> Reply<cri::StatusResponse> {
        let node = &self.node;
        let features = cri::RuntimeHandlerFeatures {
            recursive_read_only_mounts: node.host.recursive_read_only,
            user_namespaces: false,
        };
        let handlers = node.config.handlers.keys();
        let info = verbose(request.into_inner().verbose, || {
            serde_json::json!({
                "stateDir": node.config.state_dir, "runDir": node.config.run_dir,
                "handlers": node.config.handlers, "unifiedCgroups": node.host.unified_cgroups,
            })
        });
        Ok(Response::new(cri::StatusResponse {
            status: Some(cri::RuntimeStatus { conditions: self.conditions() }),
            info,
            runtime_handlers: handlers
                .map(|name| cri::RuntimeHandler { name: name.clone(), features: Some(features) })
                .collect(),
            features: Some(cri::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
            }),
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<cri::RuntimeConfigRequest>,
    ) -> Reply<cri::RuntimeConfigResponse> {
        let linux = cri::LinuxRuntimeConfiguration { cgroup_driver: cri::CgroupDriver::Cgroupfs.into() };
        Ok(Response::new(cri::RuntimeConfigResponse { linux: Some(linux) }))
    }

    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Reply<cri::UpdateRuntimeConfigResponse> {
        let network = request.into_inner().runtime_config.and_then(|c| c.network_config);
        if let Some(network) = network {
            let cni = self.node.cni.clone();
            crate::disk::blocking(move || cni.set_pod_cidr(&network.pod_cidr)).await?;
        }
        Ok(Response::new(cri::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<cri::RunPodSandboxRequest>,
    ) -> Reply<cri::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = required(request.config, "config")?;
        let node = self.node.clone();
        self.to_the_end(async move {
            let pod_sandbox_id =
                node.run_sandbox(config, request.runtime_handler).await.inspect_err(|error| {
                    tracing::warn!(%error, "sandbox not made");
                })?;
            Ok(cri::RunPodSandboxResponse { pod_sandbox_id })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Reply<cri::StopPodSandboxResponse> {
        let (node, id) = (self.node.clone(), request.into_inner().pod_sandbox_id);
        self.to_the_end(async move {
            node.stop_sandbox(&id).await?;
            Ok(cri::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Reply<cri::RemovePodSandboxResponse> {
        let (node, id) = (self.node.clone(), request.into_inner().pod_sandbox_id);
        self.to_the_end(async move {
            node.remove_sandbox(&id).await?;
            Ok(cri::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Reply<cri::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self.node.sandbox(&request.pod_sandbox_id)?;
        let containers = self.node.containers_of(&sandbox.id);
        Ok(Response::new(cri::PodSandboxStatusResponse {
            status: Some(sandbox.to_status()),
            info: verbose(request.verbose, || sandbox.info()),
            containers_statuses: containers.iter().map(|c| c.to_status(&self.node)).collect(),
            timestamp: now_ns(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Reply<cri::ListPodSandboxResponse> {
        let items = self.sandboxes_matching(request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListPodSandboxResponse { items }))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes_matching(request.into_inner().filter.as_ref());
        let wrap = |pod_sandboxes| cri::StreamPodSandboxesResponse { pod_sandboxes };
        Ok(Response::new(in_pieces(items, wrap)))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<cri::UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let sandbox = self.node.sandbox(&request.pod_sandbox_id)?;
        let edit = move |r: &mut crate::sandbox::SandboxRecord| {
            let linux = r.config.linux.get_or_insert_default();
            linux.overhead = request.overhead;
            linux.resources = request.resources;
            Some(())
        };
        sandbox.record.update(edit).await?;
        Ok(Response::new(cri::UpdatePodSandboxResourcesResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Reply<cri::CreateContainerResponse> {
        let request = request.into_inner();
        let config = required(request.config, "config")?;
        let node = self.node.clone();
        self.to_the_end(async move {
            let container_id = node.create_container(&request.pod_sandbox_id, config).await?;
            Ok(cri::CreateContainerResponse { container_id })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Reply<cri::StartContainerResponse> {
        let (node, id) = (self.node.clone(), request.into_inner().container_id);
        self.to_the_end(async move {
            node.start_container(&id).await?;
            Ok(cri::StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<cri::StopContainerRequest>,
    ) -> Reply<cri::StopContainerResponse> {
        let (node, request) = (self.node.clone(), request.into_inner());
        self.while_serving(async move {
            node.stop_container(&request.container_id, seconds(request.timeout)).await?;
            Ok(cri::StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Reply<cri::RemoveContainerResponse> {
        let (node, id) = (self.node.clone(), request.into_inner().container_id);
        self.to_the_end(async move {
            node.remove_container(&id).await?;
            Ok(cri::RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Reply<cri::ListContainersResponse> {
        let containers = self.containers_matching(request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListContainersResponse { containers }))
    }

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        let containers = self.containers_matching(request.into_inner().filter.as_ref());
        let wrap = |containers| cri::StreamContainersResponse { containers };
        Ok(Response::new(in_pieces(containers, wrap)))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Reply<cri::ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.node.container(&request.container_id)?;
        Ok(Response::new(cri::ContainerStatusResponse {
            status: Some(container.to_status(&self.node)),
            info: verbose(request.verbose, || container.info()),
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Reply<cri::UpdateContainerResourcesResponse> {
        let (node, request) = (self.node.clone(), request.into_inner());
        let linux = required(request.linux, "linux")?;
        self.to_the_end(async move {
            node.update_resources(&request.container_id, linux).await?;
            Ok(cri::UpdateContainerResourcesResponse {})
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Reply<cri::ReopenContainerLogResponse> {
        let (container, shim) = self.node.running(&request.into_inner().container_id).await?;
        shim.reopen_log(&container.id).await.map_err(Error::from)?;
        Ok(Response::new(cri::ReopenContainerLogResponse {}))
    }

    async fn checkpoint_container(
        &self,
        _: Request<cri::CheckpointContainerRequest>,
    ) -> Reply<cri::CheckpointContainerResponse> {
        Err(Error::Unimplemented("CheckpointContainer").into())
    }

    async fn exec_sync(&self, request: Request<cri::ExecSyncRequest>) -> Reply<cri::ExecSyncResponse> {
        let request = request.into_inner();
        let timeout = Some(seconds(request.timeout)).filter(|t| !t.is_zero());
        let answer = self.node.exec_sync(&request.container_id, &request.cmd, timeout).await?;
        Ok(Response::new(answer))
    }

    async fn exec(&self, request: Request<cri::ExecRequest>) -> Reply<cri::ExecResponse> {
        let (shim, request) = self.node.prepare_exec(&request.into_inner()).await?;
        let url = self.node.streaming.url_for(Pending::Exec(shim, request))?;
        Ok(Response::new(cri::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<cri::AttachRequest>) -> Reply<cri::AttachResponse> {
        let (shim, request, traits) = self.node.prepare_attach(&request.into_inner()).await?;
        let url = self.node.streaming.url_for(Pending::Attach(shim, request, traits))?;
        Ok(Response::new(cri::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<cri::PortForwardRequest>,
    ) -> Reply<cri::PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.node.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(Error::FailedPrecondition("sandbox container is not running".to_owned()).into());
        }
        let ports = request.port.iter().filter_map(|p| u16::try_from(*p).ok()).collect();
        let netns = sandbox.record.with(|r| r.netns.clone());
        let url = self.node.streaming.url_for(Pending::PortForward(netns, ports))?;
        Ok(Response::new(cri::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Reply<cri::ContainerStatsResponse> {
        let container = self.node.container(&request.into_inner().container_id)?;
        let stats = Some(self.node.container_stats(&container).await?);
        Ok(Response::new(cri::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Reply<cri::ListContainerStatsResponse> {
        let stats = self.stats_of_containers(request.into_inner().filter).await?;
        Ok(Response::new(cri::ListContainerStatsResponse { stats }))
    }

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        let stats = self.stats_of_containers(request.into_inner().filter).await?;
        let wrap = |container_stats| cri::StreamContainerStatsResponse { container_stats };
        Ok(Response::new(in_pieces(stats, wrap)))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Reply<cri::PodSandboxStatsResponse> {
        let sandbox = self.node.sandbox(&request.into_inner().pod_sandbox_id)?;
        let stats = Some(self.node.sandbox_stats(&sandbox).await?);
        Ok(Response::new(cri::PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Reply<cri::ListPodSandboxStatsResponse> {
        let stats = self.stats_of_sandboxes(request.into_inner().filter).await?;
        Ok(Response::new(cri::ListPodSandboxStatsResponse { stats }))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        let stats = self.stats_of_sandboxes(request.into_inner().filter).await?;
        let wrap = |pod_sandbox_stats| cri::StreamPodSandboxStatsResponse { pod_sandbox_stats };
        Ok(Response::new(in_pieces(stats, wrap)))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Reply<cri::ListMetricDescriptorsResponse> {
        Err(Error::Unimplemented("ListMetricDescriptors").into())
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Reply<cri::ListPodSandboxMetricsResponse> {
        Err(Error::Unimplemented("ListPodSandboxMetrics").into())
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        Err(Error::Unimplemented("StreamPodSandboxMetrics").into())
    }

    async fn get_container_events(
        &self,
        _: Request<cri::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.node.subscribe());
        // Who misses events must list again, and knows it by the stream's end.
        let events = events.map(|event| {
            event.map_err(|lag| Status::resource_exhausted(format!("events lost, list again: {lag}")))
        });
        Ok(Response::new(Box::pin(events)))
    }
}
