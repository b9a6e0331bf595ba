//! Clients that are slow, stop half-way or send too much: others are served all the same.

use apiserver::Options;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::TestServer;

async fn raw(server: &TestServer, request: &str) -> String {
    let mut stream = server.connect(None).await.unwrap();
    // The server may answer and close before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = vec![0; 512];
    let n = stream.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test]
async fn half_open_connections_keep_nobody_waiting() {
    let server = TestServer::start(tempfile::tempdir().unwrap(), Options::default()).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect(None).await.unwrap();
        stream
            .write_all(b"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n")
            .await
            .unwrap();
        slow.push(stream);
    }
    assert_eq!(server.as_token("tok", Method::GET, "/api/v1/namespaces", "").await.code, 200);
}

#[tokio::test]
async fn too_much_is_refused() {
    let server = TestServer::start(tempfile::tempdir().unwrap(), Options::default()).await;
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(4 * 1024 * 1024));
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(server.as_token("tok", Method::POST, maps, &large).await.code, 413);
    let header =
        format!("GET /version HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(2 * 1024 * 1024));
    let answer = raw(&server, &header).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let path = format!("GET /version?x={} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    let answer = raw(&server, &path).await;
    assert!(answer.starts_with("HTTP/1.1 414"), "longer than any path that is served: {answer}");
    let answer = raw(&server, "NONSENSE\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.as_token("tok", Method::GET, "/version", "").await.code, 200);
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n")
        .unwrap();
    let audit = apiserver::options::AuditOptions {
        policy_file: Some(policy),
        log_path: Some(log),
        ..Default::default()
    };
    let options = Options { audit, request_timeout_s: 1, ..Options::default() };
    let server = TestServer::start(folder, options).await;
    let head = "POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer tok\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let answer = raw(&server, head).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
}
