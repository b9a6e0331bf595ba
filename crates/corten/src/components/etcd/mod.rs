//! `corten etcd`: the store alone, behind etcd's v3 API.

mod flags;
mod member;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base::TaskScope;
use etcd::{Compaction, Listen, Options, Server, TokenKind};
use pki::{KeyPairFiles, ServerTls};
use store::{Cluster, Store};

pub use flags::{Flags, prepare};
pub use member::until_handed_over;

/// Where the store is in a data directory; etcd's own are in `member`.
fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// Serves until `scope` ends.
pub async fn run(mut flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    if let Some(command) = flags.command.take() {
        return snapshot::run(command).await;
    }
    say_ignored(&flags);
    let options = options(&flags)?;
    let compaction = Compaction::parse(&flags.auto_compaction_mode, &flags.auto_compaction_retention)
        .map_err(anyhow::Error::msg)?;
    let tls = client_tls(&flags)?;
    let member = member::open(&flags, &scope).await?;
    let (store, cluster): (Arc<dyn Store>, Arc<dyn Cluster>) =
        (Arc::new(member.clone()), Arc::new(member.clone()));
    let server = Server::new(store.clone(), cluster.clone(), options, &scope);
    if let Some(compaction) = compaction {
        scope.spawn(compaction.run(store, cluster));
    }
    let metrics = flags.listen_metrics_urls.iter().map(|url| (url, true));
    let mut served = Vec::new();
    for (url, metrics_only) in flags.listen_client_urls.iter().map(|url| (url, false)).chain(metrics) {
        let mut listen = listen(url, tls.clone()).await?;
        listen.metrics_only = metrics_only;
        served.push(scope.spawn(etcd::serve(server.clone(), listen, scope.clone())));
        tracing::info!("serves at {url}");
    }
    let serving = async {
        for one in served {
            _ = one.await;
        }
        Ok(())
    };
    tokio::select! {
        ended = serving => ended,
        () = member.removed() => bail!("the member has been permanently removed from the cluster"),
    }
}

fn say_ignored(flags: &Flags) {
    let mut ignored = flags.ignored_upstream_flag.clone();
    ignored.sort();
    ignored.dedup();
    if !ignored.is_empty() {
        tracing::info!("flags that have no meaning here: --{}", ignored.join(", --"));
    }
}

fn quota(flags: &Flags) -> usize {
    match usize::try_from(flags.quota_backend_bytes) {
        Ok(0) => 2 << 30,
        Ok(bytes) => bytes,
        // As upstream, a negative quota is none.
        Err(_) => usize::MAX,
    }
}

fn options(flags: &Flags) -> anyhow::Result<Options> {
    if flags.max_txn_ops > store::MAX_TXN_OPS {
        bail!("--max-txn-ops: more than {} are not supported", store::MAX_TXN_OPS);
    }
    if flags.max_request_bytes > store::MAX_REQUEST_BYTES {
        bail!("--max-request-bytes: more than {} are not supported", store::MAX_REQUEST_BYTES);
    }
    let ttl = Duration::from_secs(flags.auth_token_ttl);
    let election_ms = flags.election_timeout;
    Ok(Options {
        max_txn_ops: flags.max_txn_ops,
        max_request_bytes: flags.max_request_bytes,
        progress_interval: flags.watch_progress_notify_interval,
        quota_bytes: quota(flags) as u64,
        // As upstream: one and a half election times, in whole seconds.
        min_lease_ttl_s: i64::try_from((election_ms * 3 / 2).div_ceil(1000)).unwrap_or(i64::MAX),
        leaderless_grace: Duration::from_millis(3 * election_ms),
        token: TokenKind::parse(&flags.auth_token, ttl).map_err(anyhow::Error::msg)?,
    })
}

fn client_tls(flags: &Flags) -> anyhow::Result<Option<ServerTls>> {
    let identity = match (flags.cert_file.clone(), flags.key_file.clone()) {
        (Some(certificate), Some(key)) => KeyPairFiles { certificate, key },
        (None, None) => return Ok(None),
        _ => bail!("--cert-file and --key-file go together"),
    };
    let required = flags.switches.client_cert_auth;
    if required && flags.trusted_ca_file.is_none() {
        bail!("--client-cert-auth needs --trusted-ca-file");
    }
    Ok(Some(ServerTls {
        identity,
        client_authorities: flags.trusted_ca_file.iter().filter(|_| required).cloned().collect(),
        client_required: required,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    }))
}

async fn listen(url: &str, tls: Option<ServerTls>) -> anyhow::Result<Listen> {
    let (address, tls) = if let Some(address) = url.strip_prefix("http://") {
        (address, None)
    } else if let Some(address) = url.strip_prefix("https://") {
        let tls = tls.with_context(|| format!("{url} needs --cert-file and --key-file"))?;
        (address, Some(pki::server_config(&tls)?))
    } else {
        bail!("{url:?} is no http:// or https:// URL");
    };
    Ok(Listen::bind(address.trim_end_matches('/'), tls).await?)
}
