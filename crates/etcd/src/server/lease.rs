//! The Lease service.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::ready;
use futures::{FutureExt, Stream, StreamExt};
use proto::etcd::rpc::lease_server::Lease;
use proto::etcd::rpc::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use store::{Error, LeaseId};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Server;
use crate::auth::Access;
use crate::status;

/// The service; its keep-alive streams outlive the call, so they share the server.
#[derive(Clone)]
pub(crate) struct LeaseService(pub(crate) Arc<Server>);

impl Server {
    async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
        let ttl = match self.store.lease_keep_alive(LeaseId(id)).await {
            Ok(lease) => lease.granted_ttl_s,
            // A lease that is gone has no time left; the stream goes on for other leases.
            Err(Error::LeaseNotFound(_)) => 0,
            Err(error) => return Err(status::of_store(&error)),
        };
        Ok(LeaseKeepAliveResponse { header: Some(self.header_now()), id, ttl })
    }
}

#[async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let server = &self.0;
        server.caller(&request)?;
        server.has_space()?;
        let _place = server.place()?;
        let LeaseGrantRequest { id, ttl } = request.into_inner();
        let granted = server.store.lease_grant(LeaseId(id), ttl.max(server.options.min_lease_ttl_s)).await;
        let lease = match granted {
            Ok(lease) => lease,
            Err(error) => return Err(server.refused(error).await),
        };
        server.metrics.leases_granted.add();
        Ok(Response::new(LeaseGrantResponse {
            header: Some(server.header_now()),
            id: lease.id.0,
            ttl: lease.granted_ttl_s,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let server = &self.0;
        let caller = server.caller(&request)?;
        let id = request.into_inner().id;
        if !caller.is_free() {
            server.permit_lease(&caller, id, Access::Write).await?;
        }
        let _place = server.place()?;
        let revision =
            server.store.lease_revoke(LeaseId(id)).await.map_err(|error| status::of_store(&error))?;
        server.metrics.leases_revoked.add();
        Ok(Response::new(LeaseRevokeResponse { header: Some(server.header(revision)) }))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.caller(&request)?;
        let server = self.0.clone();
        let leader_lost = server.leader_lost(request.metadata()).boxed().shared();
        let requests = request.into_inner();
        let answers = requests.then(move |request| {
            let server = server.clone();
            async move {
                let LeaseKeepAliveRequest { id } = request?;
                server.keep_alive(id).await
            }
        });
        let answers = answers.take_until(leader_lost.clone());
        let why = futures::stream::once(async move { leader_lost.peek().is_some() });
        let why = why.filter_map(|lost| ready(lost.then(|| Err(status::NO_LEADER.into()))));
        Ok(Response::new(Box::pin(answers.chain(why))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let server = &self.0;
        let caller = server.caller(&request)?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        if keys && !caller.is_free() {
            server.permit_lease(&caller, id, Access::Read).await?;
        }
        server.store.read_barrier().await.map_err(|error| status::of_store(&error))?;
        let header = Some(server.header_now());
        let lease = match server.store.lease_status(LeaseId(id)).await {
            Ok(lease) => lease,
            Err(Error::LeaseNotFound(_)) => {
                let gone = LeaseTimeToLiveResponse { header, id, ttl: -1, granted_ttl: 0, keys: Vec::new() };
                return Ok(Response::new(gone));
            }
            Err(error) => return Err(status::of_store(&error)),
        };
        let names = lease.keys.iter().filter(|_| keys).map(|key| Bytes::copy_from_slice(key));
        Ok(Response::new(LeaseTimeToLiveResponse {
            header,
            id,
            // The store rounds what is left up, etcd down.
            ttl: (lease.ttl_s - 1).max(0),
            granted_ttl: lease.granted_ttl_s,
            keys: names.collect(),
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let server = &self.0;
        server.caller(&request)?;
        let leases = server.store.leases().await.map_err(|error| status::of_store(&error))?;
        let leases = leases.into_iter().map(|LeaseId(id)| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: Some(server.header_now()), leases }))
    }
}
