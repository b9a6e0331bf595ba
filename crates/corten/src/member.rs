//! A server's own member of the replicated store: opened, heard by the others and by clients of etcd's API, and let
//! vote when it has caught up.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base::{TaskScope, system_clock};
use etcd::Listen;
use etcd::peer::{PeerTls, Peers, serve};
use pki::ServerTls;
use store::replicated::{MemberConfig, Replicated, Start};
use store::{Cluster, ClusterError, Error, Member, MemberId, Store};

use crate::certs::Certificates;
use crate::components::until_handed_over;
use crate::layout::Layout;
use crate::role::{ETCD_CLIENT_PORT, ETCD_PEER_PORT, Membership};
use crate::settings::Settings;

/// Between a leader's signs of life, and how long it may be silent (etcd's defaults).
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION: Duration = Duration::from_secs(1);
/// Between tries while there is no quorum, or the member has not caught up.
const RETRY: Duration = Duration::from_millis(200);
/// How long components may take to let go of what they hold in the store, when the server stops.
pub const LET_GO: Duration = Duration::from_secs(3);

/// What opening needs.
pub struct Opening<'a> {
    /// Who the member is.
    pub membership: &'a Membership,
    /// The machine.
    pub settings: &'a Settings,
    /// Where its data is.
    pub layout: &'a Layout,
    /// Its files.
    pub certificates: &'a Certificates,
}

impl Opening<'_> {
    /// Opens the member and serves it. When `scope` ends, it waits for the tasks of `users`, lets another member lead,
    /// and closes.
    pub async fn open(&self, scope: &TaskScope, users: &TaskScope) -> anyhow::Result<Replicated> {
        let authority = self.certificates.etcd_authority();
        let peer = self.certificates.pair("etcd/peer");
        let listen = |port, identity| bind(port, identity, authority.clone());
        let of_peers = listen(ETCD_PEER_PORT, peer.clone()).await?;
        let of_clients = listen(ETCD_CLIENT_PORT, self.certificates.pair("etcd/server")).await?;
        // The others are heard until the data is closed.
        let peers_scope = TaskScope::new("members");
        let tls = PeerTls { authorities: vec![authority.clone()], identity: Some(peer) };
        let peers = Peers::new(tls, &peers_scope);
        let config = self.config();
        let dir = config.store.dir.clone();
        let opening = tokio::task::spawn_blocking(move || Replicated::open(&config, peers, system_clock()));
        let store = opening.await?.with_context(|| format!("open the data in {}", dir.display()))?;
        let own = store.status().member_id;
        peers_scope.spawn(serve(store.clone(), own, of_peers, peers_scope.clone()));
        let (keys, cluster) = (Arc::new(store.clone()), Arc::new(store.clone()));
        let server = etcd::Server::new(keys, cluster, etcd::Options::default(), scope);
        scope.spawn(etcd::serve(server, of_clients, scope.clone()));
        let (closing, users, ends) = (store.clone(), users.clone(), scope.token().clone());
        scope.spawn_graceful(async move {
            ends.cancelled().await;
            users.shutdown(LET_GO).await;
            until_handed_over(&closing, own, peers_scope).await;
        });
        Ok(store)
    }

    fn config(&self) -> MemberConfig {
        let Membership { cluster_id, id, peer_url, client_url, members } = self.membership.clone();
        let member = Member {
            id: MemberId(id),
            name: self.settings.node_name.clone(),
            peer_urls: vec![peer_url],
            client_urls: vec![client_url],
            is_learner: false,
        };
        let start = match members.is_empty() {
            true => Start::New(vec![member.clone()]),
            false => Start::Join(members.iter().map(Member::from).collect()),
        };
        MemberConfig {
            store: store::Config::new(self.layout.store()),
            member,
            cluster_id,
            start,
            force_new_cluster: false,
            heartbeat: HEARTBEAT,
            election: ELECTION,
        }
    }
}

/// Binds a port for those with a certificate by the members' authority.
async fn bind(port: u16, identity: pki::KeyPairFiles, authority: PathBuf) -> anyhow::Result<Listen> {
    let tls = ServerTls {
        identity,
        client_authorities: vec![authority],
        client_required: true,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let address = format!("{}:{port}", Ipv4Addr::UNSPECIFIED);
    Ok(Listen::bind(&address, Some(pki::server_config(&tls)?)).await?)
}

/// Waits until there is a quorum and this member has what was written before it came, and gives it a vote.
pub async fn take_part(store: &Replicated) -> anyhow::Result<()> {
    let mut told = false;
    let own = store.status().member_id;
    let votes = || store.members().iter().any(|member| member.id == own && !member.is_learner);
    loop {
        let complaint = match store.read_barrier().await {
            Ok(_) if votes() => return Ok(()),
            Ok(_) => match store.promote(own).await {
                Ok(()) | Err(ClusterError::MemberNotLearner) => None,
                Err(ClusterError::Store(Error::Closed)) => anyhow::bail!("the store closed"),
                Err(error) => Some(error.to_string()),
            },
            Err(Error::Closed) => anyhow::bail!("the store closed"),
            Err(error) => Some(error.to_string()),
        };
        if let Some(complaint) = complaint
            && !std::mem::replace(&mut told, true)
        {
            tracing::info!("waits for the other members: {complaint}");
        }
        // Nothing tells when the leader finds that a learner has caught up.
        tokio::time::sleep(RETRY).await;
    }
}
