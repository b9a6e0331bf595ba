//! Members that reach each other over HTTP/2: plain and with mutual TLS, and who is not let in.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{TaskScope, system_clock};
use etcd::Listen;
use etcd::peer::{JoinError, PeerTls, Peers, find_members, serve};
use pki::{Authority, CertificateRequest, KeyPairFiles, ServerTls, Usage, write_public};
use store::replicated::{MemberConfig, Replicated, Start};
use store::{Cluster, Config, Member, MemberId, Op, Put, Store, Txn};

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

/// An authority's file and a member's certificate by it.
fn authority(dir: &Path, name: &str) -> (PathBuf, PeerTls) {
    let (authority, _) = Authority::generate(name).unwrap();
    let file = dir.join(format!("{name}-ca.crt"));
    write_public(&file, authority.certificate_pem().as_bytes()).unwrap();
    let identity = certificate(dir, name, &authority);
    (file.clone(), PeerTls { authorities: vec![file], identity: Some(identity) })
}

struct Running {
    scope: TaskScope,
    dir: tempfile::TempDir,
    members: Vec<Replicated>,
    urls: Vec<String>,
}

/// Three members; with `tls` they ask each other for certificates.
async fn three(tls: impl Fn(&Path) -> PeerTls) -> (Running, PeerTls) {
    let (scope, dir) = (TaskScope::new("test"), tempfile::tempdir().unwrap());
    let tls = tls(dir.path());
    let mut listens = Vec::new();
    for _ in 0..3 {
        let config = tls.identity.clone().map(|identity| {
            let client_authorities = tls.authorities.clone();
            let alpn = vec![b"h2".to_vec()];
            pki::server_config(&ServerTls { identity, client_authorities, client_required: true, alpn })
                .unwrap()
        });
        listens.push(Listen::bind("127.0.0.1:0", config).await.unwrap());
    }
    let scheme = if tls.identity.is_some() { "https" } else { "http" };
    let urls: Vec<String> = listens.iter().map(|l| format!("{scheme}://{}", l.address().unwrap())).collect();
    let list: Vec<Member> = (1..=3)
        .map(|id| Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec![urls[id as usize - 1].clone()],
            ..Member::default()
        })
        .collect();
    let mut members = Vec::new();
    for (member, listen) in list.iter().zip(listens) {
        let config = MemberConfig {
            store: Config::new(dir.path().join(&member.name)),
            member: member.clone(),
            cluster_id: 9,
            start: Start::New(list.clone()),
            force_new_cluster: false,
            heartbeat: Duration::from_millis(20),
            election: Duration::from_millis(300),
        };
        let peers = Peers::new(tls.clone(), &scope);
        let store = tokio::task::spawn_blocking(move || Replicated::open(&config, peers, system_clock()));
        let store = store.await.unwrap().unwrap();
        scope.spawn(serve(store.clone(), member.id, listen, scope.clone()));
        members.push(store);
    }
    (Running { scope, dir, members, urls }, tls)
}

async fn write_everywhere(running: &Running) {
    for (n, store) in running.members.iter().enumerate() {
        let put = Txn::of(Op::Put(Put::new(format!("k{n}"), vec![7; 300_000])));
        store.txn(put).await.unwrap();
        for other in &running.members {
            other.read_barrier().await.unwrap();
            assert_eq!(other.get(format!("k{n}").as_bytes()).unwrap().unwrap().value.len(), 300_000);
        }
    }
}

async fn end(running: Running) {
    for member in &running.members {
        member.close().await.unwrap();
    }
    running.scope.shutdown(Duration::from_secs(5)).await;
    drop(running.dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_reach_each_other_and_tell_who_joins() {
    let (running, tls) = three(|_| PeerTls::default()).await;
    write_everywhere(&running).await;
    let url = vec!["http://127.0.0.1:1".to_owned()];
    let added = running.members[0].add_learner(url.clone()).await.unwrap();
    let found = find_members(&running.urls, &url, &tls, &running.scope).await.unwrap();
    assert_eq!((found.0, found.1.len(), found.2.id), (9, 4, added.id));
    let nobody = ["http://127.0.0.1:2".to_owned()];
    let refused = find_members(&running.urls, &nobody, &tls, &running.scope).await;
    assert!(matches!(refused, Err(JoinError::Unknown(_))), "{refused:?}");
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_only_the_authoritys_members_are_heard() {
    let (running, tls) = three(|dir| authority(dir, "peers").1).await;
    write_everywhere(&running).await;
    let (_, stranger) = authority(running.dir.path(), "stranger");
    // Somebody else's certificate, and none.
    let authorities = tls.authorities.clone();
    for identity in [stranger.identity, None] {
        let other = PeerTls { authorities: authorities.clone(), identity };
        let asked = find_members(&running.urls[..1], &running.urls[..1], &other, &running.scope);
        let asked = tokio::time::timeout(Duration::from_secs(2), asked).await;
        assert!(!matches!(asked, Ok(Ok(_))), "let in");
    }
    let known = find_members(&running.urls, &running.urls[..1], &tls, &running.scope).await.unwrap();
    assert_eq!(known.2.id, MemberId(1));
    let reader = Arc::new(running.members[2].clone());
    assert!(reader.status().leader.is_some());
    end(running).await;
}
