//! What a control plane tells a machine that is to become another one: the cluster's choices, its authorities with
//! their keys, and its place among the members of the store.
//!
//! It is asked at a path of the API server, which lets through who shows a token for control planes. Nothing of it is
//! kept in the store. Asking again after a crash has the same effect as asking once.

use std::collections::BTreeMap;
use std::path::Path;

use apiserver::{ApiError, ApiResult, Extension};
use async_trait::async_trait;
use base::UserInfo;
use serde::{Deserialize, Serialize};
use store::replicated::Replicated;
use store::{Cluster, ClusterError, Member, MemberId, Store};

use crate::certs::Certificates;
use crate::network::Block;
use crate::role::Peer;
use crate::settings::Settings;

/// The path that is asked.
pub const PATH: &str = "/corten/control-plane";
/// The files of the `pki` folder that all control planes share.
pub const SHARED_FILES: [&str; 6] =
    ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub"];
/// Those that members of the replicated store share besides.
pub const MEMBER_FILES: [&str; 2] = ["etcd/ca.crt", "etcd/ca.key"];

/// Who wants to join.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Name of its node, and of its member.
    pub node_name: String,
    /// Where its member is going to be reached.
    pub peer_url: String,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admission {
    /// Addresses of pods.
    pub pod_block: Block,
    /// Virtual addresses of services.
    pub service_block: Block,
    /// Domain of cluster DNS.
    pub cluster_domain: String,
    /// Contents of files of the `pki` folder, by name.
    pub files: BTreeMap<String, String>,
    /// Its place among the members; absent if objects are kept in an etcd beside the control planes.
    pub place: Option<Place>,
}

/// A member's place.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The cluster of members.
    pub cluster_id: u64,
    /// The candidate.
    pub id: u64,
    /// All members, the candidate among them.
    pub members: Vec<Peer>,
}

/// What is to be done about a candidate that has no data.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// An attempt before this one added it.
    Keep(MemberId),
    /// A member with its address had data that is lost: it must not come back with its old vote.
    Replace(MemberId),
    /// It is new.
    Add,
}

fn plan(members: &[Member], own: MemberId, candidate: &Candidate) -> Result<Step, String> {
    let Candidate { node_name, peer_url } = candidate;
    if let Some(known) = members.iter().find(|member| member.peer_urls.contains(peer_url)) {
        return match () {
            () if known.id == own => Err(format!("{peer_url} is the address of the server that was asked")),
            () if known.name.is_empty() => Ok(Step::Keep(known.id)),
            () => Ok(Step::Replace(known.id)),
        };
    }
    match members.iter().find(|member| member.name == *node_name) {
        Some(other) => Err(format!(
            "the member {} at {} is called {node_name} already: choose another --node-name, or remove that member \
             first if its machine is gone",
            other.id,
            other.peer_urls.join(",")
        )),
        None => Ok(Step::Add),
    }
}

/// Answers candidates.
pub struct Admitting {
    /// The cluster.
    pub settings: Settings,
    /// Its files.
    pub certificates: Certificates,
    /// This server's member, if the store is replicated by the servers.
    pub member: Option<Replicated>,
}

#[async_trait]
impl Extension for Admitting {
    async fn post(&self, user: &UserInfo, path: &str, body: &[u8]) -> ApiResult<serde_json::Value> {
        if path != PATH {
            return Err(ApiError::new(404, "NotFound", "there is nothing at this path"));
        }
        let candidate: Candidate =
            serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let place = match &self.member {
            Some(store) => Some(place(store, &candidate).await?),
            None => None,
        };
        tracing::info!(user = %user.name, node = candidate.node_name, "a control plane joins");
        let own: &[&str] = if place.is_some() { &MEMBER_FILES } else { &[] };
        let files = read_files(self.certificates.folder(), SHARED_FILES.iter().chain(own))?;
        let Settings { pod_block, service_block, cluster_domain, .. } = self.settings.clone();
        let admission = Admission { pod_block, service_block, cluster_domain, files, place };
        serde_json::to_value(admission).map_err(ApiError::internal)
    }
}

fn read_files<'n>(
    folder: &Path,
    names: impl Iterator<Item = &'n &'n str>,
) -> ApiResult<BTreeMap<String, String>> {
    let read = |name: &&str| {
        let content = std::fs::read_to_string(folder.join(name)).map_err(ApiError::internal)?;
        Ok(((*name).to_owned(), content))
    };
    names.map(read).collect()
}

/// Gives the candidate a place without a vote; it gets one when it has caught up.
async fn place(store: &Replicated, candidate: &Candidate) -> ApiResult<Place> {
    store.read_barrier().await?;
    let own = store.status().member_id;
    let step =
        plan(&store.members(), own, candidate).map_err(|reason| ApiError::new(409, "Conflict", reason))?;
    if let Step::Replace(id) = step {
        store.remove(id).await.map_err(refused)?;
    }
    let id = match step {
        Step::Keep(id) => id,
        Step::Replace(_) | Step::Add => {
            store.add_learner(vec![candidate.peer_url.clone()]).await.map_err(refused)?.id
        }
    };
    let (cluster_id, members) = store.member_list();
    Ok(Place { cluster_id, id: id.0, members: members.iter().map(Peer::from).collect() })
}

/// All that keeps a member from being added may pass: another one joins, or a machine is away.
fn refused(error: ClusterError) -> ApiError {
    ApiError::unavailable(format!("the members cannot be changed now: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    #[test]
    fn what_becomes_of_candidates() {
        let members = [member(1, "a", "https://1"), member(2, "", "https://2"), member(3, "c", "https://3")];
        let check = |name: &str, url: &str, expect: Result<Step, &str>| {
            let candidate = Candidate { node_name: name.to_owned(), peer_url: url.to_owned() };
            match (plan(&members, MemberId(1), &candidate), expect) {
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (step, expect) => assert_eq!(step.ok(), expect.ok(), "{name} {url}"),
            }
        };
        check("d", "https://4", Ok(Step::Add));
        check("b", "https://2", Ok(Step::Keep(MemberId(2))));
        check("c", "https://3", Ok(Step::Replace(MemberId(3))));
        check("d", "https://1", Err("the server that was asked"));
        check("c", "https://4", Err("is called c already"));
    }
}
