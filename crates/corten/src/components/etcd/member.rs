//! The member of a cluster that `corten etcd` runs: who it is, whom it knows, and where it hears them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use base::{TaskScope, system_clock};
use etcd::Listen;
use etcd::peer::{PeerTls, Peers, find_members, serve};
use pki::{KeyPairFiles, ServerTls};
use store::replicated::{MemberConfig, Replicated, Start};
use store::{Cluster, HistoryLimits, Member, MemberId};

use super::flags::Flags;

/// How long a leader that stops waits for another to take over.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long connections to other members may take to end.
const LINGER: Duration = Duration::from_secs(2);

/// Opens the member's data and joins the others; closes it when `scope` ends.
pub async fn open(flags: &Flags, scope: &TaskScope) -> anyhow::Result<Replicated> {
    let tls = peer_tls(flags)?;
    let config = store_config(flags)?;
    let mut listens = Vec::new();
    for url in &flags.listen_peer_urls {
        listens.push(listen(url, flags).await?);
    }
    // The others are heard until the data is closed.
    let peers_scope = TaskScope::new("members");
    let peers = Peers::new(tls.clone(), &peers_scope);
    let member = member_config(flags, config, &tls, scope).await?;
    let dir = member.store.dir.clone();
    let opening = tokio::task::spawn_blocking(move || Replicated::open(&member, peers, system_clock()));
    let store = opening.await?.with_context(|| format!("open the data in {}", dir.display()))?;
    let own = store.status().member_id;
    for listen in listens {
        peers_scope.spawn(serve(store.clone(), own, listen, peers_scope.clone()));
    }
    let (closing, ends) = (store.clone(), scope.token().clone());
    scope.spawn_graceful(async move {
        ends.cancelled().await;
        until_handed_over(&closing, own, peers_scope).await;
    });
    Ok(store)
}

/// Lets another member lead, closes the store, and then the connections with the others in `peers_scope`.
pub async fn until_handed_over(store: &Replicated, own: MemberId, peers_scope: TaskScope) {
    hand_over(store, own).await;
    if let Err(error) = store.close().await {
        tracing::error!(%error, "the store did not close in order");
    }
    peers_scope.shutdown(LINGER).await;
}

fn store_config(flags: &Flags) -> anyhow::Result<store::Config> {
    let data_dir = flags.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.etcd", flags.name)));
    if data_dir.join("member").exists() {
        bail!("{} has data of upstream's etcd, which Corten cannot read", data_dir.display());
    }
    let mut config = store::Config::new(super::store_dir(&data_dir));
    config.quota_bytes = super::quota(flags);
    // Only who asks for a compaction gets one.
    config.history = HistoryLimits { revisions: usize::MAX, bytes: usize::MAX, age: Duration::MAX };
    Ok(config)
}

/// Saves the others an election.
async fn hand_over(store: &Replicated, own: MemberId) {
    if store.status().leader != Some(own) {
        return;
    }
    for other in store.members().into_iter().filter(|other| other.id != own && !other.is_learner) {
        if let Ok(Ok(())) = tokio::time::timeout(HAND_OVER, store.move_leader(other.id)).await {
            return;
        }
    }
}

