//! Serves gRPC on a unix socket that only root can connect to.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use base::TaskScope;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::corten::image_v1::image_admin_server::{ImageAdminServer, SERVICE_NAME as IMAGE_ADMIN_SERVICE};
use proto::cri::v1::image_service_server::{ImageServiceServer, SERVICE_NAME as IMAGE_SERVICE};
use proto::cri::v1::runtime_service_server::{RuntimeServiceServer, SERVICE_NAME as RUNTIME_SERVICE};
use tokio::net::{UnixListener, UnixStream};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::Services;
use crate::error::{Error, Result};
use crate::node::Node;

/// The largest message (CRI clients allow 16 MiB).
const MAX_MESSAGE_BYTES: usize = 16 << 20;
const MAX_CONNECTIONS: usize = 256;
/// Requests under way on one connection; every container that is being stopped is one.
const MAX_STREAMS: u32 = 2000;

/// Serves until the scope is cancelled.
pub async fn serve(node: Arc<Node>, socket: &Path, scope: &TaskScope) -> Result<()> {
    let listener = bind(socket).await?;
    let router = Router::new(node);
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let stream = listener.accept().await.map_err(Error::io("accept a connection on", socket))?.0;
            let router = router.clone();
            scope.spawn(async move {
                serve_connection(stream, router).await;
                drop(slot);
            });
        }
        Ok(())
    };
    let served = scope.token().run_until_cancelled(accepting).await.unwrap_or(Ok(()));
    let _ = std::fs::remove_file(socket);
    served
}

async fn serve_connection(stream: UnixStream, router: Router) {
    let service = hyper::service::service_fn(move |request| router.clone().route(request));
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(MAX_STREAMS).timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a CRI connection ended");
    }
}

/// The services by the first part of their methods' paths.
#[derive(Clone)]
struct Router {
    runtime: RuntimeServiceServer<Services>,
    images: ImageServiceServer<Services>,
    admin: ImageAdminServer<Services>,
}

impl Router {
    fn new(node: Arc<Node>) -> Self {
        let services = Services { node };
        Self {
            runtime: RuntimeServiceServer::new(services.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                // ExecSync may return two outputs of 16 MiB each.
                .max_encoding_message_size(3 * MAX_MESSAGE_BYTES),
            images: ImageServiceServer::new(services.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            admin: ImageAdminServer::new(services).max_decoding_message_size(MAX_MESSAGE_BYTES),
        }
    }

    async fn route(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            RUNTIME_SERVICE => self.runtime.call(request).await,
            IMAGE_SERVICE => self.images.call(request).await,
            IMAGE_ADMIN_SERVICE => self.admin.call(request).await,
            other => Ok(Status::unimplemented(format!("unknown service {other}")).into_http()),
        }
    }
}

/// Takes the socket's path; refuses if somebody serves there.
async fn bind(socket: &Path) -> Result<UnixListener> {
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    }
    match std::fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(socket).await.is_ok() {
                return Err(Error::AlreadyExists(format!("something else serves {}", socket.display())));
            }
            std::fs::remove_file(socket).map_err(Error::io("remove", socket))?;
        }
        Ok(_) => return Err(Error::AlreadyExists(format!("{} is no socket", socket.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("look at", socket)(error)),
    }
    bind_private(socket).map_err(Error::io("listen on", socket))
}

/// The socket gets its name only after its mode: no stranger can connect in between.
fn bind_private(socket: &Path) -> io::Result<UnixListener> {
    let mut hidden = socket.as_os_str().to_owned();
    hidden.push(".new");
    let hidden = Path::new(&hidden);
    let _ = std::fs::remove_file(hidden);
    let listener = UnixListener::bind(hidden)?;
    std::fs::set_permissions(hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(hidden, socket)?;
    Ok(listener)
}
