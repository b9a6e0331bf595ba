//! The members behind a store: what the v3 API's Cluster and Maintenance services ask beyond keys.
//!
//! [`SingleMember`] answers for the embedded store, which has one member and always a leader.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use crate::{Embedded, Error, Revision, Store};

/// Chunks of a snapshot that wait for a slow reader.
pub const SNAPSHOT_QUEUE_CHUNKS: usize = 4;
/// The setting that holds the alarms, see [`Cluster::alarms`].
const ALARMS: &str = "alarms";
/// Times that a setting is read again because somebody else changed it.
const SETTING_ATTEMPTS: usize = 16;

/// A member's id, printed as etcd prints it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A member as the member list has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Never given twice in a cluster.
    pub id: MemberId,
    /// Empty until the member has started once.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// It receives everything and has no vote.
    pub is_learner: bool,
}

/// How the member that is asked stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// The cluster.
    pub cluster_id: u64,
    /// The member asked.
    pub member_id: MemberId,
    /// The leader that it knows; none: there is an election or no quorum.
    pub leader: Option<MemberId>,
    /// Raft's term.
    pub term: u64,
    /// The last index that is known to be committed.
    pub index: u64,
    /// The last index whose effect reads see.
    pub applied: u64,
    /// Bytes that the store takes.
    pub db_bytes: u64,
    /// Bytes of these that the newest state needs.
    pub db_bytes_in_use: u64,
    /// Whether the member asked is a learner.
    pub is_learner: bool,
}

/// A standing complaint of a member, which stays until a person takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The quota or the disk is full; only reads and deletions are taken.
    NoSpace,
    /// The member's data differs from that of the others.
    Corrupt,
}

/// A small value of the cluster beside its keyspace: without revision, history or watch, but replicated and durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// Goes up with every change; zero: it was never set.
    pub version: u64,
    /// What it says.
    pub value: Bytes,
}

/// A whole state on its way to a file.
pub struct SnapshotStream {
    /// The revision of the state.
    pub revision: Revision,
    /// Bytes of all chunks together.
    pub total_bytes: u64,
    /// The bytes of a snapshot file, in order. An error ends it.
    pub chunks: mpsc::Receiver<Result<Bytes, Error>>,
}

