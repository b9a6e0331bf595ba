//! A container runtime in memory behind a real CRI socket.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::cri::v1::*;
use tokio::net::UnixListener;
use tokio::sync::broadcast;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;
type Answer = Result<Vec<u8>, (u32, String)>;

const NOT_FOUND: u32 = 5;
const UNKNOWN: u32 = 2;
const UNIMPLEMENTED: u32 = 12;

#[derive(Default)]
struct State {
    sandboxes: Vec<PodSandboxStatus>,
    containers: Vec<(ContainerStatus, String, ContainerConfig)>,
    images: HashMap<String, Image>,
    /// Exit codes of `ExecSync` by the command's first word.
    commands: HashMap<String, i32>,
    calls: Vec<String>,
    lists: usize,
    next: u32,
}

/// The runtime; clones share it.
#[derive(Clone)]
pub struct Runtime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<ContainerEventResponse>,
    with_events: bool,
    socket: PathBuf,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

impl Runtime {
    /// Serves at `folder/cri.sock`; without events if `with_events` is false.
    pub fn serve(folder: &Path, with_events: bool) -> Self {
        let socket = folder.join("cri.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let runtime = Self { state: Arc::default(), events: broadcast::channel(1024).0, with_events, socket };
        let served = runtime.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let runtime = served.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let runtime = runtime.clone();
                        async move { Ok::<_, std::convert::Infallible>(runtime.answer(request).await) }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        runtime.add_image("busybox:1");
        runtime
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn add_image(&self, name: &str) {
        let image = Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.to_owned()],
            size: 1000,
            ..Default::default()
        };
        self.state.lock().unwrap().images.insert(name.to_owned(), image);
    }

    pub fn set_command(&self, name: &str, exit_code: i32) {
        self.state.lock().unwrap().commands.insert(name.to_owned(), exit_code);
    }

    /// Names of the calls so far that change something.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// The configuration of the newest container called `name`.
    pub fn config(&self, name: &str) -> ContainerConfig {
        let state = self.state.lock().unwrap();
        state
            .containers
            .iter()
            .rev()
            .find(|(_, _, c)| c.metadata.as_ref().unwrap().name == name)
            .unwrap()
            .2
            .clone()
    }

    /// How often containers were listed so far.
    pub fn lists(&self) -> usize {
        self.state.lock().unwrap().lists
    }

    pub fn running(&self) -> usize {
        let running = ContainerState::ContainerRunning as i32;
        self.state.lock().unwrap().containers.iter().filter(|(s, ..)| s.state == running).count()
    }

    pub fn sandboxes(&self) -> usize {
        self.state.lock().unwrap().sandboxes.len()
    }

    /// Ends the newest running container called `name`.
    pub fn exit(&self, name: &str, code: i32) {
        let id = {
            let state = self.state.lock().unwrap();
            let running = ContainerState::ContainerRunning as i32;
            let found = state
                .containers
                .iter()
                .rev()
                .find(|(s, _, c)| s.state == running && c.metadata.as_ref().unwrap().name == name);
            found.unwrap().0.id.clone()
        };
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        let sandbox = {
            let mut state = self.state.lock().unwrap();
            let Some((status, sandbox, _)) = state.containers.iter_mut().find(|(s, ..)| s.id == id) else {
                return;
            };
            if status.state == ContainerState::ContainerExited as i32 {
                return;
            }
            status.state = ContainerState::ContainerExited as i32;
            status.exit_code = code;
            status.finished_at = now();
            sandbox.clone()
        };
        self.tell(id, &sandbox, ContainerEventType::ContainerStoppedEvent);
    }

    fn tell(&self, id: &str, sandbox: &str, kind: ContainerEventType) {
        let state = self.state.lock().unwrap();
        let _ = self.events.send(ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: now(),
            pod_sandbox_status: state.sandboxes.iter().find(|s| s.id == sandbox).cloned(),
            containers_statuses: Vec::new(),
        });
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message = body.slice(5..);
        if method == "GetContainerEvents" && self.with_events {
            let events = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
            let frames = futures::StreamExt::map(events, |event| {
                Ok(Frame::data(framed(&event.unwrap().encode_to_vec())))
            });
            return response(StreamBody::new(frames).boxed_unsync());
        }
        let mut trailers = HeaderMap::new();
        let mut frames = Vec::new();
        match self.call(&method, message) {
            Ok(bytes) => {
                frames.push(Ok(Frame::data(framed(&bytes))));
                trailers.insert("grpc-status", "0".parse().unwrap());
            }
            Err((code, text)) => {
                trailers.insert("grpc-status", code.to_string().parse().unwrap());
                trailers.insert("grpc-message", text.parse().unwrap());
            }
        }
        frames.push(Ok(Frame::trailers(trailers)));
        response(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
    }

