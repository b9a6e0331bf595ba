//! The members behind a replicated store.

use async_trait::async_trait;
use bytes::Bytes;
use raft::ChangeKind;
use tokio::sync::watch;

use super::Replicated;
use super::apply::Waiter;
use super::inbox::Input;
use super::peer::{Ask, Told};
use super::request::Request;
use crate::embedded::stream_snapshot;
use crate::state::State;
use crate::{
    Cluster, ClusterError, Error, Key, MAX_REQUEST_BYTES, Member, MemberId, MemberStatus, Setting,
    SnapshotStream, Store,
};

impl Replicated {
    async fn change(&self, kind: ChangeKind, member: Member) -> Result<Member, ClusterError> {
        match self.send(|reply| Input::Ask(Ask::Change { kind, member }, reply)).await? {
            Told::Member(member) => Ok(member),
            Told::Lease(_) => Err(Error::Timeout.into()),
        }
    }
}

fn of_id(id: MemberId) -> Member {
    Member { id, ..Member::default() }
}

#[async_trait]
impl Cluster for Replicated {
    fn members(&self) -> Vec<Member> {
        self.0.shared.members.read().to_vec()
    }

    fn status(&self) -> MemberStatus {
        let newest = self.0.keyspace.state().bytes as u64;
        let db_bytes = newest + self.0.keyspace.history_bytes() as u64;
        MemberStatus { db_bytes, db_bytes_in_use: newest, ..self.0.shared.status.lock().clone() }
    }

    fn term(&self) -> u64 {
        self.0.shared.status.lock().term
    }

    fn is_learner(&self) -> bool {
        self.0.shared.status.lock().is_learner
    }

    fn has_leader(&self) -> Option<watch::Receiver<bool>> {
        Some(self.0.shared.has_leader.subscribe())
    }

    async fn add(&self, peer_urls: Vec<String>) -> Result<Member, ClusterError> {
        self.change(ChangeKind::AddVoter, Member { peer_urls, ..Member::default() }).await
    }

    async fn add_learner(&self, peer_urls: Vec<String>) -> Result<Member, ClusterError> {
        self.change(ChangeKind::AddLearner, Member { peer_urls, ..Member::default() }).await
    }

    async fn promote(&self, id: MemberId) -> Result<(), ClusterError> {
        self.change(ChangeKind::AddVoter, of_id(id)).await.map(|_| ())
    }

    async fn remove(&self, id: MemberId) -> Result<(), ClusterError> {
        self.change(ChangeKind::Remove, of_id(id)).await.map(|_| ())
    }

    async fn update(&self, id: MemberId, peer_urls: Vec<String>) -> Result<(), ClusterError> {
        self.change(ChangeKind::Update, Member { peer_urls, ..of_id(id) }).await.map(|_| ())
    }

    async fn move_leader(&self, to: MemberId) -> Result<(), ClusterError> {
        self.send(|reply| Input::MoveLeader(to, reply)).await
    }

    async fn defragment(&self) -> Result<(), ClusterError> {
        Ok(self.send(Input::Checkpoint).await?)
    }

    async fn snapshot(&self) -> Result<SnapshotStream, ClusterError> {
        let state = State::clone(&self.0.keyspace.state());
        Ok(stream_snapshot(state, self.compact_revision())?)
    }

    fn setting(&self, name: &str) -> Setting {
        self.0.keyspace.state().settings.get(name.as_bytes()).cloned().unwrap_or_default()
    }

    async fn set_setting(&self, name: &str, expected: u64, value: Bytes) -> Result<u64, ClusterError> {
        let (size, limit) = (name.len() + value.len(), MAX_REQUEST_BYTES);
        if size > limit {
            return Err(Error::TooLarge { what: "setting", size, limit }.into());
        }
        let request = Request::Setting { name: Key::from(name), expected, value };
        Ok(self.request(request, Waiter::Version).await?)
    }
}
