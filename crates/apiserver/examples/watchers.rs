//! How soon many watchers see a change: connections of their own over TLS, HTTP/1.1, one thread. `bench api` runs it.
//!
//! `watchers ADDRESS TOKEN COLLECTION NAME WATCHERS CHANGES` watches the collection and changes an annotation of one
//! object of it; it prints `RESULT P50 P99 MOST` in microseconds, each from the moment the change is sent to the moment
//! one watcher has read it.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes read at once.
const BUFFER: usize = 16 * 1024;
/// How long all of them may take to see a change.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between a change that all have seen and the next.
const PAUSE: Duration = Duration::from_millis(20);

type Failure = Box<dyn Error + Send + Sync>;
type Stream = TlsStream<TcpStream>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, token, collection, name, watchers, changes] = &args[..] else {
        return Err("usage: watchers ADDRESS TOKEN COLLECTION NAME WATCHERS CHANGES".into());
    };
    let load = Load {
        address: address.parse()?,
        token: token.clone(),
        collection: collection.clone(),
        name: name.clone(),
        // What is measured is not who the server is.
        tls: TlsConnector::from(pki::unverified_client_config(Vec::new())?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut seen = runtime.block_on(load.run(watchers.parse()?, changes.parse()?))?;
    seen.sort_unstable();
    let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize].as_micros();
    println!("RESULT {} {} {}", at(0.5), at(0.99), at(1.0));
    Ok(())
}

struct Load {
    address: SocketAddr,
    token: String,
    collection: String,
    name: String,
    tls: TlsConnector,
}

impl Load {
    /// For every watcher and change, how long the one took to see the other.
    async fn run(&self, watchers: usize, changes: usize) -> Result<Vec<Duration>, Failure> {
        let (saw, mut sights) = channel(watchers.max(1));
        let mut tasks = tokio::task::JoinSet::new();
        let mut writer = self.connect().await?;
        let revision = self.change(&mut writer, 0).await?;
        for _ in 0..watchers {
            let path = format!("{}?watch=true&resourceVersion={revision}", self.collection);
            let mut stream = self.connect().await?;
            stream.write_all(self.head("GET", &path, "", 0).as_bytes()).await?;
            answer(&mut stream).await?;
            tasks.spawn(watch(stream, saw.clone()));
        }
        let mut took = Vec::with_capacity(watchers * changes);
        // The first finds caches cold.
        for change in 1..=changes + 1 {
            let sent = Instant::now();
            let both =
                async { tokio::join!(self.change(&mut writer, change), seen(&mut sights, change, watchers)) };
            let (changed, seen) = tokio::time::timeout(PATIENCE, both).await?;
            changed?;
            if change > 1 {
                took.extend(seen.into_iter().map(|at| at - sent));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(took)
    }

    /// Writes the number of a change into the object; gives the object's resourceVersion.
    async fn change(&self, writer: &mut Stream, number: usize) -> Result<String, Failure> {
        let body = format!(r#"{{"metadata":{{"annotations":{{"tick":"tick-{number:06}."}}}}}}"#);
        let media = "Content-Type: application/merge-patch+json\r\n";
        let head = self.head("PATCH", &format!("{}/{}", self.collection, self.name), media, body.len());
        writer.write_all((head + &body).as_bytes()).await?;
        let answer = answer(writer).await?;
        let (_, version) = answer.split_once(r#""resourceVersion":""#).ok_or("an object has a version")?;
        Ok(version.chars().take_while(char::is_ascii_digit).collect())
    }

    async fn connect(&self) -> Result<Stream, Failure> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    fn head(&self, method: &str, path: &str, more: &str, length: usize) -> String {
        let Self { token, .. } = self;
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}\
             Content-Length: {length}\r\n\r\n"
        )
    }
}

/// The first bytes of a response that must be a success.
async fn answer(stream: &mut Stream) -> Result<String, Failure> {
    let mut buffer = [0; BUFFER];
    let length = stream.read(&mut buffer).await?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    if text.starts_with("HTTP/1.1 200") { Ok(text) } else { Err(text.into()) }
}

/// When each of `count` watchers saw that change.
async fn seen(sights: &mut Receiver<(usize, Instant)>, change: usize, count: usize) -> Vec<Instant> {
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        match sights.recv().await {
            Some((number, at)) if number == change => seen.push(at),
            Some(_) => {}
            None => break,
        }
    }
    seen
}

/// Reads events and says of each change when it was there.
async fn watch(mut stream: Stream, saw: Sender<(usize, Instant)>) {
    const MARK: &[u8] = b"tick-";
    /// The mark, six digits and a point, which ends what is looked for.
    const LENGTH: usize = MARK.len() + 7;
    let mut buffer = [0; BUFFER];
    let mut kept = 0;
    while let Ok(length @ 1..) = stream.read(&mut buffer[kept..]).await {
        let at = Instant::now();
        let filled = kept + length;
        let marks = memchr::memmem::find_iter(&buffer[..filled], MARK);
        for window in marks.filter_map(|start| buffer[..filled].get(start..start + LENGTH)) {
            let digits = std::str::from_utf8(&window[MARK.len()..LENGTH - 1]).unwrap_or_default();
            let Ok(number) = digits.parse() else { continue };
            if saw.send((number, at)).await.is_err() {
                return;
            }
        }
        kept = filled.min(LENGTH - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}
