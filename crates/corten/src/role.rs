//! What a machine is in its cluster, and where the objects are kept: part of what a data directory says of itself.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::{Member, MemberId};

/// Ports of a member of the replicated store (etcd's).
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// See [`ETCD_CLIENT_PORT`].
pub const ETCD_PEER_PORT: u16 = 2380;

/// What a machine is in its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The only control plane, with a store of its own.
    #[default]
    Alone,
    /// One of several control planes, with a member of the store that they replicate.
    Member(Membership),
    /// One of several control planes on an etcd beside them.
    External(External),
}

impl Role {
    /// Whether there are, or may be, other control planes.
    pub fn is_shared(&self) -> bool {
        *self != Self::Alone
    }

    /// Whether it is [`Role::Alone`].
    pub fn is_alone(&self) -> bool {
        !self.is_shared()
    }

    /// The member of the replicated store, if this machine has one.
    pub fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Member(membership) => Some(membership),
            Self::Alone | Self::External(_) => None,
        }
    }
}

/// Who a member of the replicated store is, and whom it knew when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The cluster of members.
    pub cluster_id: u64,
    /// This member.
    pub id: u64,
    /// Where others reach it; it keeps this address.
    pub peer_url: String,
    /// Where clients of etcd's API reach it.
    pub client_url: String,
    /// All members when this one joined, itself among them; empty for the first one.
    pub members: Vec<Peer>,
}

/// A member as one that joins hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where it is reached.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

impl From<&Member> for Peer {
    fn from(member: &Member) -> Self {
        Self {
            id: member.id.0,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            is_learner: member.is_learner,
        }
    }
}

impl From<&Peer> for Member {
    fn from(peer: &Peer) -> Self {
        Self {
            id: MemberId(peer.id),
            name: peer.name.clone(),
            peer_urls: peer.peer_urls.clone(),
            client_urls: Vec::new(),
            is_learner: peer.is_learner,
        }
    }
}

impl Membership {
    /// The first member of a new cluster, at `address`. `cluster_id` is chosen at random.
    pub fn first(address: Ipv4Addr, cluster_id: u64) -> Self {
        let (peer_url, client_url) = urls(address);
        let id = etcd::hash_id(&[peer_url.as_bytes(), &cluster_id.to_be_bytes()]);
        Self { cluster_id, id, peer_url, client_url, members: Vec::new() }
    }
}

/// Where a member at `address` is reached by others and by clients.
pub fn urls(address: Ipv4Addr) -> (String, String) {
    (format!("https://{address}:{ETCD_PEER_PORT}"), format!("https://{address}:{ETCD_CLIENT_PORT}"))
}

/// An etcd beside the control planes (`--etcd-servers` and its companions).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// URLs of its members.
    pub servers: Vec<String>,
    /// Authority of their certificates.
    pub ca_file: Option<PathBuf>,
    /// The certificate to present.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}
