//! Passing a request on to the runtime's streaming server; after its upgrade, byte for byte both ways (SPDY and
//! WebSocket alike).

use base::TaskScope;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{self, Body};

/// Sends the request to `url` in place of its own path, and connects both sides if the answer is an upgrade.
pub async fn pass_on(scope: &TaskScope, url: &str, request: Request<Incoming>) -> Response<Body> {
    match try_pass_on(scope, url, request).await {
        Ok(response) => response,
        Err(error) => {
            let text = format!("error dialing the container runtime's streaming server: {error}");
            answer::text(StatusCode::BAD_GATEWAY, text)
        }
    }
}

async fn try_pass_on(
    scope: &TaskScope,
    url: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let url: Uri = url.parse()?;
    let authority = url.authority().ok_or("the runtime's URL has no host")?;
    if url.scheme_str() != Some("http") {
        return Err(format!("the runtime's URL {url} is not plain http").into());
    }
    let tcp =
        TcpStream::connect((authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80)))
            .await?;
    tcp.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    scope.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "stream to the runtime ended");
        }
    });
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let mut onward =
        Request::builder().method(request.method().clone()).uri(path).body(Empty::<Bytes>::new())?;
    *onward.headers_mut() = request.headers().clone();
    onward.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    onward.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    onward.headers_mut().remove(http::header::AUTHORIZATION);
    let mut response = sender.send_request(onward).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| body.map_err(std::io::Error::other).boxed_unsync()));
    }
    let runtime_side = hyper::upgrade::on(&mut response);
    let client_side = hyper::upgrade::on(&mut request);
    scope.spawn(async move {
        let (Ok(runtime), Ok(client)) = (runtime_side.await, client_side.await) else { return };
        let (mut runtime, mut client) = (TokioIo::new(runtime), TokioIo::new(client));
        if let Err(error) = tokio::io::copy_bidirectional(&mut runtime, &mut client).await {
            tracing::debug!(%error, "stream ended");
        }
    });
    let (parts, _) = response.into_parts();
    let empty = Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync();
    Ok(Response::from_parts(parts, empty))
}
