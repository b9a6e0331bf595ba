//! The Maintenance service.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use proto::etcd::rpc::alarm_request::AlarmAction;
use proto::etcd::rpc::maintenance_server::Maintenance;
use proto::etcd::rpc::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use sha2::{Digest, Sha256};
use store::{Alarm, MemberId, Revision};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::{ETCD_VERSION, Server};
use crate::convert;
use crate::snapshot::padding;
use crate::status::{self, of_cluster, of_store};

/// Pieces of a snapshot on their way to the client.
const SNAPSHOT_PIECES: usize = 4;

/// The service; its snapshot streams outlive the call, so they share the server.
#[derive(Clone)]
pub(crate) struct MaintenanceService(pub(crate) Arc<Server>);

impl Server {
    fn alarm_list(&self, wanted: Option<Alarm>) -> Vec<AlarmMember> {
        let alarms =
            self.cluster.alarms().into_iter().filter(|(_, alarm)| wanted.is_none_or(|w| w == *alarm));
        alarms
            .map(|(member, alarm)| AlarmMember { member_id: member.0, alarm: alarm_type(alarm).into() })
            .collect()
    }

    /// What etcd's status lists as errors: no leader, and alarms.
    fn complaints(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.cluster.status().leader.is_none() {
            errors.push(status::NO_LEADER.1.to_owned());
        }
        for AlarmMember { member_id, alarm } in self.alarm_list(None) {
            let name = AlarmType::try_from(alarm).map_or("", |alarm| alarm.as_str_name());
            // The form that Go prints the message in, which `etcdctl endpoint status` shows.
            errors.push(format!("memberID:{member_id} alarm:{name} "));
        }
        errors
    }
}

fn alarm_type(alarm: Alarm) -> AlarmType {
    match alarm {
        Alarm::NoSpace => AlarmType::Nospace,
        Alarm::Corrupt => AlarmType::Corrupt,
    }
}

fn alarm_of(wire: AlarmType) -> Option<Alarm> {
    match wire {
        AlarmType::None => None,
        AlarmType::Nospace => Some(Alarm::NoSpace),
        AlarmType::Corrupt => Some(Alarm::Corrupt),
    }
}

#[async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let server = &self.0;
        server.caller(&request)?;
        let request = request.into_inner();
        let wanted = alarm_of(request.alarm());
        let member = MemberId(request.member_id);
        let alarms = match request.action() {
            AlarmAction::Get => server.alarm_list(wanted),
            AlarmAction::Activate => {
                let Some(alarm) = wanted else {
                    return Err(Status::invalid_argument("etcdserver: no alarm is named"));
                };
                server.cluster.set_alarm(member, alarm, true).await.map_err(|error| of_cluster(&error))?;
                vec![AlarmMember { member_id: member.0, alarm: alarm_type(alarm).into() }]
            }
            AlarmAction::Deactivate => disarm(server, member, wanted).await?,
        };
        Ok(Response::new(AlarmResponse { header: Some(server.header_now()), alarms }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let server = &self.0;
        server.require_leader(request.metadata())?;
        let status = server.cluster.status();
        Ok(Response::new(StatusResponse {
            header: Some(server.header_now()),
            version: ETCD_VERSION.to_owned(),
            db_size: status.db_bytes as i64,
            leader: status.leader.unwrap_or_default().0,
            raft_index: status.index,
            raft_term: status.term,
            raft_applied_index: status.applied,
            errors: server.complaints(),
            db_size_in_use: status.db_bytes_in_use as i64,
            is_learner: status.is_learner,
            storage_version: "3.6.0".to_owned(),
            db_size_quota: server.options.quota_bytes as i64,
        }))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let server = &self.0;
        server.auth.permit_admin(&server.caller(&request)?)?;
        server.cluster.defragment().await.map_err(|error| of_cluster(&error))?;
        Ok(Response::new(DefragmentResponse { header: Some(server.header_now()) }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let server = &self.0;
        server.auth.permit_admin(&server.caller(&request)?)?;
        let (hash, _) = server.hash_at(Revision::ZERO)?;
        Ok(Response::new(HashResponse { header: Some(server.header_now()), hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let server = &self.0;
        server.auth.permit_admin(&server.caller(&request)?)?;
        let asked = convert::revision(request.get_ref().revision);
        let (hash, at) = server.hash_at(asked)?;
        Ok(Response::new(HashKvResponse {
            header: Some(server.header_now()),
            hash,
            compact_revision: wire_compacted(server.store.compact_revision()),
            hash_revision: at.as_i64(),
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let server = &self.0;
        server.auth.permit_admin(&server.reader(&request)?)?;
        let stream = server.cluster.snapshot().await.map_err(|error| of_cluster(&error))?;
        let (pieces, receiver) = mpsc::channel(SNAPSHOT_PIECES);
        server.scope.spawn(send_snapshot(server.clone(), stream, pieces));
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let server = &self.0;
        server.auth.permit_admin(&server.caller(&request)?)?;
        let status = server.cluster.status();
        if status.leader != Some(status.member_id) {
            return Err(status::NOT_LEADER.into());
        }
        let target = MemberId(request.into_inner().target_id);
        server.cluster.move_leader(target).await.map_err(|error| of_cluster(&error))?;
        Ok(Response::new(MoveLeaderResponse { header: Some(server.header_now()) }))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(Status::unimplemented("etcdserver: downgrade is not supported: Corten has one storage format"))
    }
}

/// Nothing compacted is zero in etcd's answers.
fn wire_compacted(revision: Revision) -> i64 {
    if revision.0 <= 1 { 0 } else { revision.as_i64() }
}

/// Takes alarms back, of one kind or all, of one member or all.
async fn disarm(
    server: &Server,
    member: MemberId,
    wanted: Option<Alarm>,
) -> Result<Vec<AlarmMember>, Status> {
    let mut gone = Vec::new();
    for (of, alarm) in server.cluster.alarms() {
        if (member.0 != 0 && of != member) || wanted.is_some_and(|wanted| wanted != alarm) {
            continue;
        }
        if server.cluster.set_alarm(of, alarm, false).await.map_err(|error| of_cluster(&error))? {
            gone.push(AlarmMember { member_id: of.0, alarm: alarm_type(alarm).into() });
        }
    }
    Ok(gone)
}

/// The bytes of the snapshot, filled up so that the checksum that etcd's clients look for stands where they look.
async fn send_snapshot(
    server: Arc<Server>,
    mut stream: store::SnapshotStream,
    pieces: mpsc::Sender<Result<SnapshotResponse, Status>>,
) {
    let (mut sent, mut digest, revision) = (0, Sha256::new(), stream.revision);
    let piece = |blob: Bytes, sent: u64, total: u64| SnapshotResponse {
        header: Some(server.header(revision)),
        remaining_bytes: total.saturating_sub(sent),
        blob,
        version: ETCD_VERSION.to_owned(),
    };
    while let Some(chunk) = stream.chunks.recv().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                _ = pieces.send(Err(of_store(&error))).await;
                return;
            }
        };
        sent += chunk.len() as u64;
        digest.update(&chunk);
        // More may remain than was thought; never nothing while there is something.
        let total = stream.total_bytes.max(sent + 1);
        if pieces.send(Ok(piece(chunk, sent, total))).await.is_err() {
            return;
        }
    }
    let mut end = vec![0; padding(sent)];
    digest.update(&end);
    end.extend_from_slice(&digest.finalize());
    _ = pieces.send(Ok(piece(Bytes::from(end), 0, 0))).await;
}
