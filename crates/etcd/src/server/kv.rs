//! The KV service.

use std::sync::Arc;

use futures::future::BoxFuture;
use prost::Message;
use proto::etcd::rpc::kv_server::Kv;
use proto::etcd::rpc::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op,
};
use store::{Delete, KeyRange, Op, OpResult, RangeOptions, RangeResult, Txn, TxnResult};
use tonic::server::UnaryService;
use tonic::{Request, Response, Status, async_trait};

use super::{Server, check};
use crate::auth::{Access, Caller};
use crate::convert::{self, key_range};
use crate::status;

impl Server {
    async fn write(&self, txn: Txn) -> Result<TxnResult, Status> {
        let _place = self.place()?;
        match self.store.txn(txn).await {
            Ok(result) => Ok(result),
            Err(error) => Err(self.refused(error).await),
        }
    }

    /// A key's lease takes the key with it when it ends, so who hangs a key on a lease must be allowed to delete all
    /// that hangs there.
    async fn permit_put(&self, caller: &Caller, put: &PutRequest) -> Result<(), Status> {
        if caller.is_free() {
            return Ok(());
        }
        self.auth.permit(caller, &KeyRange::single(&*put.key), Access::Write)?;
        if put.lease != 0 {
            self.permit_lease(caller, put.lease, Access::Write).await?;
        }
        if put.prev_kv {
            self.auth.permit(caller, &KeyRange::single(&*put.key), Access::Read)?;
        }
        Ok(())
    }

    /// All keys of a lease; one that is not there is permitted.
    pub(super) async fn permit_lease(&self, caller: &Caller, id: i64, access: Access) -> Result<(), Status> {
        let Ok(lease) = self.store.lease_status(store::LeaseId(id)).await else { return Ok(()) };
        lease.keys.into_iter().try_for_each(|key| self.auth.permit(caller, &KeyRange::single(key), access))
    }

    fn permit_delete(&self, caller: &Caller, delete: &DeleteRangeRequest) -> Result<(), Status> {
        let range = key_range(&delete.key, &delete.range_end);
        self.auth.permit(caller, &range, Access::Write)?;
        if delete.prev_kv { self.auth.permit(caller, &range, Access::Read) } else { Ok(()) }
    }

