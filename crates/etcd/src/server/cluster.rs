//! The Cluster service.

use proto::etcd::rpc::cluster_server::Cluster;
use proto::etcd::rpc::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};
use store::MemberId;
use tonic::{Request, Response, Status, async_trait};

use super::Server;
use crate::convert;
use crate::status::{self, of_cluster};

impl Server {
    fn list(&self) -> Vec<Member> {
        self.cluster.members().iter().map(convert::member).collect()
    }
}

/// etcd takes `http`, `https` and unix URLs with an address and a port, without a path.
fn check_urls(urls: &[String]) -> Result<(), Status> {
    let is_good = |url: &String| {
        let rest =
            ["http://", "https://", "unix://", "unixs://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        rest.is_some_and(|rest| rest.contains(':') && !rest.contains('/'))
    };
    if !urls.is_empty() && urls.iter().all(is_good) { Ok(()) } else { Err(status::BAD_MEMBER_URLS.into()) }
}

#[async_trait]
impl Cluster for Server {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let caller = self.caller(&request)?;
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        check_urls(&peer_ur_ls)?;
        self.auth.permit_admin(&caller)?;
        let added = if is_learner {
            self.cluster.add_learner(peer_ur_ls).await
        } else {
            self.cluster.add(peer_ur_ls).await
        };
        let member = added.map_err(|error| of_cluster(&error))?;
        Ok(Response::new(MemberAddResponse {
            header: Some(self.header_now()),
            member: Some(convert::member(&member)),
            members: self.list(),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let id = MemberId(request.into_inner().id);
        self.cluster.remove(id).await.map_err(|error| of_cluster(&error))?;
        let members = self.list();
        Ok(Response::new(MemberRemoveResponse { header: Some(self.header_now()), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let caller = self.caller(&request)?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        self.auth.permit_admin(&caller)?;
        check_urls(&peer_ur_ls)?;
        self.cluster.update(MemberId(id), peer_ur_ls).await.map_err(|error| of_cluster(&error))?;
        let members = self.list();
        Ok(Response::new(MemberUpdateResponse { header: Some(self.header_now()), members }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if self.cluster.is_learner() {
            return Err(status::LEARNER.into());
        }
        if request.get_ref().linearizable {
            self.store.read_barrier().await.map_err(|error| status::of_store(&error))?;
        }
        let members = self.list();
        Ok(Response::new(MemberListResponse { header: Some(self.header_now()), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let id = MemberId(request.into_inner().id);
        self.cluster.promote(id).await.map_err(|error| of_cluster(&error))?;
        let members = self.list();
        Ok(Response::new(MemberPromoteResponse { header: Some(self.header_now()), members }))
    }
}
