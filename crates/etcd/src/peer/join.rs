//! How a member that was added finds out who it is.

use std::time::Duration;

use base::TaskScope;
use http::{Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use store::Member;
use store::replicated::decode_members;

use super::client::connect;
use super::{MEMBERS_PATH, PeerTls};

/// Bytes of a member list.
const MAX_LIST_BYTES: usize = 1 << 20;
/// How long one member is waited for, and how often all of them are asked.
const ASK: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 10;
const RETRY: Duration = Duration::from_secs(1);

/// Why a member cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers.
    #[error("no member of the cluster answers; the last one asked: {0}")]
    Unreachable(String),
    /// The cluster does not know it.
    #[error("no member of the cluster has the peer URLs {}: add it first (etcdctl member add)", .0.join(","))]
    Unknown(Vec<String>),
}

/// Asks the members at `urls` for the cluster's id and members; gives the one with one of `own_urls` too.
///
/// # Errors
/// See [`JoinError`].
pub async fn find_members(
    urls: &[String],
    own_urls: &[String],
    tls: &PeerTls,
    scope: &TaskScope,
) -> Result<(u64, Vec<Member>, Member), JoinError> {
    let mut last = "there is none in --initial-cluster".to_owned();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(RETRY).await;
        }
        for url in urls {
            let asked = tokio::time::timeout(ASK, ask(url, tls, scope)).await;
            match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok((cluster_id, members)) => {
                    let known =
                        members.iter().find(|one| one.peer_urls.iter().any(|url| own_urls.contains(url)));
                    let own = known.cloned().ok_or_else(|| JoinError::Unknown(own_urls.to_vec()))?;
                    return Ok((cluster_id, members, own));
                }
                Err(error) => last = format!("{url}: {error}"),
            }
        }
    }
    Err(JoinError::Unreachable(last))
}

async fn ask(url: &str, tls: &PeerTls, scope: &TaskScope) -> Result<(u64, Vec<Member>), String> {
    let mut connection = connect(url, tls, scope).await?;
    let request = Request::get(format!("{}{MEMBERS_PATH}", url.trim_end_matches('/')))
        .body(BoxBody::new(Empty::new()))
        .map_err(|error| error.to_string())?;
    let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_LIST_BYTES).collect().await;
    let bytes = body.map_err(|error| error.to_string())?.to_bytes();
    decode_members(bytes).ok_or_else(|| "answers something else".to_owned())
}