    async fn permit_txn(&self, caller: &Caller, txn: &TxnRequest) -> Result<(), Status> {
        for compare in &txn.compare {
            self.auth.permit(caller, &key_range(&compare.key, &compare.range_end), Access::Read)?;
        }
        for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
            match request {
                Some(request_op::Request::RequestRange(range)) => {
                    self.auth.permit(caller, &key_range(&range.key, &range.range_end), Access::Read)?;
                }
                Some(request_op::Request::RequestPut(put)) => self.permit_put(caller, put).await?,
                Some(request_op::Request::RequestDeleteRange(delete)) => {
                    self.permit_delete(caller, delete)?
                }
                Some(request_op::Request::RequestTxn(inner)) => {
                    Box::pin(self.permit_txn(caller, inner)).await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Waits until reads see all that was answered before, unless the reader does not care.
    async fn barrier(&self, serializable: bool) -> Result<(), Status> {
        self.not_corrupt()?;
        if serializable {
            return Ok(());
        }
        self.store.read_barrier().await.map(drop).map_err(|error| status::of_store(&error))
    }

    /// Reads what a range asks for; [`convert::select`] takes from it what is wanted.
    pub(super) async fn read(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<(RangeRequest, RangeResult), Status> {
        self.metrics.ranges.add();
        check::range(request.get_ref())?;
        let caller =
            if request.get_ref().serializable { self.reader(&request)? } else { self.caller(&request)? };
        let request = request.into_inner();
        let range = key_range(&request.key, &request.range_end);
        if !caller.is_free() {
            self.auth.permit(&caller, &range, Access::Read)?;
        }
        self.barrier(request.serializable).await?;
        let read = self.store.range(&range, convert::range_options(&request));
        Ok((request, read.map_err(|error| status::of_store(&error))?))
    }

    /// A transaction that only reads needs no writer; its comparisons and ranges see one state all the same.
    fn reads_one_key(request: &TxnRequest) -> bool {
        request.compare.is_empty()
            && matches!(
                &request.success[..],
                [RequestOp { request: Some(request_op::Request::RequestRange(_)) }]
            )
    }
}

#[async_trait]
impl Kv for Server {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let (request, read) = self.read(request).await?;
        let header = self.header(read.revision);
        Ok(Response::new(convert::range_response(&request, read, header)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.put_one(request).await
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.metrics.deletes.add();
        check::delete(request.get_ref())?;
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        self.permit_delete(&caller, &request)?;
        let range = key_range(&request.key, &request.range_end);
        let mut result = self.write(Txn::of(Op::Delete(Delete { range }))).await?;
        let deleted = match result.results.pop() {
            Some(OpResult::Delete { deleted }) => deleted,
            _ => Vec::new(),
        };
        let header = self.header(result.revision);
        Ok(Response::new(convert::delete_response(request.prev_kv, &deleted, header)))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.metrics.txns.add();
        check::txn(request.get_ref(), self.options.max_txn_ops)?;
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        if !caller.is_free() {
            self.permit_txn(&caller, &request).await?;
        }
        self.fits(request.encoded_len())?;
        if check::puts(&request) {
            self.has_space()?;
        }
        let txn = convert::txn(&request);
        let result = if !check::is_write(&request) && Self::reads_one_key(&request) {
            self.barrier(check::is_serializable(&request)).await?;
            self.read_one(txn)?
        } else {
            self.write(txn).await?
        };
        let header = self.header(result.revision);
        Ok(Response::new(convert::txn_response(&request, result, header)))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.caller(&request)?;
        let _place = self.place()?;
        let revision = request.get_ref().revision;
        if revision < 0 {
            return Err(status::COMPACTED.into());
        }
        if revision == 0 && self.store.compact_revision().is_zero() {
            return Ok(Response::new(CompactionResponse { header: Some(self.header_now()) }));
        }
        // Forgetting in memory is done when it is answered, so a physical compaction needs no waiting.
        let done = self.store.compact(convert::revision(revision)).await;
        done.map_err(|error| status::of_store(&error))?;
        Ok(Response::new(CompactionResponse { header: Some(self.header_now()) }))
    }
}

/// `KV.Put`.
pub(crate) struct PutCall(pub(crate) Arc<Server>);

impl UnaryService<PutRequest> for PutCall {
    type Response = PutResponse;
    type Future = BoxFuture<'static, Result<Response<PutResponse>, Status>>;

    fn call(&mut self, request: Request<PutRequest>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move { server.put_one(request).await })
    }
}

impl Server {
    async fn put_one(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.metrics.puts.add();
        check::put(request.get_ref())?;
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        self.permit_put(&caller, &request).await?;
        self.fits(request.encoded_len())?;
        self.has_space()?;
        let result = self.write(Txn::of(Op::Put(convert::put(&request)))).await?;
        let prev = match result.results.first() {
            Some(OpResult::Put { prev, .. }) => prev.as_ref().filter(|_| request.prev_kv),
            _ => None,
        };
        Ok(Response::new(convert::put_response(prev, self.header(result.revision))))
    }

    fn read_one(&self, txn: Txn) -> Result<TxnResult, Status> {
        let mut results = Vec::new();
        let mut revision = self.store.current_revision();
        for op in txn.then {
            if let Op::Range { range, options } = op {
                let read = self.store.range(&range, options).map_err(|error| status::of_store(&error))?;
                revision = read.revision;
                results.push(OpResult::Range(read));
            }
        }
        Ok(TxnResult { revision, succeeded: true, results })
    }

    /// A hash of the newest state at or before `revision`: the same on all members that have the same.
    pub(super) fn hash_at(&self, revision: store::Revision) -> Result<(u32, store::Revision), Status> {
        let options = RangeOptions { revision, ..RangeOptions::default() };
        let read = self.store.range(&KeyRange::all(), options).map_err(|error| status::of_store(&error))?;
        let mut hash = crc32fast::Hasher::new();
        for entry in &read.entries {
            for part in [&entry.key[..], &entry.value[..]] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            for number in [entry.create_revision.0, entry.mod_revision.0, entry.version, entry.lease.0 as u64]
            {
                hash.update(&number.to_le_bytes());
            }
        }
        Ok((hash.finalize(), if revision.is_zero() { read.revision } else { revision }))
    }
}
