//! Remote commands over SPDY/3.1: one stream each for standard input, output, error, the terminal's size and the end.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use shim::TerminalSize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::session::{Output, Peer, WireSize, pair};
use super::spdy::{Connection, Stream, StreamWriter};
use super::status::Finish;
use super::{Pending, remote};

/// The versions of remotecommand, as they are negotiated.
pub const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// How long a client may take to open its streams (upstream's default).
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest message of a terminal's size.
const MAX_RESIZE_BYTES: usize = 1024;

/// The streams that a client opened.
#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

/// Which streams are to come.
#[derive(Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Runs a remote command over an upgraded connection until either side ends.
pub async fn run(io: impl AsyncRead + AsyncWrite, protocol: &str, pending: Pending) {
    let wanted = match &pending {
        Pending::Exec(_, r) => Wanted { stdin: r.stdin, stdout: r.stdout, stderr: r.stderr, tty: r.tty },
        Pending::Attach(_, r, traits) => {
            Wanted { stdin: r.stdin, stdout: r.stdout, stderr: r.stderr, tty: traits.tty }
        }
        Pending::PortForward(..) => return,
    };
    let version = version_of(protocol);
    let (mut connection, work) = Connection::serve(io);
    let command = async {
        let opened = tokio::time::timeout(CREATION_TIMEOUT, collect(&mut connection, wanted, version)).await;
        match opened {
            Ok(Some(streams)) => serve(streams, version, pending).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("timed out waiting for client to create streams"),
        }
        drop(connection);
        // The rest of the connection's work is to let the client read.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = work => {}
        () = command => {}
    }
}

fn version_of(protocol: &str) -> u32 {
    match protocol {
        "v4.channel.k8s.io" => 4,
        "v3.channel.k8s.io" => 3,
        "v2.channel.k8s.io" => 2,
        _ => 1,
    }
}

async fn collect(connection: &mut Connection, wanted: Wanted, version: u32) -> Option<Streams> {
    let resize = wanted.tty && version >= 3;
    let mut missing = 1
        + usize::from(wanted.stdin)
        + usize::from(wanted.stdout)
        + usize::from(wanted.stderr)
        + usize::from(resize);
    let mut streams = Streams::default();
    while missing > 0 {
        let stream = connection.accept().await?;
        let place = match stream.header("streamtype") {
            Some("error") => &mut streams.error,
            Some("stdin") => &mut streams.stdin,
            Some("stdout") => &mut streams.stdout,
            Some("stderr") => &mut streams.stderr,
            Some("resize") => &mut streams.resize,
            other => {
                tracing::debug!(kind = other, "unexpected stream type");
                continue;
            }
        };
        if place.replace(stream).is_none() {
            missing -= 1;
        }
    }
    Some(streams)
}

async fn serve(streams: Streams, version: u32, pending: Pending) {
    let (session, peer) = pair();
    let Peer { stdin, resize, output, gone } = peer;
    // The client ends its stream without ending the session, but a broken connection ends everything.
    let _gone = gone;
    let feed = async {
        if let (Some(stream), Some(to)) = (streams.stdin, stdin) {
            feed(stream, to).await;
        }
    };
    let sizes = async {
        if let Some(stream) = streams.resize {
            follow_sizes(stream, resize).await;
        }
    };
    let writers = Writers {
        stdout: streams.stdout.map(|s| s.writer),
        stderr: streams.stderr.map(|s| s.writer),
        error: streams.error.map(|s| s.writer),
    };
    let write = write(writers, output, version);
    let running = remote::run(pending, session);
    let inputs = async {
        tokio::join!(feed, sizes);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = async { tokio::join!(write, running) } => {}
        () = inputs => {}
    }
}

struct Writers {
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
    error: Option<StreamWriter>,
}

async fn feed(stream: Stream, to: mpsc::Sender<Bytes>) {
    let Stream { mut data, writer, .. } = stream;
    while let Some(piece) = data.recv().await {
        if to.send(piece).await.is_err() {
            break;
        }
    }
    drop(to);
    let _ = writer.finish().await;
}

async fn follow_sizes(mut stream: Stream, to: mpsc::Sender<TerminalSize>) {
    let mut pending = Vec::new();
    while let Some(piece) = stream.data.recv().await {
        pending.extend_from_slice(&piece);
        let (sizes, used) = parse_sizes(&pending);
        pending.drain(..used);
        if pending.len() > MAX_RESIZE_BYTES {
            return;
        }
        for size in sizes {
            // A full channel loses an old size to nobody's harm.
            let _ = to.try_send(size);
        }
    }
}

/// The sizes at the beginning of `text`, and how much of it they take.
fn parse_sizes(text: &[u8]) -> (Vec<TerminalSize>, usize) {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<WireSize>();
    let (mut sizes, mut used) = (Vec::new(), 0);
    while let Some(Ok(size)) = values.next() {
        sizes.push(size.into());
        used = values.byte_offset();
    }
    (sizes, used)
}

async fn write(mut to: Writers, mut from: mpsc::Receiver<Output>, version: u32) {
    while let Some(piece) = from.recv().await {
        let sent = match piece {
            Output::Stdout(data) => send(&to.stdout, data).await,
            Output::Stderr(data) => send(&to.stderr, data).await,
            Output::Finish(finish) => {
                let text = finish_text(&finish, version);
                let sent = if text.is_empty() { Ok(()) } else { send(&to.error, text.into()).await };
                for writer in [to.stdout.take(), to.stderr.take(), to.error.take()].into_iter().flatten() {
                    let _ = writer.finish().await;
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn send(to: &Option<StreamWriter>, data: Bytes) -> io::Result<()> {
    match to {
        Some(writer) => writer.send(data).await,
        None => Ok(()),
    }
}

fn finish_text(finish: &Finish, version: u32) -> String {
    if version >= 4 { finish.to_status().to_string() } else { finish.to_text() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_come() {
        let (sizes, used) = parse_sizes(b"{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2}\n{\"Wid");
        assert_eq!(sizes.len(), 2);
        assert_eq!((sizes[0].width, sizes[0].height, used), (80, 24, 47));
        assert_eq!(parse_sizes(b"nonsense").1, 0);
    }
}
