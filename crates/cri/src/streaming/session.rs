//! A remote session without its transport: bounded channels between a connection and a container.

use bytes::Bytes;
use shim::TerminalSize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::status::Finish;

/// How many pieces may wait in a channel before the other side has to.
const CHANNEL_PIECES: usize = 16;

/// What goes to the client.
#[derive(Debug)]
pub enum Output {
    /// Standard output, or all of a terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The end; nothing follows.
    Finish(Finish),
}

/// The container's side.
pub struct Session {
    /// Standard input; ends when the client ends it.
    pub stdin: mpsc::Receiver<Bytes>,
    /// Sizes of the client's terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
    /// To the client.
    pub output: mpsc::Sender<Output>,
    /// Cancelled when the connection ends.
    pub gone: CancellationToken,
}

/// The connection's side.
pub struct Peer {
    /// Dropped at the end of standard input.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// Sizes of the terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// To the client.
    pub output: mpsc::Receiver<Output>,
    /// To be cancelled when the connection ends.
    pub gone: CancellationToken,
}

/// A session and its other side.
pub fn pair() -> (Session, Peer) {
    let (stdin_tx, stdin) = mpsc::channel(CHANNEL_PIECES);
    let (resize_tx, resize) = mpsc::channel(CHANNEL_PIECES);
    let (output, output_rx) = mpsc::channel(CHANNEL_PIECES);
    let gone = CancellationToken::new();
    let session = Session { stdin, resize, output, gone: gone.clone() };
    (session, Peer { stdin: Some(stdin_tx), resize: resize_tx, output: output_rx, gone })
}

/// A terminal's size as clients send it: `{"Width":80,"Height":24}`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WireSize {
    width: u16,
    height: u16,
}

impl From<WireSize> for TerminalSize {
    fn from(size: WireSize) -> Self {
        Self { width: size.width, height: size.height }
    }
}