async fn member_config(
    flags: &Flags,
    store: store::Config,
    tls: &PeerTls,
    scope: &TaskScope,
) -> anyhow::Result<MemberConfig> {
    let own_urls = &flags.initial_advertise_peer_urls;
    let mut members = initial_members(
        flags.initial_cluster.as_deref(),
        &flags.name,
        own_urls,
        &flags.initial_cluster_token,
    )?;
    let mut cluster_id = cluster_id(&members, flags.initial_cluster_token.as_bytes());
    let known = members.iter().find(|member| member.name == flags.name).cloned();
    let mut member =
        known.with_context(|| format!("--initial-cluster does not name this member, {:?}", flags.name))?;
    let begun = store.dir.join("FORMAT").exists();
    if !begun && member.peer_urls != *own_urls {
        bail!(
            "--initial-cluster has {} for {:?}, --initial-advertise-peer-urls has {}",
            member.peer_urls.join(","),
            flags.name,
            own_urls.join(",")
        );
    }
    let joins = flags.initial_cluster_state == "existing";
    if joins && !begun {
        let others = members.iter().filter(|other| other.name != flags.name);
        let urls: Vec<String> = others.flat_map(|other| other.peer_urls.clone()).collect();
        (cluster_id, members, member) = find_members(&urls, own_urls, tls, scope).await?;
    }
    member.name = flags.name.clone();
    member.client_urls = flags.advertise_client_urls.clone();
    Ok(MemberConfig {
        store,
        member,
        cluster_id,
        start: if joins { Start::Join(members) } else { Start::New(members) },
        force_new_cluster: flags.switches.force_new_cluster,
        heartbeat: Duration::from_millis(flags.heartbeat_interval.max(1)),
        election: Duration::from_millis(flags.election_timeout.max(5 * flags.heartbeat_interval)),
    })
}

/// The members of `--initial-cluster`, where a name with several URLs comes several times; by default this one alone.
pub fn initial_members(
    list: Option<&str>,
    name: &str,
    own_urls: &[String],
    token: &str,
) -> anyhow::Result<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    let own = || own_urls.iter().map(|url| (name.to_owned(), url.clone())).collect();
    let pairs: Vec<(String, String)> = match list {
        None => own(),
        Some("") => own(),
        Some(list) => list
            .split(',')
            .map(|pair| {
                let (name, url) = pair
                    .split_once('=')
                    .with_context(|| format!("--initial-cluster: {pair:?} is not NAME=URL"))?;
                Ok((name.trim().to_owned(), url.trim().to_owned()))
            })
            .collect::<anyhow::Result<_>>()?,
    };
    for (name, url) in pairs {
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url),
            None => members.push(Member { name, peer_urls: vec![url], ..Member::default() }),
        }
    }
    for member in &mut members {
        let urls = member.peer_urls.join(",");
        member.id = MemberId(etcd::hash_id(&[urls.as_bytes(), token.as_bytes()]));
    }
    Ok(members)
}

/// Tells clusters apart: by their first members, and by what they were begun with.
pub fn cluster_id(members: &[Member], origin: &[u8]) -> u64 {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id.0).collect();
    ids.sort_unstable();
    let ids: Vec<u8> = ids.into_iter().flat_map(u64::to_be_bytes).collect();
    etcd::hash_id(&[&ids, origin])
}

fn identity(flags: &Flags) -> anyhow::Result<Option<KeyPairFiles>> {
    match (flags.peer_cert_file.clone(), flags.peer_key_file.clone()) {
        (Some(certificate), Some(key)) => Ok(Some(KeyPairFiles { certificate, key })),
        (None, None) => Ok(None),
        _ => bail!("--peer-cert-file and --peer-key-file go together"),
    }
}

fn peer_tls(flags: &Flags) -> anyhow::Result<PeerTls> {
    let authorities = flags.peer_trusted_ca_file.iter().cloned().collect();
    Ok(PeerTls { authorities, identity: identity(flags)? })
}

async fn listen(url: &str, flags: &Flags) -> anyhow::Result<Listen> {
    let (address, tls) = if let Some(address) = url.strip_prefix("http://") {
        (address, None)
    } else if let Some(address) = url.strip_prefix("https://") {
        let identity =
            identity(flags)?.with_context(|| format!("{url} needs --peer-cert-file and --peer-key-file"))?;
        let required = flags.switches.peer_client_cert_auth;
        if required && flags.peer_trusted_ca_file.is_none() {
            bail!("--peer-client-cert-auth needs --peer-trusted-ca-file");
        }
        let tls = ServerTls {
            identity,
            client_authorities: flags.peer_trusted_ca_file.iter().filter(|_| required).cloned().collect(),
            client_required: required,
            alpn: vec![b"h2".to_vec()],
        };
        (address, Some(pki::server_config(&tls)?))
    } else {
        bail!("{url:?} is no http:// or https:// URL");
    };
    Ok(Listen::bind(address.trim_end_matches('/'), tls).await?)
}
