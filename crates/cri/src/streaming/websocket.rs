//! Remote commands over WebSocket: the first byte of every message says which stream it belongs to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::session::{Output, Peer, WireSize, pair};
use super::status::Finish;
use super::{Pending, remote};

/// The subprotocols of remotecommand.
pub const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
/// The largest message that is taken.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the next byte is a stream that the client will send nothing more on.
const CLOSE: u8 = 255;

/// How a version of the protocol writes its messages.
#[derive(Clone, Copy)]
struct Dialect {
    base64: bool,
    /// The error channel carries a Status.
    status: bool,
    /// Streams can be closed.
    close: bool,
}

impl Dialect {
    fn of(protocol: &str) -> Self {
        Self {
            base64: protocol.contains("base64"),
            status: protocol.starts_with("v4") || protocol.starts_with("v5"),
            close: protocol.starts_with("v5"),
        }
    }

    fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let text = format!("{channel}{}", STANDARD.encode(data));
            return Message::Text(Utf8Bytes::from(text));
        }
        let mut bytes = BytesMut::with_capacity(data.len() + 1);
        bytes.put_u8(channel);
        bytes.extend_from_slice(data);
        Message::Binary(bytes.freeze())
    }

    /// The stream and content of a message; `None` if it makes no sense.
    fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        let mut data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            _ => return None,
        };
        if data.is_empty() {
            return None;
        }
        let channel = data.split_to(1)[0];
        if !self.base64 {
            return Some((channel, data));
        }
        let channel = channel.checked_sub(b'0')?;
        Some((channel, STANDARD.decode(&data).ok()?.into()))
    }
}

/// Runs a remote command over an upgraded connection until either side ends.
pub async fn run(io: impl AsyncRead + AsyncWrite + Unpin, protocol: &str, pending: Pending) {
    let dialect = Dialect::of(protocol);
    let reads_stdout = match &pending {
        Pending::Exec(_, request) => request.stdout,
        Pending::Attach(_, request, _) => request.stdout,
        Pending::PortForward(..) => false,
    };
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut to, from) = socket.split();
    // Clients take the first message as the sign that the session stands.
    let first = if reads_stdout { STDOUT } else { ERROR };
    if to.send(dialect.encode(first, b"")).await.is_err() {
        return;
    }
    let (session, peer) = pair();
    let Peer { stdin, resize, mut output, gone } = peer;
    let writing = async {
        while let Some(piece) = output.recv().await {
            let (last, message) = encode_output(dialect, piece);
            if let Some(message) = message
                && to.send(message).await.is_err()
            {
                break;
            }
            if last {
                break;
            }
        }
        close(to).await;
    };
    let reading = async {
        read(from, dialect, stdin, resize).await;
        gone.cancel();
        // Only the end of the output ends the session from here on.
        std::future::pending::<()>().await;
    };
    let running = remote::run(pending, session);
    tokio::select! {
        _ = async { tokio::join!(writing, running) } => {}
        () = reading => {}
    }
}

/// The close that clients take as the ordinary end; one without a code is an error to kubectl.
pub(super) fn normal_close() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") }
}

fn encode_output(dialect: Dialect, output: Output) -> (bool, Option<Message>) {
    match output {
        Output::Stdout(data) => (false, Some(dialect.encode(STDOUT, &data))),
        Output::Stderr(data) => (false, Some(dialect.encode(STDERR, &data))),
        Output::Finish(finish) => (true, encode_finish(dialect, &finish)),
    }
}

fn encode_finish(dialect: Dialect, finish: &Finish) -> Option<Message> {
    if dialect.status {
        return Some(dialect.encode(ERROR, finish.to_status().to_string().as_bytes()));
    }
    let text = finish.to_text();
    (!text.is_empty()).then(|| dialect.encode(ERROR, text.as_bytes()))
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut to: SplitSink<WebSocketStream<S>, Message>) {
    let _ = to.send(Message::Close(Some(normal_close()))).await;
    let _ = to.close().await;
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut from: SplitStream<WebSocketStream<S>>,
    dialect: Dialect,
    mut stdin: Option<tokio::sync::mpsc::Sender<Bytes>>,
    resize: tokio::sync::mpsc::Sender<shim::TerminalSize>,
) {
    while let Some(Ok(message)) = from.next().await {
        if message.is_close() {
            return;
        }
        match dialect.decode(message) {
            Some((STDIN, data)) if !data.is_empty() => {
                // An error means that the command does not read any more.
                if let Some(to) = &stdin
                    && to.send(data).await.is_err()
                {
                    stdin = None;
                }
            }
            Some((RESIZE, data)) => {
                if let Ok(size) = serde_json::from_slice::<WireSize>(&data) {
                    // A full channel loses an old size to nobody's harm.
                    let _ = resize.try_send(size.into());
                }
            }
            Some((CLOSE, data)) if dialect.close && data.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_stream() {
        let binary = Dialect::of("v5.channel.k8s.io");
        assert_eq!(binary.encode(1, b"hi"), Message::Binary(Bytes::from_static(b"\x01hi")));
        assert_eq!(binary.decode(Message::Binary(Bytes::from_static(b"\xff\x00"))).unwrap().0, CLOSE);
        let base64 = Dialect::of("base64.channel.k8s.io");
        assert_eq!(base64.encode(1, b"hi"), Message::Text("1aGk=".into()));
        assert_eq!(base64.decode(Message::Text("0aGk=".into())), Some((0, Bytes::from_static(b"hi"))));
        assert_eq!(base64.decode(Message::Text("0%".into())), None);
        assert_eq!(binary.decode(Message::Binary(Bytes::new())), None);
    }

    #[test]
    fn the_end_is_told_in_the_clients_version() {
        let v4 = Dialect::of("v4.channel.k8s.io");
        let Some(Message::Binary(data)) = encode_finish(v4, &Finish::Exit(3)) else { panic!("no message") };
        let status: serde_json::Value = serde_json::from_slice(&data[1..]).unwrap();
        assert_eq!((data[0], &status["reason"]), (ERROR, &"NonZeroExitCode".into()));
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        let v1 = Dialect::of("channel.k8s.io");
        assert_eq!(encode_finish(v1, &Finish::Exit(0)), None);
        assert!(encode_finish(v4, &Finish::Exit(0)).is_some());
    }
}
