//! Port-forward over SPDY/3.1: for each connection a pair of streams, data and error.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::spdy::{Connection, Stream, StreamWriter};
use crate::disk::blocking;
use crate::error::{Error, Result};
use crate::netns;

/// The protocol, as it is negotiated.
pub const PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
/// The most connections at a time, and halves of pairs that wait for the other.
const MAX_FORWARDS: usize = 256;
const READ_BYTES: usize = 32 << 10;

/// Serves an upgraded connection until it ends.
pub async fn run(io: impl AsyncRead + AsyncWrite, netns: Option<PathBuf>) {
    let (connection, work) = Connection::serve(io);
    tokio::select! {
        () = work => {}
        () = serve(connection, netns) => {}
    }
}

async fn serve(mut connection: Connection, netns: Option<PathBuf>) {
    let mut halves: HashMap<String, Stream> = HashMap::new();
    let mut forwards = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = connection.accept() => stream,
            Some(_) = forwards.join_next(), if !forwards.is_empty() => continue,
        };
        let Some(stream) = stream else { break };
        if halves.len() + forwards.len() >= MAX_FORWARDS {
            tracing::warn!("too many forwarded connections at a time; one is refused");
            continue;
        }
        let request = stream.header("requestid").or(stream.header("port")).unwrap_or_default().to_owned();
        let Some(other) = halves.remove(&request) else {
            halves.insert(request, stream);
            continue;
        };
        let is_data = |s: &Stream| s.header("streamtype") == Some("data");
        let (data, error) = if is_data(&stream) { (stream, other) } else { (other, stream) };
        if is_data(&data) {
            forwards.spawn(forward_pair(data, error, netns.clone()));
        }
    }
    while forwards.join_next().await.is_some() {}
}

async fn forward_pair(data: Stream, error: Stream, netns: Option<PathBuf>) {
    let port = data.header("port").and_then(|p| p.parse().ok()).unwrap_or(0);
    let result = match dial(netns.as_deref(), port).await {
        Ok(tcp) => join(tcp, data.data, data.writer).await,
        Err(error) => {
            let _ = data.writer.finish().await;
            Err(error)
        }
    };
    if let Err(failure) = result {
        let text = format!("error forwarding port {port} to pod: {failure}");
        let _ = error.writer.send(text.into()).await;
    }
    let _ = error.writer.finish().await;
}

/// Connects to a port of the pod's own localhost.
pub async fn dial(netns: Option<&Path>, port: u16) -> Result<TcpStream> {
    if port == 0 {
        return Err(Error::InvalidArgument("invalid port".to_owned()));
    }
    let netns = netns.map(Path::to_owned);
    let stream = blocking(move || netns::connect_localhost(netns.as_deref(), port)).await?;
    let failed = |source| Error::Io { doing: "take over a connection".to_owned(), source };
    stream.set_nonblocking(true).map_err(failed)?;
    TcpStream::from_std(stream).map_err(failed)
}

async fn join(tcp: TcpStream, from_client: mpsc::Receiver<Bytes>, to_client: StreamWriter) -> Result<()> {
    let (from_pod, to_pod) = tcp.into_split();
    let (up, down) = tokio::join!(upload(from_client, to_pod), download(from_pod, to_client));
    up.and(down).map_err(|source| Error::Io { doing: "copy".to_owned(), source })
}

/// From the client to the pod, then the end of it.
pub async fn upload(mut from: mpsc::Receiver<Bytes>, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    while let Some(piece) = from.recv().await {
        if to.write_all(&piece).await.is_err() {
            // The pod reads no more; what it has to say may still come.
            return Ok(());
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

async fn download(mut from: OwnedReadHalf, to: StreamWriter) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) => return to.finish().await,
            Ok(count) => to.send(buffer.split_to(count).freeze()).await?,
            Err(error) => {
                let _ = to.finish().await;
                return Err(error);
            }
        }
    }
}