    fn call(&self, method: &str, message: Bytes) -> Answer {
        if !method.starts_with("List")
            && !method.ends_with("Status")
            && !matches!(method, "Version" | "ImageFsInfo")
        {
            self.state.lock().unwrap().calls.push(method.to_owned());
        }
        match method {
            "Version" => reply(VersionResponse {
                runtime_name: "fake".to_owned(),
                runtime_version: "1.0".to_owned(),
                ..Default::default()
            }),
            "Status" => {
                let ready = |kind: &str| RuntimeCondition {
                    r#type: kind.to_owned(),
                    status: true,
                    ..Default::default()
                };
                let conditions = vec![ready("RuntimeReady"), ready("NetworkReady")];
                reply(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() })
            }
            "RunPodSandbox" => self.run_sandbox(decode(message)),
            "StopPodSandbox" => self.stop_sandbox(decode(message)),
            "RemovePodSandbox" => self.remove_sandbox(decode(message)),
            "ListPodSandbox" => self.list_sandboxes(decode(message)),
            "PodSandboxStatus" => {
                let request: PodSandboxStatusRequest = decode(message);
                let state = self.state.lock().unwrap();
                let status = state.sandboxes.iter().find(|s| s.id == request.pod_sandbox_id).cloned();
                let status = status.ok_or((NOT_FOUND, "no sandbox".to_owned()))?;
                reply(PodSandboxStatusResponse { status: Some(status), ..Default::default() })
            }
            "CreateContainer" => self.create(decode(message)),
            "StartContainer" => self.start(decode(message)),
            "UpdateContainerResources" => reply(UpdateContainerResourcesResponse {}),
            "StopContainer" => {
                let request: StopContainerRequest = decode(message);
                self.end(&request.container_id, 137);
                reply(StopContainerResponse {})
            }
            "RemoveContainer" => {
                let request: RemoveContainerRequest = decode(message);
                self.state.lock().unwrap().containers.retain(|(s, ..)| s.id != request.container_id);
                reply(RemoveContainerResponse {})
            }
            "ListContainers" => self.list_containers(decode(message)),
            "ContainerStatus" => {
                let request: ContainerStatusRequest = decode(message);
                let state = self.state.lock().unwrap();
                let found = state.containers.iter().find(|(s, ..)| s.id == request.container_id);
                let status = found.map(|(s, ..)| s.clone()).ok_or((NOT_FOUND, "no container".to_owned()))?;
                reply(ContainerStatusResponse { status: Some(status), ..Default::default() })
            }
            "ExecSync" => {
                let request: ExecSyncRequest = decode(message);
                let state = self.state.lock().unwrap();
                let exit_code = state.commands.get(&request.cmd[0]).copied().unwrap_or(0);
                reply(ExecSyncResponse { exit_code, stdout: "out".into(), ..Default::default() })
            }
            "ListImages" => {
                let images = self.state.lock().unwrap().images.values().cloned().collect();
                reply(ListImagesResponse { images })
            }
            "ImageStatus" => {
                let request: ImageStatusRequest = decode(message);
                let name = request.image.unwrap_or_default().image;
                let state = self.state.lock().unwrap();
                let image =
                    state.images.values().find(|i| i.repo_tags.contains(&name) || i.id == name).cloned();
                reply(ImageStatusResponse { image, ..Default::default() })
            }
            "PullImage" => {
                let request: PullImageRequest = decode(message);
                let name = request.image.unwrap_or_default().image;
                if name.contains("missing") {
                    return Err((NOT_FOUND, format!("{name}: not found")));
                }
                self.add_image(&name);
                reply(PullImageResponse { image_ref: format!("sha256:{name}") })
            }
            "ImageFsInfo" => reply(ImageFsInfoResponse::default()),
            "UpdateRuntimeConfig" => reply(UpdateRuntimeConfigResponse {}),
            "ListPodSandboxStats" => reply(ListPodSandboxStatsResponse::default()),
            other => Err((UNIMPLEMENTED, other.to_owned())),
        }
    }

    fn run_sandbox(&self, request: RunPodSandboxRequest) -> Answer {
        let config = request.config.unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let id = format!("s{}", state.next);
        let network = PodSandboxNetworkStatus { ip: format!("10.1.0.{}", state.next), ..Default::default() };
        state.sandboxes.push(PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: PodSandboxState::SandboxReady as i32,
            created_at: now(),
            network: Some(network),
            labels: config.labels,
            ..Default::default()
        });
        reply(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    fn stop_sandbox(&self, request: StopPodSandboxRequest) -> Answer {
        let inside: Vec<String> = {
            let mut state = self.state.lock().unwrap();
            for sandbox in state.sandboxes.iter_mut().filter(|s| s.id == request.pod_sandbox_id) {
                sandbox.state = PodSandboxState::SandboxNotready as i32;
            }
            let inside = state.containers.iter().filter(|(_, sandbox, _)| *sandbox == request.pod_sandbox_id);
            inside.map(|(s, ..)| s.id.clone()).collect()
        };
        inside.iter().for_each(|id| self.end(id, 137));
        self.tell(
            &request.pod_sandbox_id,
            &request.pod_sandbox_id,
            ContainerEventType::ContainerStoppedEvent,
        );
        reply(StopPodSandboxResponse {})
    }

    fn remove_sandbox(&self, request: RemovePodSandboxRequest) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.sandboxes.retain(|s| s.id != request.pod_sandbox_id);
        state.containers.retain(|(_, sandbox, _)| *sandbox != request.pod_sandbox_id);
        reply(RemovePodSandboxResponse {})
    }

    fn list_sandboxes(&self, request: ListPodSandboxRequest) -> Answer {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock().unwrap();
        let found =
            state.sandboxes.iter().filter(|s| selector.iter().all(|(k, v)| s.labels.get(k) == Some(v)));
        let items = found.map(|s| PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            ..Default::default()
        });
        reply(ListPodSandboxResponse { items: items.collect() })
    }

    fn create(&self, request: CreateContainerRequest) -> Answer {
        let config = request.config.unwrap_or_default();
        let sandbox_config = request.sandbox_config.unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let id = format!("c{}", state.next);
        let image = config.image.clone().unwrap_or_default();
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::ContainerCreated as i32,
            created_at: now(),
            image_ref: image.image.clone(),
            image: Some(image),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{}/{}", sandbox_config.log_directory, config.log_path),
            ..Default::default()
        };
        state.containers.push((status, request.pod_sandbox_id, config));
        reply(CreateContainerResponse { container_id: id })
    }

    fn start(&self, request: StartContainerRequest) -> Answer {
        let sandbox = {
            let mut state = self.state.lock().unwrap();
            let found = state.containers.iter_mut().find(|(s, ..)| s.id == request.container_id);
            let (status, sandbox, config) = found.ok_or((NOT_FOUND, "no container".to_owned()))?;
            if config.command.first().is_some_and(|c| c == "unstartable") {
                return Err((UNKNOWN, "exec: unstartable: not found".to_owned()));
            }
            let line = "2024-01-01T00:00:00.000000000Z stdout F hello\n";
            std::fs::write(&status.log_path, line).unwrap();
            status.state = ContainerState::ContainerRunning as i32;
            status.started_at = now();
            sandbox.clone()
        };
        self.tell(&request.container_id, &sandbox, ContainerEventType::ContainerStartedEvent);
        reply(StartContainerResponse {})
    }

    fn list_containers(&self, request: ListContainersRequest) -> Answer {
        let selector = request.filter.unwrap_or_default().label_selector;
        let mut state = self.state.lock().unwrap();
        state.lists += 1;
        let found = state
            .containers
            .iter()
            .filter(|(s, ..)| selector.iter().all(|(k, v)| s.labels.get(k) == Some(v)));
        let containers = found.map(|(s, sandbox, _)| Container {
            id: s.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            ..Default::default()
        });
        reply(ListContainersResponse { containers: containers.collect() })
    }
}

fn decode<M: Message + Default>(message: Bytes) -> M {
    M::decode(message).unwrap()
}

fn reply(message: impl Message) -> Answer {
    Ok(message.encode_to_vec())
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

fn response(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}
