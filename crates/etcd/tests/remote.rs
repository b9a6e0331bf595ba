//! The store over an external etcd, on ours and on Debian's: what the API server relies on.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{TaskScope, system_clock};
use common::{Running, debian, etcdctl, installed, ours, ours_over};
use etcd::{Options, RemoteConfig, RemoteStore};
use pki::{Authority, CertificateRequest, KeyPairFiles, ServerTls, Usage, write_public};
use store::{
    Durability, Embedded, Error, EventKind, KeyRange, LeaseId, Put, RangeOptions, Revision, Store,
    WatchOptions,
};

/// How a server is trusted, and what is shown to it.
#[derive(Default)]
struct Access {
    authorities: Vec<PathBuf>,
    identity: Option<KeyPairFiles>,
}

async fn open(endpoints: &[&str], prefix: &str, access: &Access, scope: &TaskScope) -> RemoteStore {
    let config = RemoteConfig {
        endpoints: endpoints.iter().map(|&e| e.to_owned()).collect(),
        prefix: prefix.to_owned(),
        authorities: access.authorities.clone(),
        identity: access.identity.clone(),
        ..RemoteConfig::default()
    };
    RemoteStore::open(&config, scope, Duration::from_secs(20)).await.unwrap()
}

async fn story(etcd: &Running, access: &Access) {
    let scope = TaskScope::new("test");
    let dead = "http://127.0.0.1:1";
    let one = open(&[dead, &etcd.endpoint], "/pre", access, &scope).await;
    let two = open(&[&etcd.endpoint], "/pre", access, &scope).await;
    let mut watch = two.watch(KeyRange::prefix("/a/"), WatchOptions::default()).unwrap();

    let made = one.create(Put::new("/a/1", "x")).await.unwrap().unwrap();
    assert_eq!(one.get(b"/a/1").unwrap().unwrap(), made, "who wrote reads it");
    let taken = one.create(Put::new("/a/1", "y")).await.unwrap().unwrap_err().unwrap();
    assert_eq!(taken, made);
    let changed = one.update_if(Put::new("/a/1", "y"), made.mod_revision, Durability::Synced).await;
    let changed = changed.unwrap().unwrap();
    assert_eq!((changed.version, changed.create_revision), (2, made.create_revision));
    let at = two.read_barrier().await.unwrap();
    assert!(at >= changed.mod_revision && two.get(b"/a/1").unwrap().unwrap() == changed);
    let (gone, old) = one.delete_if("/a/1".into(), changed.mod_revision).await.unwrap().unwrap();
    assert_eq!(old, changed);
    for (kind, revision) in [
        (EventKind::Put, made.mod_revision),
        (EventKind::Put, changed.mod_revision),
        (EventKind::Delete, gone),
    ] {
        let batch = watch.next().await.unwrap();
        assert_eq!((batch.revision, batch.events[0].kind), (revision, kind));
    }
    let past = RangeOptions { revision: made.mod_revision, ..RangeOptions::default() };
    assert_eq!(two.range(&KeyRange::all(), past).unwrap().entries[..], [made]);

    let lease = one.lease_grant(LeaseId::NONE, 600).await.unwrap();
    one.create(Put::new("/a/2", "z").with_lease(lease.id)).await.unwrap().unwrap();
    assert_eq!(one.lease_status(lease.id).await.unwrap().keys, ["/a/2".into()]);
    assert_eq!(one.lease_keep_alive(lease.id).await.unwrap().granted_ttl_s, 600);
    let revoked = one.lease_revoke(lease.id).await.unwrap();
    assert!(one.get(b"/a/2").unwrap().is_none() && one.current_revision() >= revoked);
    assert!(matches!(one.lease_revoke(lease.id).await, Err(Error::LeaseNotFound(_))));

    // Others' keys move the revision and nothing else.
    let other = open(&[&etcd.endpoint], "/other", access, &scope).await;
    let there = other.create(Put::new("/a/1", "w")).await.unwrap().unwrap();
    assert!(one.read_barrier().await.unwrap() >= there.mod_revision);
    assert_eq!(one.range(&KeyRange::all(), RangeOptions::default()).unwrap().count, 0);
    assert!(matches!(one.compact(Revision(1_000_000)).await, Err(Error::FutureRevision { .. })));
    one.compact(there.mod_revision).await.unwrap();
    assert!(matches!(one.range(&KeyRange::all(), past), Err(Error::Compacted { .. })));
    scope.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_store_is_a_store_on_ours() {
    story(&ours().await, &Access::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_store_is_a_store_on_debians() {
    if !installed("etcd") || !installed("etcdctl") {
        return;
    }
    let etcd = tokio::task::spawn_blocking(|| debian(&[])).await.unwrap();
    story(&etcd, &Access::default()).await;
    assert!(etcdctl(&etcd.endpoint, &["get", "/other/a/1"]).0.contains('w'));
}

fn certificate(dir: &Path, name: &str, authority: &Authority) -> KeyPairFiles {
    let request = CertificateRequest {
        common_name: name.to_owned(),
        organizations: Vec::new(),
        dns_names: vec!["localhost".to_owned()],
        addresses: vec!["127.0.0.1".parse().unwrap()],
        usage: Usage::Both,
        validity: Duration::from_secs(3600),
    };
    let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    authority.issue_to(&request, &certificate, &key).unwrap();
    KeyPairFiles { certificate, key }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_store_shows_a_certificate_and_asks_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::generate("etcd").unwrap();
    let file = dir.path().join("ca.crt");
    write_public(&file, authority.certificate_pem().as_bytes()).unwrap();
    let tls = pki::server_config(&ServerTls {
        identity: certificate(dir.path(), "server", &authority),
        client_authorities: vec![file.clone()],
        client_required: true,
        alpn: vec![b"h2".to_vec()],
    });
    let etcd =
        ours_over(Options::default(), Embedded::in_memory(system_clock()).unwrap(), Some(tls.unwrap())).await;
    let identity = certificate(dir.path(), "client", &authority);
    story(&etcd, &Access { authorities: vec![file.clone()], identity: Some(identity.clone()) }).await;
    // Without a certificate it is not let in, and without the authority it does not go in.
    let scope = TaskScope::new("test");
    for (authorities, identity) in [(vec![file], None), (Vec::new(), Some(identity))] {
        let endpoints = vec![etcd.endpoint.clone()];
        let config = RemoteConfig { endpoints, authorities, identity, ..RemoteConfig::default() };
        let refused = RemoteStore::open(&config, &scope, Duration::from_millis(500)).await.err().unwrap();
        assert!(refused.to_string().contains(&etcd.endpoint), "{refused}");
    }
    scope.cancel();
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named() {
    let config = RemoteConfig { endpoints: vec!["http://127.0.0.1:1".to_owned()], ..RemoteConfig::default() };
    let scope = TaskScope::new("test");
    let error = RemoteStore::open(&config, &scope, Duration::from_millis(300)).await.err().unwrap();
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
    let config = RemoteConfig { endpoints: vec!["ftp://x".to_owned()], ..RemoteConfig::default() };
    let error = RemoteStore::open(&config, &scope, Duration::from_millis(300)).await.err().unwrap();
    assert!(error.to_string().contains("ftp://x"), "{error}");
    scope.cancel();
}