/// Why a change of members was refused or failed. The texts are etcd's where it has one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// The id is taken.
    #[error("member ID already exist")]
    MemberExists,
    /// One of the URLs is another member's.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// There is no such member.
    #[error("member not found")]
    MemberNotFound,
    /// Only learners can be promoted.
    #[error("can only promote a learner member")]
    MemberNotLearner,
    /// The learner is too far behind to be promoted.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// There are as many learners as there may be.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// Without this member there is no quorum of started ones.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// The members do not all answer.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// Only the leader can do this.
    #[error("not leader")]
    NotLeader,
    /// Leadership cannot go to that member.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// Leadership did not move in time.
    #[error("request timed out, leader transfer took too long")]
    LeaderTransferTimeout,
    /// This kind of store cannot do it.
    #[error("{0} is not supported by this store")]
    Unsupported(&'static str),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a store tells about its members, and how they are changed. Changes are answered when they are in force.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// All members, in the order of their ids.
    fn members(&self) -> Vec<Member>;

    /// How this member stands.
    fn status(&self) -> MemberStatus;

    /// Raft's term; cheap, since every answer tells it.
    fn term(&self) -> u64 {
        self.status().term
    }

    /// Whether this member is a learner; cheap as well.
    fn is_learner(&self) -> bool {
        self.status().is_learner
    }

    /// Whether this member knows a leader, and when that changes. None: there always is one.
    fn has_leader(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// Adds a voting member that is about to start; the whole new list has it.
    async fn add(&self, peer_urls: Vec<String>) -> Result<Member, ClusterError>;

    /// Adds a learner.
    async fn add_learner(&self, peer_urls: Vec<String>) -> Result<Member, ClusterError>;

    /// Gives a learner a vote.
    async fn promote(&self, id: MemberId) -> Result<(), ClusterError>;

    /// Takes a member out.
    async fn remove(&self, id: MemberId) -> Result<(), ClusterError>;

    /// Changes where other members reach a member.
    async fn update(&self, id: MemberId, peer_urls: Vec<String>) -> Result<(), ClusterError>;

    /// Moves leadership from this member, which must have it, to another.
    async fn move_leader(&self, to: MemberId) -> Result<(), ClusterError>;

    /// Gives back disk space that nothing needs; without a pause in service.
    async fn defragment(&self) -> Result<(), ClusterError>;

    /// The newest state of this member as the content of a snapshot file.
    async fn snapshot(&self) -> Result<SnapshotStream, ClusterError>;

    /// A setting as this member has it; version zero if it was never set.
    fn setting(&self, name: &str) -> Setting;

    /// Sets a setting whose version is `expected`; gives the new version.
    ///
    /// # Errors
    /// [`Error::SettingChanged`] if it has another version by now.
    async fn set_setting(&self, name: &str, expected: u64, value: Bytes) -> Result<u64, ClusterError>;

    /// The alarms of all members.
    fn alarms(&self) -> Vec<(MemberId, Alarm)> {
        parse_alarms(&self.setting(ALARMS).value)
    }

    /// Raises an alarm or takes it back; says whether that changed anything.
    async fn set_alarm(&self, member: MemberId, alarm: Alarm, raised: bool) -> Result<bool, ClusterError> {
        for _ in 0..SETTING_ATTEMPTS {
            let Setting { version, value } = self.setting(ALARMS);
            let mut alarms = parse_alarms(&value);
            let before = alarms.len();
            alarms.retain(|other| *other != (member, alarm));
            if raised {
                alarms.push((member, alarm));
            }
            if alarms.len() == before {
                return Ok(false);
            }
            match self.set_setting(ALARMS, version, encode_alarms(&alarms)).await {
                Ok(_) => return Ok(true),
                Err(ClusterError::Store(Error::SettingChanged)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::SettingChanged.into())
    }
}

/// Nine bytes per alarm: the member's id and the kind.
fn encode_alarms(alarms: &[(MemberId, Alarm)]) -> Bytes {
    let one = |(member, alarm): &(MemberId, Alarm)| {
        let kind = match alarm {
            Alarm::NoSpace => 1,
            Alarm::Corrupt => 2,
        };
        member.0.to_le_bytes().into_iter().chain([kind])
    };
    alarms.iter().flat_map(one).collect::<Vec<u8>>().into()
}

fn parse_alarms(value: &[u8]) -> Vec<(MemberId, Alarm)> {
    let (alarms, _) = value.as_chunks::<9>();
    let one = |[id @ .., kind]: &[u8; 9]| {
        let alarm = if *kind == 1 { Alarm::NoSpace } else { Alarm::Corrupt };
        (MemberId(u64::from_le_bytes(*id)), alarm)
    };
    alarms.iter().map(one).collect()
}

/// The cluster of an embedded store: this member alone.
pub struct SingleMember {
    store: Embedded,
    cluster_id: u64,
    member: RwLock<Member>,
}

impl SingleMember {
    /// The cluster `cluster_id` of `member` alone over `store`.
    pub fn new(store: Embedded, cluster_id: u64, member: Member) -> Arc<Self> {
        Arc::new(Self { store, cluster_id, member: RwLock::new(member) })
    }

    fn check(&self, id: MemberId) -> Result<(), ClusterError> {
        if self.member.read().id == id { Ok(()) } else { Err(ClusterError::MemberNotFound) }
    }
}

#[async_trait]
impl Cluster for SingleMember {
    fn members(&self) -> Vec<Member> {
        vec![self.member.read().clone()]
    }

    fn status(&self) -> MemberStatus {
        let member_id = self.member.read().id;
        let (db_bytes, db_bytes_in_use) = self.store.size_bytes();
        let revision = self.store.current_revision().0;
        MemberStatus {
            cluster_id: self.cluster_id,
            member_id,
            leader: Some(member_id),
            term: 1,
            index: revision,
            applied: revision,
            db_bytes,
            db_bytes_in_use,
            is_learner: false,
        }
    }

    fn term(&self) -> u64 {
        1
    }

    fn is_learner(&self) -> bool {
        false
    }

    async fn add(&self, _: Vec<String>) -> Result<Member, ClusterError> {
        Err(ClusterError::Unsupported("adding a member"))
    }

    async fn add_learner(&self, _: Vec<String>) -> Result<Member, ClusterError> {
        Err(ClusterError::Unsupported("adding a learner"))
    }

    async fn promote(&self, id: MemberId) -> Result<(), ClusterError> {
        self.check(id)?;
        Err(ClusterError::MemberNotLearner)
    }

    async fn remove(&self, id: MemberId) -> Result<(), ClusterError> {
        self.check(id)?;
        Err(ClusterError::NotEnoughStarted)
    }

    async fn update(&self, id: MemberId, peer_urls: Vec<String>) -> Result<(), ClusterError> {
        self.check(id)?;
        self.member.write().peer_urls = peer_urls;
        Ok(())
    }

    async fn move_leader(&self, to: MemberId) -> Result<(), ClusterError> {
        // As upstream, a transfer to the leader itself is done already.
        self.check(to).map_err(|_| ClusterError::BadLeaderTransferee)
    }

    async fn defragment(&self) -> Result<(), ClusterError> {
        Ok(self.store.checkpoint().await?)
    }

    async fn snapshot(&self) -> Result<SnapshotStream, ClusterError> {
        Ok(self.store.snapshot_stream()?)
    }

    fn setting(&self, name: &str) -> Setting {
        self.store.setting(name)
    }

    async fn set_setting(&self, name: &str, expected: u64, value: Bytes) -> Result<u64, ClusterError> {
        Ok(self.store.set_setting(name, expected, value).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alarms_and_settings_are_kept_and_compared() {
        let clock = base::system_clock();
        let store = Embedded::in_memory(clock).unwrap();
        let one = SingleMember::new(store, 7, Member { id: MemberId(9), ..Member::default() });
        assert!(one.set_alarm(MemberId(9), Alarm::NoSpace, true).await.unwrap());
        assert!(!one.set_alarm(MemberId(9), Alarm::NoSpace, true).await.unwrap());
        assert_eq!(one.alarms(), [(MemberId(9), Alarm::NoSpace)]);
        assert!(one.set_alarm(MemberId(9), Alarm::NoSpace, false).await.unwrap());
        assert_eq!(one.alarms(), []);
        assert_eq!(one.set_setting("a", 0, Bytes::from_static(b"x")).await.unwrap(), 1);
        let again = one.set_setting("a", 0, Bytes::from_static(b"y")).await;
        assert!(matches!(again, Err(ClusterError::Store(Error::SettingChanged))), "{again:?}");
        assert_eq!(one.setting("a"), Setting { version: 1, value: Bytes::from_static(b"x") });
    }
}
