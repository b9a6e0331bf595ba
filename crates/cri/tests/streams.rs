//! Exec, attach and port-forward, as clients of the streaming server see them.

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Request;
use proto::cri::v1;
use serde_json::{Value, json};
use support::pod::{Wish, sh};
use support::{Node, can_run_containers, spdy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

async fn websocket(url: &str, protocol: &str) -> Socket {
    let (address, _) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let request = Request::get(url.replace("http://", "ws://"))
        .header("host", address)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol)
        .body(())
        .unwrap();
    let (socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
    socket
}

async fn send(socket: &mut Socket, channel: u8, data: &[u8]) {
    let message = Message::Binary(Bytes::from([&[channel], data].concat()));
    socket.send(message).await.unwrap();
}

/// All that came, by channel, until the end or `enough`.
async fn receive(socket: &mut Socket, enough: impl Fn(&[Vec<u8>; 5]) -> bool) -> [Vec<u8>; 5] {
    let mut channels: [Vec<u8>; 5] = Default::default();
    while !enough(&channels) {
        match socket.next().await {
            Some(Ok(Message::Binary(data))) => channels[usize::from(data[0])].extend(&data[1..]),
            Some(Ok(Message::Close(frame))) => {
                // Without a code kubectl takes the end for an error.
                assert_eq!(frame.map(|f| u16::from(f.code)), Some(1000));
                break;
            }
            None => break,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
    channels
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn exec_url(node: &mut Node, id: &str, script: &str, tty: bool) -> String {
    let cmd = ["sh", "-c", script].iter().map(|s| (*s).to_owned()).collect();
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd,
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
        ..Default::default()
    };
    node.runtime.exec(request).await.unwrap().into_inner().url
}

async fn node_with(name: &str, wish: Wish) -> (Node, String, String) {
    let mut node = Node::start().await;
    node.import_busybox().await;
    let sandbox = node.sandbox(name).await;
    let id = node.run(&sandbox, "app", wish).await;
    (node, sandbox, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_over_websocket() {
    if !can_run_containers() {
        return;
    }
    let (mut node, _, id) = node_with("ws", sh("sleep 1000")).await;
    let url = exec_url(&mut node, &id, "cat; echo done >&2; exit 3", false).await;
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    send(&mut socket, 0, b"hello ").await;
    send(&mut socket, 0, b"world").await;
    send(&mut socket, 255, &[0]).await;
    let channels = receive(&mut socket, |_| false).await;
    assert_eq!((text(&channels[1]), text(&channels[2])), ("hello world".to_owned(), "done\n".to_owned()));
    let status: Value = serde_json::from_slice(&channels[3]).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    assert!(TcpStream::connect(url.split('/').nth(2).unwrap()).await.is_ok());
    let used = reuse(&url).await;
    assert!(used.starts_with("HTTP/1.1 404"), "an address is good once: {used}");

    let url = exec_url(&mut node, &id, "read line; stty size; echo got $line", true).await;
    let mut socket = websocket(&url, "v4.channel.k8s.io").await;
    send(&mut socket, 4, br#"{"Width":123,"Height":45}"#).await;
    send(&mut socket, 0, b"typed\n").await;
    let channels = receive(&mut socket, |_| false).await;
    let out = text(&channels[1]);
    assert!(out.contains("45 123") && out.contains("got typed"), "{out}");
    assert_eq!(serde_json::from_slice::<Value>(&channels[3]).unwrap()["status"], "Success");
    node.clear().await;
}

async fn reuse(url: &str) -> String {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_over_spdy() {
    if !can_run_containers() {
        return;
    }
    let (mut node, _, id) = node_with("spdy", sh("sleep 1000")).await;
    let url = exec_url(&mut node, &id, "cat; echo done >&2; exit 3", false).await;
    let (mut client, chosen) = spdy::upgrade(&url, &["v5.channel.k8s.io", "v4.channel.k8s.io"]).await;
    assert_eq!(chosen, "v4.channel.k8s.io");
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    let stderr = client.open(&[("streamtype", "stderr")]).await;
    let large = vec![b'x'; 200_000];
    client.send(stdin, &large, true).await;
    client.read_until(|c| [error, stdout, stderr].iter().all(|id| c.ended.contains(id))).await;
    assert_eq!(client.received[&stdout].len(), large.len());
    assert_eq!(client.text(stderr), "done\n");
    let status: Value = serde_json::from_str(&client.text(error)).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");

    let url = exec_url(&mut node, &id, "read line; stty size", true).await;
    let (mut client, _) = spdy::upgrade(&url, &["v4.channel.k8s.io"]).await;
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    let resize = client.open(&[("streamtype", "resize")]).await;
    client.send(resize, b"{\"Width\":99,\"Height\":11}\n", false).await;
    client.send(stdin, b"\n", false).await;
    client.read_until(|c| c.ended.contains(&error)).await;
    assert!(client.text(stdout).contains("11 99"), "{}", client.text(stdout));
    assert!(client.text(error).contains("Success"));
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_attached_to() {
    if !can_run_containers() {
        return;
    }
    let reader = Wish { stdin: true, ..sh("read line; echo got $line; sleep 0.2; echo bye >&2") };
    let (mut node, _, id) = node_with("attach", reader).await;
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = node.runtime.attach(request).await.unwrap().into_inner().url;
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    // The first message says that the session stands; but the streams are joined a moment later.
    send(&mut socket, 0, b"it\n").await;
    let channels = receive(&mut socket, |c| !c[3].is_empty()).await;
    assert_eq!(text(&channels[1]), "got it\n");
    assert_eq!(text(&channels[2]), "bye\n");
    assert_eq!(node.ended(&id).await.exit_code, 0);
    assert_eq!(node.log_with("app", "bye").await, "got it\nbye");
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded() {
    if !can_run_containers() {
        return;
    }
    let (mut node, sandbox, id) = node_with("ports", sh("echo up; nc -ll -p 8080 -e cat")).await;
    node.log_with("app", "up").await;
    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.clone(), port: vec![8080] };
    let listening = "while ! grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done";
    assert_eq!(node.exec(&id, listening).await.0, 0);
    let url = node.runtime.port_forward(request.clone()).await.unwrap().into_inner().url;
    let (mut client, chosen) = spdy::upgrade(&url, &["portforward.k8s.io"]).await;
    assert_eq!(chosen, "portforward.k8s.io");
    for request in ["0", "1"] {
        let common = |kind| [("streamtype", kind), ("port", "8080"), ("requestid", request)];
        let error = client.open(&common("error")).await;
        let data = client.open(&common("data")).await;
        client.send(data, b"echo me", true).await;
        client.read_until(|c| c.ended.contains(&data) && c.ended.contains(&error)).await;
        assert_eq!((client.text(data), client.text(error)), ("echo me".to_owned(), String::new()));
    }
    let closed = |kind| [("streamtype", kind), ("port", "9"), ("requestid", "9")];
    let error = client.open(&closed("error")).await;
    let _data = client.open(&closed("data")).await;
    client.read_until(|c| c.ended.contains(&error)).await;
    assert!(client.text(error).contains("error forwarding port 9"), "{}", client.text(error));

    let url = node.runtime.port_forward(request.clone()).await.unwrap().into_inner().url;
    let mut socket = websocket(&url, "v4.channel.k8s.io").await;
    send(&mut socket, 0, b"old way").await;
    let channels = receive(&mut socket, |c| c[0].len() >= 9 && c[1].len() >= 2).await;
    assert_eq!((&channels[0][..2], &channels[0][2..]), (&8080_u16.to_le_bytes()[..], &b"old way"[..]));

    let url = node.runtime.port_forward(request).await.unwrap().into_inner().url;
    let socket = websocket(&url, "SPDY/3.1+portforward.k8s.io").await;
    let mut client = spdy::Client::new(tunnelled(socket));
    let error = client.open(&[("streamtype", "error"), ("port", "8080"), ("requestid", "0")]).await;
    let data = client.open(&[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]).await;
    client.send(data, b"in a tunnel", true).await;
    client.read_until(|c| c.ended.contains(&data) && c.ended.contains(&error)).await;
    assert_eq!(client.text(data), "in a tunnel");
    node.clear().await;
}

/// A byte stream in messages.
fn tunnelled(socket: Socket) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut from, mut to) = tokio::io::split(far);
    let (mut sink, mut stream) = socket.split();
    tokio::spawn(async move {
        let mut buffer = vec![0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(Message::Binary(data))) = stream.next().await {
            if to.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    near
}
