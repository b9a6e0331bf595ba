//! Connections between members: frames of the replicated store over HTTP/2, with or without mutual TLS.
//!
//! Each member keeps one request to each other, whose body carries its frames for as long as both run. The protocol is
//! ours; upstream's members cannot take part.

mod client;
mod join;
mod server;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::TaskScope;
use bytes::Bytes;
use parking_lot::Mutex;
use pki::KeyPairFiles;
use store::replicated::Transport;
use store::{Member, MemberId};
use tokio::sync::{mpsc, watch};

pub use join::{JoinError, find_members};
pub use server::serve;

/// Frames that wait for one member; further ones are dropped.
const QUEUE_FRAMES: usize = 4096;
/// Bytes of them.
const QUEUE_BYTES: usize = 64 << 20;
/// One frame; an append of several entries, or a piece of a snapshot.
const MAX_FRAME_BYTES: usize = 64 << 20;
/// Where frames go, and where members that join ask.
const STREAM_PATH: &str = "/corten/peer/stream";
const MEMBERS_PATH: &str = "/corten/peer/members";
/// Which cluster the sender takes the receiver for a member of, in hexadecimal.
const CLUSTER_HEADER: &str = "corten-cluster";
/// Who the sender is, and whom it wants, in hexadecimal.
const FROM_HEADER: &str = "corten-from";
const TO_HEADER: &str = "corten-to";

/// How other members are trusted, and how this one shows itself to them.
#[derive(Debug, Clone, Default)]
pub struct PeerTls {
    /// Authorities of the others' certificates.
    pub authorities: Vec<PathBuf>,
    /// The own certificate, for those who ask.
    pub identity: Option<KeyPairFiles>,
}

/// What is under way to one member.
struct Link {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    urls: watch::Sender<Vec<String>>,
}

/// The ways from this member to the others.
pub struct Peers {
    tls: PeerTls,
    links: Mutex<HashMap<MemberId, Link>>,
    scope: TaskScope,
    runtime: tokio::runtime::Handle,
}

impl Peers {
    /// Without any yet. Connections are tasks of `scope`; must be called on a tokio runtime.
    pub fn new(tls: PeerTls, scope: &TaskScope) -> Arc<Self> {
        let (links, scope) = (Mutex::default(), scope.child("peers"));
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { tls, links, scope, runtime })
    }

    fn link(&self, cluster_id: u64, from: MemberId, member: &Member) -> Link {
        let (frames, queue) = mpsc::channel(QUEUE_FRAMES);
        let (urls, urls_seen) = watch::channel(member.peer_urls.clone());
        let bytes = Arc::new(AtomicUsize::new(0));
        let sender = client::Sender {
            from,
            to: member.id,
            cluster_id,
            tls: self.tls.clone(),
            urls: urls_seen,
            queue,
            bytes: bytes.clone(),
            scope: self.scope.clone(),
        };
        let _runtime = self.runtime.enter();
        self.scope.spawn(sender.run());
        Link { frames, bytes, urls }
    }
}

impl Transport for Peers {
    fn send(&self, to: MemberId, frame: Bytes) {
        let links = self.links.lock();
        let Some(link) = links.get(&to) else { return };
        let size = frame.len();
        if link.bytes.load(Ordering::Relaxed) < QUEUE_BYTES && link.frames.try_send(frame).is_ok() {
            link.bytes.fetch_add(size, Ordering::Relaxed);
        }
    }

    fn members(&self, cluster_id: u64, own: MemberId, members: &[Member]) {
        let mut links = self.links.lock();
        // A link that goes still sends what waits: a member learns so that it was removed.
        links.retain(|id, _| members.iter().any(|member| member.id == *id));
        for member in members.iter().filter(|member| member.id != own) {
            match links.get(&member.id) {
                Some(link) => link.urls.send_if_modified(|urls| {
                    let changed = *urls != member.peer_urls;
                    urls.clone_from(&member.peer_urls);
                    changed
                }),
                None => links.insert(member.id, self.link(cluster_id, own, member)).is_some(),
            };
        }
    }
}
