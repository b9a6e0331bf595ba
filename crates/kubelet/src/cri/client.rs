//! CRI v1 over a unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::cri::v1::image_service_client::ImageServiceClient;
use proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use proto::cri::v1::{self, *};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a call may take (`runtimeRequestTimeout`).
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest message taken from the runtime, as upstream.
const MESSAGE_LIMIT: usize = 16 << 20;
/// First and longest pause while the socket does not answer at start.
const CONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// What the runtime answered instead of a result.
#[derive(Debug, Clone, thiserror::Error)]
#[error("rpc error: code = {code:?} desc = {message}")]
pub struct CriError {
    /// The gRPC code.
    pub code: tonic::Code,
    /// The runtime's words.
    pub message: String,
}

impl From<tonic::Status> for CriError {
    fn from(status: tonic::Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

impl CriError {
    /// True if the thing asked about is not there.
    pub fn is_not_found(&self) -> bool {
        self.code == tonic::Code::NotFound
    }
}

type Result<T> = std::result::Result<T, CriError>;

/// A container runtime and its image service.
#[derive(Debug, Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $client:ident . $name:ident ( $request:ident ) -> $response:ident;)*) => {
        $($(#[$doc])*
        pub async fn $name(&self, request: $request) -> Result<$response> {
            let mut client = self.$client.clone();
            with_timeout(CALL_TIMEOUT, client.$name(request)).await
        })*
    };
}

async fn with_timeout<T>(
    limit: Duration,
    call: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CriError {
            code: tonic::Code::DeadlineExceeded,
            message: "context deadline exceeded".to_owned(),
        }),
    }
}

impl Cri {
    /// Clients of the sockets. Nothing is connected before the first call, and a broken connection is made anew.
    pub fn new(runtime: &Path, images: &Path) -> Self {
        let runtime =
            RuntimeServiceClient::new(channel(runtime.to_owned())).max_decoding_message_size(MESSAGE_LIMIT);
        let images =
            ImageServiceClient::new(channel(images.to_owned())).max_decoding_message_size(MESSAGE_LIMIT);
        Self { runtime, images }
    }

    /// Waits until the runtime answers and says its name and version.
    pub async fn ready(&self) -> VersionResponse {
        let mut pause = CONNECT_PAUSE.0;
        loop {
            match self.version(VersionRequest { version: "0.1.0".to_owned() }).await {
                Ok(version) => return version,
                Err(error) => tracing::debug!(%error, "container runtime not there yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_PAUSE.1);
        }
    }

    calls! {
        /// The runtime's name and version.
        runtime.version(VersionRequest) -> VersionResponse;
        /// Whether runtime and network are ready.
        runtime.status(StatusRequest) -> StatusResponse;
        /// Tells the runtime the pod network.
        runtime.update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        /// Makes and starts a sandbox.
        runtime.run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
        /// Stops a sandbox with its containers and frees its network.
        runtime.stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
        /// Removes a sandbox with its containers.
        runtime.remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        /// The state of a sandbox.
        runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        /// Sandboxes by filter.
        runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
        /// Makes a container.
        runtime.create_container(CreateContainerRequest) -> CreateContainerResponse;
        /// Starts a container.
        runtime.start_container(StartContainerRequest) -> StartContainerResponse;
        /// Removes a container.
        runtime.remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        /// Containers by filter.
        runtime.list_containers(ListContainersRequest) -> ListContainersResponse;
        /// Gives a running container other limits.
        runtime.update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        /// The state of a container.
        runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse;
        /// Makes the runtime open a container's log file anew.
        runtime.reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        /// Prepares a stream to a command.
        runtime.exec(ExecRequest) -> ExecResponse;
        /// Prepares a stream to a container's process.
        runtime.attach(AttachRequest) -> AttachResponse;
        /// Prepares a stream to ports of a sandbox.
        runtime.port_forward(PortForwardRequest) -> PortForwardResponse;
        /// Usage of sandboxes.
        runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        /// Images by filter.
        images.list_images(ListImagesRequest) -> ListImagesResponse;
        /// An image, if it is there.
        images.image_status(ImageStatusRequest) -> ImageStatusResponse;
        /// Removes an image.
        images.remove_image(RemoveImageRequest) -> RemoveImageResponse;
        /// Where images lie and how much they take.
        images.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }

    /// Stops a container: its stop signal, then after `grace_s` seconds a kill.
    pub async fn stop_container(&self, container_id: String, grace_s: i64) -> Result<()> {
        let limit = CALL_TIMEOUT + Duration::from_secs(grace_s.max(0) as u64);
        let mut client = self.runtime.clone();
        let request = v1::StopContainerRequest { container_id, timeout: grace_s };
        with_timeout(limit, client.stop_container(request)).await.map(drop)
    }

    /// Runs a command in a container and waits for it; `timeout` of zero waits for ever.
    pub async fn exec_sync(
        &self,
        container_id: String,
        cmd: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecSyncResponse> {
        let limit =
            if timeout.is_zero() { Duration::from_secs(u64::from(u32::MAX)) } else { timeout + CALL_TIMEOUT };
        let mut client = self.runtime.clone();
        let timeout = timeout.as_secs_f64().ceil() as i64;
        with_timeout(limit, client.exec_sync(ExecSyncRequest { container_id, cmd, timeout })).await
    }

    /// Pulls an image, however long it takes.
    pub async fn pull_image(&self, request: PullImageRequest) -> Result<String> {
        Ok(self.images.clone().pull_image(request).await?.into_inner().image_ref)
    }

    /// The stream of container events; a runtime without one answers UNIMPLEMENTED.
    pub async fn container_events(&self) -> Result<tonic::Streaming<ContainerEventResponse>> {
        Ok(self.runtime.clone().get_container_events(GetEventsRequest {}).await?.into_inner())
    }
}

fn channel(socket: PathBuf) -> Channel {
    // The HTTP/2 authority must be a host name: h2 refuses a path.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    }))
}
