//! Joins a session with a command or a container.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shim::{AttachRequest, ExecRequest, FdStream, Shim, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Pending;
use super::session::{Output, Session};
use super::status::Finish;
use crate::container::AttachTraits;

const READ_BYTES: usize = 32 << 10;
/// How long output is waited for after the command's end, when its children still hold the streams.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs what an address stood for, and tells the client how it ended.
pub async fn run(pending: Pending, session: Session) {
    let (output, gone) = (session.output.clone(), session.gone.clone());
    let work = async {
        match pending {
            Pending::Exec(shim, request) => exec(shim, request, session).await,
            Pending::Attach(shim, request, traits) => attach(shim, request, traits, session).await,
            Pending::PortForward(..) => Finish::Failed("port-forward is not a remote command".to_owned()),
        }
    };
    // Without a client the command is of no use to anybody; dropping its session ends it.
    if let Some(finish) = gone.run_until_cancelled(work).await {
        let _ = output.send(Output::Finish(finish)).await;
    }
}

async fn exec(shim: Shim, request: ExecRequest, session: Session) -> Finish {
    let mut command = match shim.exec(request).await {
        Ok(command) => command,
        Err(error) => return Finish::Failed(format!("error executing command in container: {error}")),
    };
    let Session { stdin, mut resize, output, .. } = session;
    let (to, out, err) = (command.stdin.take(), command.stdout.take(), command.stderr.take());
    let copies = copy_out(out, err, output);
    let feed = feed(stdin, to);
    tokio::pin!(copies, feed);
    let (mut copied, mut fed, mut resizable) = (false, false, true);
    let exit = loop {
        tokio::select! {
            exit = command.wait() => break exit,
            () = &mut copies, if !copied => copied = true,
            () = &mut feed, if !fed => fed = true,
            size = resize.recv(), if resizable => match size {
                Some(size) => {
                    if let Err(error) = command.resize(size) {
                        tracing::debug!(%error, "terminal not resized");
                    }
                }
                None => resizable = false,
            },
        }
    };
    if !copied {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, copies).await;
    }
    match exit {
        Ok(exit) => Finish::Exit(exit.code),
        Err(error) => Finish::Failed(format!("error executing command in container: {error}")),
    }
}

async fn attach(shim: Shim, request: AttachRequest, traits: AttachTraits, session: Session) -> Finish {
    let id = request.container_id.clone();
    let mut joined = match shim.attach(request).await {
        Ok(joined) => joined,
        Err(error) => return Finish::Failed(format!("error attaching to container: {error}")),
    };
    let Session { stdin, mut resize, output, .. } = session;
    let (to, out, err) = (joined.stdin.take(), joined.stdout.take(), joined.stderr.take());
    let has_input = to.is_some();
    let (reads, only_writes) = (out.is_some() || err.is_some(), out.is_none() && err.is_none());
    if only_writes && !has_input {
        return Finish::Exit(0);
    }
    let copies = copy_out(out, err, output);
    let feed = feed(stdin, to);
    tokio::pin!(copies, feed);
    let (mut fed, mut resizable) = (!has_input, traits.tty);
    loop {
        tokio::select! {
            () = &mut copies, if reads => break,
            () = &mut feed, if !fed => {
                fed = true;
                // The shim holds the container's input open for the next client; with this one it ends.
                if traits.stdin_once && !traits.tty && let Err(error) = shim.close_stdin(&id).await {
                    tracing::debug!(%error, "standard input not closed");
                }
                if only_writes {
                    break;
                }
            }
            size = resize.recv(), if resizable => match size {
                Some(size) => resize_container(&shim, &id, size).await,
                None => resizable = false,
            },
        }
    }
    Finish::Exit(0)
}

async fn resize_container(shim: &Shim, id: &str, size: TerminalSize) {
    if let Err(error) = shim.resize(id, size).await {
        tracing::debug!(%error, "terminal not resized");
    }
}

/// Both outputs, each until its end.
async fn copy_out(out: Option<FdStream>, err: Option<FdStream>, output: mpsc::Sender<Output>) {
    tokio::join!(copy(out, &output, Output::Stdout), copy(err, &output, Output::Stderr));
}

async fn copy(from: Option<FdStream>, to: &mpsc::Sender<Output>, wrap: fn(Bytes) -> Output) {
    let Some(mut from) = from else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(count @ 1..) => {
                if to.send(wrap(buffer.split_to(count).freeze())).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Standard input until the client ends it, or the command closes it.
async fn feed(mut from: mpsc::Receiver<Bytes>, to: Option<FdStream>) {
    let Some(mut to) = to else { return };
    while let Some(piece) = from.recv().await {
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}
