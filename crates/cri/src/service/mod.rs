//! The gRPC services.

mod admin;
mod images;
mod runtime;
mod server;

use std::sync::Arc;

use tonic::{Response, Status};

pub use server::serve;

use crate::error::{Error, Result};
use crate::node::Node;

/// How many items a message of a streamed list holds.
const STREAM_ITEMS: usize = 100;

/// All services of one runtime.
#[derive(Clone)]
pub struct Services {
    node: Arc<Node>,
}

impl Services {
    /// Runs an operation even if the client goes away, but not longer than the server: it can be taken up again.
    async fn while_serving<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let done = self.node.scope.spawn(work).await;
        let done = done.map_err(|e| Error::Internal(format!("the operation was lost: {e}")))?;
        let done = done.map_err(|_| Status::unavailable("the container runtime is stopping"))?;
        Ok(Response::new(done?))
    }

    /// Runs an operation to its end even if the client goes away: half of it would be worse than all of it.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let done = self.node.scope.spawn_graceful(work).await;
        let done = done.map_err(|e| Error::Internal(format!("the operation was lost: {e}")))?;
        Ok(Response::new(done?))
    }
}

/// A list as a stream of messages.
fn in_pieces<T, M>(
    items: Vec<T>,
    wrap: impl Fn(Vec<T>) -> M + Send + 'static,
) -> futures::stream::BoxStream<'static, Result<M, Status>>
where
    T: Send + 'static,
    M: Send + 'static,
{
    let mut items = items.into_iter();
    let pieces = std::iter::from_fn(move || {
        let piece: Vec<T> = items.by_ref().take(STREAM_ITEMS).collect();
        (!piece.is_empty()).then_some(piece)
    });
    Box::pin(futures::stream::iter(pieces.map(move |piece| Ok(wrap(piece)))))
}

/// A field that a request must have.
fn required<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| Error::InvalidArgument(format!("{name} is missing")))
}
