//! Port-forward over WebSocket: SPDY tunnelled in messages (kubectl), or two channels per port (other clients).

use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::portforward::{self, dial, upload};
use super::websocket::{MAX_MESSAGE_BYTES, normal_close};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The subprotocols of port-forward.
pub const PROTOCOLS: [&str; 4] = [TUNNEL, "v4.channel.k8s.io", "portforward.k8s.io", "channel.k8s.io"];

const TUNNEL_BUFFER_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 32 << 10;
const CHANNEL_PIECES: usize = 32;
/// Channels are numbered by one byte, two to a port.
const MAX_PORTS: usize = 127;

/// Serves an upgraded connection until it ends.
pub async fn run(
    io: impl AsyncRead + AsyncWrite + Unpin,
    protocol: &str,
    netns: Option<PathBuf>,
    ports: Vec<u16>,
) {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    if protocol == TUNNEL {
        tunnel(socket, netns).await;
    } else {
        channels(socket, netns, ports).await;
    }
}

/// Messages are pieces of a SPDY connection.
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, netns: Option<PathBuf>) {
    let (inside, outside) = tokio::io::duplex(TUNNEL_BUFFER_BYTES);
    let (mut from_inside, mut to_inside) = tokio::io::split(outside);
    let (mut to, mut from) = socket.split();
    let incoming = async {
        while let Some(Ok(message)) = from.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(_) => break,
                _ => continue,
            };
            if to_inside.write_all(&data).await.is_err() {
                break;
            }
        }
        let _ = to_inside.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outgoing = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            match from_inside.read_buf(&mut buffer).await {
                Ok(count @ 1..) => {
                    if to.send(Message::Binary(buffer.split_to(count).freeze())).await.is_err() {
                        return;
                    }
                }
                _ => break,
            }
        }
        let _ = to.send(Message::Close(Some(normal_close()))).await;
        let _ = to.close().await;
    };
    tokio::select! {
        _ = async { tokio::join!(portforward::run(inside, netns), outgoing) } => {}
        () = incoming => {}
    }
}

/// For each port a data channel and an error channel, each beginning with the port's number, little-endian.
async fn channels<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    netns: Option<PathBuf>,
    ports: Vec<u16>,
) {
    let (mut to, from) = socket.split();
    let (outgoing_tx, mut outgoing) = mpsc::channel::<Message>(CHANNEL_PIECES);
    let mut inputs = Vec::new();
    let mut forwards = tokio::task::JoinSet::new();
    for (index, port) in ports.into_iter().take(MAX_PORTS).enumerate() {
        let (input, from_client) = mpsc::channel(CHANNEL_PIECES);
        inputs.push(input);
        let data = (index * 2) as u8;
        forwards.spawn(forward(data, port, netns.clone(), from_client, outgoing_tx.clone()));
    }
    drop(outgoing_tx);
    let writing = async {
        while let Some(message) = outgoing.recv().await {
            if to.send(message).await.is_err() {
                return;
            }
        }
        let _ = to.send(Message::Close(Some(normal_close()))).await;
        let _ = to.close().await;
    };
    tokio::select! {
        () = writing => {}
        () = read(from, inputs) => {}
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut from: SplitStream<WebSocketStream<S>>,
    inputs: Vec<mpsc::Sender<Bytes>>,
) {
    while let Some(Ok(message)) = from.next().await {
        let mut data = match message {
            Message::Binary(data) if !data.is_empty() => data,
            Message::Close(_) => return,
            _ => continue,
        };
        let channel = usize::from(data.split_to(1)[0]);
        if let Some(input) = inputs.get(channel / 2).filter(|_| channel.is_multiple_of(2)) {
            // A pod that closed its connection takes nothing more.
            let _ = input.send(data).await;
        }
    }
}

async fn forward(
    channel: u8,
    port: u16,
    netns: Option<PathBuf>,
    from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<Message>,
) {
    for channel in [channel, channel + 1] {
        let _ = to_client.send(encode(channel, &port.to_le_bytes())).await;
    }
    match dial(netns.as_deref(), port).await {
        Ok(tcp) => {
            let (from_pod, to_pod) = tcp.into_split();
            let _ = tokio::join!(upload(from_client, to_pod), download(channel, from_pod, to_client));
        }
        Err(error) => {
            let text = format!("error forwarding port {port} to pod: {error}");
            let _ = to_client.send(encode(channel + 1, text.as_bytes())).await;
        }
    }
}

async fn download(channel: u8, mut from: OwnedReadHalf, to: mpsc::Sender<Message>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(count @ 1..) => {
                if to.send(encode(channel, &buffer.split_to(count))).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

fn encode(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.freeze())
}
