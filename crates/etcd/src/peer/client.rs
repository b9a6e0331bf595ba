//! The sending side: one request per member, made again when it breaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::TaskScope;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, StatusCode, Uri};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use store::MemberId;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{CLUSTER_HEADER, FROM_HEADER, PeerTls, STREAM_PATH, TO_HEADER};
use crate::connect::dial;

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A silent member is asked whether it is there, and its connection given up.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How long what waits for a removed member is still tried to be sent.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of frames that go out as one piece, and pieces on their way to the connection.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 4;
/// Bytes under way unread.
const WINDOW: u32 = 8 << 20;

type Body = BoxBody<Bytes, Infallible>;

/// See the module.
pub(super) struct Sender {
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    pub(super) cluster_id: u64,
    pub(super) tls: PeerTls,
    pub(super) urls: watch::Receiver<Vec<String>>,
    pub(super) queue: mpsc::Receiver<Bytes>,
    pub(super) bytes: Arc<AtomicUsize>,
    pub(super) scope: TaskScope,
}

/// Connects to a member; the connection is a task of `scope`.
pub(super) async fn connect(
    url: &str,
    tls: &PeerTls,
    scope: &TaskScope,
) -> Result<SendRequest<Body>, String> {
    let wrong = || format!("{url:?} is no http:// or https:// URL of a member");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(2380);
    let tls = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => {
            let config = pki::client_config(&tls.authorities, tls.identity.clone(), vec![b"h2".to_vec()]);
            Some(config.map_err(|error| error.to_string())?)
        }
        _ => return Err(wrong()),
    };
    let io = dial(host, port, tls).await.map_err(|error| error.to_string())?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let (sender, connection) = builder.handshake(io).await.map_err(|error| error.to_string())?;
    scope.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a member ended");
        }
    });
    Ok(sender)
}

impl Sender {
    /// Sends until the member is removed.
    pub(super) async fn run(mut self) {
        let mut wait = RETRY;
        let mut at = 0;
        loop {
            let urls = self.urls.borrow_and_update().clone();
            let url = urls.get(at % urls.len().max(1)).cloned().unwrap_or_default();
            let failed = match connect(&url, &self.tls, &self.scope).await {
                Ok(connection) => {
                    wait = RETRY;
                    self.stream(&url, connection).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = failed else { return };
            tracing::debug!(member = %self.to, url, error, "not connected to a member");
            at += 1;
            let removed = self.queue.is_closed();
            if removed && wait > LINGER {
                return;
            }
            // What waits is old by then; a new URL is tried at once.
            self.drop_waiting();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.urls.changed() => if changed.is_err() {
                    // Removed while it cannot be reached: nothing more can be told.
                    return;
                },
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn drop_waiting(&mut self) {
        while let Ok(frame) = self.queue.try_recv() {
            self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        }
    }

    /// Err: the connection broke, or was refused. Ok: the member was removed and everything sent.
    async fn stream(&mut self, url: &str, mut connection: SendRequest<Body>) -> Result<(), String> {
        let (pieces, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(PIECES);
        let request = Request::post(format!("{}{STREAM_PATH}", url.trim_end_matches('/')))
            .header(CLUSTER_HEADER, format!("{:x}", self.cluster_id))
            .header(FROM_HEADER, self.from.to_string())
            .header(TO_HEADER, self.to.to_string())
            .body(BoxBody::new(StreamBody::new(ReceiverStream::new(body))))
            .map_err(|error| error.to_string())?;
        let answer = connection.send_request(request);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return match answer {
                    Ok(answer) if answer.status() == StatusCode::OK => Err("the member stops".to_owned()),
                    Ok(answer) => Err(format!("the member refuses: {}", answer.status())),
                    Err(error) => Err(error.to_string()),
                },
                frame = self.queue.recv() => {
                    let Some(frame) = frame else {
                        drop(pieces);
                        // The answer comes when the other has read all of it.
                        _ = tokio::time::timeout(LINGER, answer).await;
                        return Ok(());
                    };
                    let piece = self.piece(frame);
                    if pieces.send(Ok(Frame::data(piece))).await.is_err() {
                        return Err("the connection ended".to_owned());
                    }
                }
            }
        }
    }

    /// A frame with those that wait behind it.
    fn piece(&mut self, first: Bytes) -> Bytes {
        let mut piece = BytesMut::with_capacity(first.len() + 4);
        let mut next = Some(first);
        while let Some(frame) = next {
            self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
            piece.put_u32_le(frame.len() as u32);
            piece.put_slice(&frame);
            next = if piece.len() < PIECE_BYTES { self.queue.try_recv().ok() } else { None };
        }
        piece.freeze()
    }
}
