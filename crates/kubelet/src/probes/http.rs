//! HTTP GET, as probes and hooks do it: no redirects followed, certificates not verified.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How much of an answer is kept (upstream `maxRespBodyLength`).
const BODY_LIMIT: usize = 10 << 10;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    https: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// The port that a probe names by number or by the name of a container port.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name:?}"),
    })
}

/// Resolves an action of `container` in a pod at `pod_ip`.
pub fn target(get: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<Target, String> {
    let path = get.path.as_deref().unwrap_or("/");
    let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
    Ok(Target {
        https: get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip).to_owned(),
        port: port(&get.port, container)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers: headers.collect(),
    })
}

impl Target {
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Asks, within `timeout`. The error is for users, in the words of Go's HTTP client.
pub async fn get(target: &Target, agent: &str, timeout: Duration) -> Result<Answer, String> {
    let named = |error: String| format!("Get {:?}: {error}", target.url());
    match tokio::time::timeout(timeout, ask(target, agent)).await {
        Ok(answer) => answer.map_err(named),
        Err(_) => Err(named(
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned(),
        )),
    }
}

/// Connects by TCP; the error is in Go's words.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    TcpStream::connect((host, port)).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        std::io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        std::io::ErrorKind::NetworkUnreachable => {
            format!("dial tcp {address}: connect: network is unreachable")
        }
        _ => format!("dial tcp {address}: {e}"),
    })
}

async fn ask(target: &Target, agent: &str) -> Result<Answer, String> {
    let tcp = dial(&target.host, target.port).await?;
    if !target.https {
        return exchange(tcp, target, agent).await;
    }
    let name = rustls_pki_types::ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
    // As upstream's probes do: they ask whether the container answers, not who it is.
    let connector = TlsConnector::from(pki::unverified_client_config(Vec::new()).map_err(|e| e.to_string())?);
    let tls = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
    exchange(tls, target, agent).await
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
    agent: &str,
) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    let request = request(target, agent)?;
    let answer = async {
        let mut response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let mut body = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() {
                body.extend_from_slice(&data[..data.len().min(BODY_LIMIT - body.len())]);
                if body.len() == BODY_LIMIT {
                    break;
                }
            }
        }
        Ok(Answer { status: response.status().as_u16(), body })
    };
    // The connection is driven here, so that it ends with this call.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        result = connection => match result {
            // The server may close as soon as it has answered: the answer is then already here.
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

fn request(target: &Target, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::builder()
        .uri(&target.path)
        .header(HOST, target.authority())
        .header(CONNECTION, "close")
        .header(USER_AGENT, agent)
        .header(ACCEPT, "*/*")
        .body(Empty::new())
        .map_err(|e| e.to_string())?;
    for (name, value) in &target.headers {
        let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
        let value = HeaderValue::try_from(value).map_err(|e| e.to_string())?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_answer_and_a_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = tcp.read(&mut request).await.unwrap();
            tcp.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let action: HTTPGetAction = serde_json::from_value(serde_json::json!({
            "path": "healthz?a=b", "port": "web", "httpHeaders": [{"name": "X-A", "value": "1"}],
        }))
        .unwrap();
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "web", "containerPort": port}],
        }))
        .unwrap();
        let target = target(&action, &container, "127.0.0.1").unwrap();
        let answer = get(&target, "kube-probe/1.36", Duration::from_secs(10)).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (503, &b"busy"[..]));
        let request = server.await.unwrap().to_lowercase();
        assert!(request.starts_with("get /healthz?a=b http/1.1\r\n") && request.contains("x-a: 1\r\n"));
        let refused = get(&target, "kube-probe/1.36", Duration::from_secs(10)).await.unwrap_err();
        assert!(refused.ends_with("connect: connection refused"), "{refused}");
    }
}
