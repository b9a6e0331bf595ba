//! Encryption at rest by a plugin of a key management service, with a plugin of the test's own; and with an etcd that
//! several servers share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use apiserver::Options;
use base::{ManualClock, TaskScope};
use bytes::Bytes;
use http::Method;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use proto::kms::v2::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use proto::kms::v2::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use store::Store;
use tokio::net::UnixListener;
use tonic::{Request, Response, Status};

use crate::server::TestServer;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const OWN: &str = "/api/v1/namespaces/default/secrets/s";
const KEY: &[u8] = b"/registry/secrets/default/s";
const SECRET: &str = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"a":"aGVsbG8="}}"#;
const MARK: &[u8] = b"k8s:enc:kms:v2:plug:";

/// A plugin whose encryption is to turn bits over, by a key that has a number.
#[derive(Default)]
struct Plugin {
    key: AtomicU32,
    ill: AtomicBool,
    decrypted: AtomicU32,
}

fn turned(bytes: &[u8]) -> Bytes {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

#[derive(Clone)]
struct Shared(Arc<Plugin>);

#[tonic::async_trait]
impl KeyManagementService for Shared {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let healthz = if self.0.ill.load(Ordering::SeqCst) { "ill" } else { "ok" };
        let key_id = format!("key-{}", self.0.key.load(Ordering::SeqCst));
        Ok(Response::new(StatusResponse { version: "v2".to_owned(), healthz: healthz.to_owned(), key_id }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        if self.0.ill.load(Ordering::SeqCst) {
            return Err(Status::internal("ill"));
        }
        let key_id = format!("key-{}", self.0.key.load(Ordering::SeqCst));
        let annotations = [("version.test".to_owned(), Bytes::from_static(b"1"))].into();
        let ciphertext = turned(&request.into_inner().plaintext);
        Ok(Response::new(EncryptResponse { ciphertext, key_id, annotations }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let request = request.into_inner();
        assert!(request.key_id.starts_with("key-") && request.annotations.contains_key("version.test"));
        self.0.decrypted.fetch_add(1, Ordering::SeqCst);
        if self.0.ill.load(Ordering::SeqCst) {
            return Err(Status::internal("ill"));
        }
        Ok(Response::new(DecryptResponse { plaintext: turned(&request.ciphertext) }))
    }
}

/// Serves a plugin on `socket` until the scope is dropped.
fn serve(plugin: &Arc<Plugin>, socket: &Path) -> TaskScope {
    let listener = UnixListener::bind(socket).unwrap();
    let scope = TaskScope::new("plugin");
    let service = KeyManagementServiceServer::new(Shared(plugin.clone()));
    let connections = scope.child("connections");
    scope.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let server = http2::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move { drop(connection.await) });
        }
    });
    scope
}

/// Longer than any call takes, whatever else the machine does.
const PATIENT: &str = "60s";

/// Options with a plugin on `kms.sock` of a folder.
fn options(folder: &Path, timeout: &str) -> Options {
    let path = folder.join("encryption.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - kms: {{apiVersion: v2, name: plug, endpoint: 'unix://{}', timeout: {timeout}}}\n  - identity: {{}}\n",
        folder.join("kms.sock").display()
    );
    std::fs::write(&path, text).unwrap();
    Options { encryption_provider_config: Some(path), ..Options::default() }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap())
}

fn stored(store: &dyn Store) -> Bytes {
    store.get(KEY).unwrap().unwrap().value.clone()
}

struct Story {
    clock: Arc<ManualClock>,
    server: TestServer,
}

impl Story {
    async fn start(options: &Options, store: &Arc<dyn Store>) -> Self {
        let clock = Arc::new(ManualClock::new(SystemTime::now()));
        let folder = tempfile::tempdir().unwrap();
        let server = TestServer::start_at(folder, options.clone(), store.clone(), clock.clone()).await;
        Self { clock, server }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let answer = self.server.as_token("tok", method, path, body).await;
        (answer.code, answer.text)
    }

    /// The health of the plugin some time later.
    async fn health_after(&self, seconds: u64) -> (u16, String) {
        self.clock.advance(Duration::from_secs(seconds));
        self.ask(Method::GET, "/readyz/kms-providers", "").await
    }
}

#[tokio::test]
async fn values_are_encrypted_by_a_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, options, store) = (Arc::new(Plugin::default()), options(folder.path(), PATIENT), memory());
    let _serving = serve(&plugin, &folder.path().join("kms.sock"));
    let story = Story::start(&options, &store).await;
    let (code, text) = story.ask(Method::POST, SECRETS, SECRET).await;
    assert_eq!(code, 201, "{text}");
    let first = stored(&*store);
    assert!(first.starts_with(MARK) && contains(&first, b"key-0"));
    let (_, object) = story.ask(Method::GET, OWN, "").await;
    let checks = story.ask(Method::GET, "/livez?verbose", "").await.1;
    assert!(checks.contains("[+]kms-providers ok"), "{checks}");
    assert_eq!(plugin.decrypted.load(Ordering::SeqCst), 0, "its own seed is known");

    // What does not change is written anew once the key is another.
    story.ask(Method::PUT, OWN, &object).await;
    assert_eq!(stored(&*store), first);
    plugin.key.store(1, Ordering::SeqCst);
    assert_eq!(story.health_after(30).await.0, 200);
    assert_eq!(story.ask(Method::PUT, OWN, &object).await.0, 200);
    let second = stored(&*store);
    assert!(second.starts_with(MARK) && contains(&second, b"key-1"));

    // A server that starts asks for each seed once.
    let other = memory();
    for (name, value) in [("s", &second), ("t", &second)] {
        let key = format!("/registry/secrets/default/{name}");
        other.create(store::Put::new(key.as_str(), value.clone())).await.unwrap().unwrap();
    }
    let restarted = Story::start(&options, &other).await;
    let (code, text) = restarted.ask(Method::GET, OWN, "").await;
    assert!(code == 200 && text.contains("aGVsbG8="), "{text}");
    assert_eq!(plugin.decrypted.load(Ordering::SeqCst), 1);
    let (code, text) = restarted.ask(Method::GET, &format!("{SECRETS}/t"), "").await;
    assert_eq!(code, 500, "a value under another key is not taken: {text}");
    let why =
        "unable to transform key \\\"/registry/secrets/default/t\\\": cipher: message authentication failed";
    assert!(text.contains(why), "{text}");
    assert_eq!(restarted.ask(Method::GET, SECRETS, "").await.0, 500);
}

#[tokio::test]
async fn writes_go_on_for_a_while_without_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, options, store) = (Arc::new(Plugin::default()), options(folder.path(), PATIENT), memory());
    let _serving = serve(&plugin, &folder.path().join("kms.sock"));
    let story = Story::start(&options, &store).await;
    story.ask(Method::POST, SECRETS, SECRET).await;
    plugin.ill.store(true, Ordering::SeqCst);
    let (code, text) = story.health_after(30).await;
    assert_eq!(code, 500);
    let why = "kms-provider-0: kmsv2 Provider plug is not healthy, error: got unexpected healthz status: ill";
    assert!(text.contains(why), "{text}");
    assert_eq!(story.ask(Method::GET, "/readyz", "").await.0, 500);
    let other = SECRET.replace("\"s\"", "\"other\"");
    assert_eq!(story.ask(Method::POST, SECRETS, &other).await.0, 201);
    plugin.key.store(1, Ordering::SeqCst);
    assert_eq!(story.health_after(200).await.0, 500);
    let (code, text) = story.ask(Method::POST, SECRETS, &SECRET.replace("\"s\"", "\"late\"")).await;
    assert!(code == 500 && text.contains("expired at"), "{text}");
    assert_eq!(story.ask(Method::GET, OWN, "").await.0, 200, "reads go on");
    plugin.ill.store(false, Ordering::SeqCst);
    assert_eq!(story.health_after(5).await.0, 200);
    assert_eq!(story.ask(Method::POST, SECRETS, &SECRET.replace("\"s\"", "\"late\"")).await.0, 201);
}

#[tokio::test]
async fn a_plugin_may_start_after_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, options, store) = (Arc::new(Plugin::default()), options(folder.path(), PATIENT), memory());
    let socket = folder.path().join("kms.sock");
    let serving = serve(&plugin, &socket);
    Story::start(&options, &store).await.ask(Method::POST, SECRETS, SECRET).await;
    let sealed = stored(&*store);
    drop(serving);
    std::fs::remove_file(&socket).unwrap();

    let fresh = memory();
    let put = store::Put::new(std::str::from_utf8(KEY).unwrap(), sealed);
    fresh.create(put).await.unwrap().unwrap();
    let impatient = self::options(folder.path(), "1s");
    let story = Story::start(&impatient, &fresh).await;
    let (code, text) = story.ask(Method::GET, OWN, "").await;
    assert!(code == 500 && text.contains("got unexpected nil transformer"), "{text}");
    let (code, text) = story.ask(Method::POST, SECRETS, &SECRET.replace("\"s\"", "\"new\"")).await;
    assert!(code == 500 && text.contains("got unexpected nil transformer"), "{text}");
    assert_eq!(story.health_after(0).await.0, 500);
    let _serving = serve(&plugin, &socket);
    // What could not be read is decrypted in the background once the plugin is seen to be well.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let health = story.health_after(30).await;
        let (code, text) = story.ask(Method::GET, OWN, "").await;
        if (health.0, code) == (200, 200) {
            assert!(text.contains("aGVsbG8="), "{text}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{health:?} {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn servers_on_one_etcd_read_what_the_other_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, options) = (Arc::new(Plugin::default()), options(folder.path(), PATIENT));
    let _serving = serve(&plugin, &folder.path().join("kms.sock"));
    let scope = TaskScope::new("etcd");
    let below = store::Embedded::in_memory(base::system_clock()).unwrap();
    let endpoint = etcd(below.clone(), &scope).await;
    let config = etcd::RemoteConfig { endpoints: vec![endpoint], ..etcd::RemoteConfig::default() };
    let mut servers = Vec::new();
    for _ in 0..2 {
        let remote = etcd::RemoteStore::open(&config, &scope, Duration::from_secs(20)).await.unwrap();
        let remote: Arc<dyn Store> = Arc::new(remote);
        servers.push(Story::start(&options, &remote).await);
    }
    let [one, two] = &servers[..] else { unreachable!() };
    let (code, text) = one.ask(Method::POST, SECRETS, SECRET).await;
    assert_eq!(code, 201, "{text}");
    assert!(stored(&below).starts_with(MARK));
    let (code, text) = two.ask(Method::GET, OWN, "").await;
    assert!(code == 200 && text.contains("aGVsbG8="), "{text}");
    let (code, text) = two.ask(Method::PUT, OWN, &text.replace("aGVsbG8=", "d29ybGQ=")).await;
    assert_eq!(code, 200, "{text}");
    let (code, text) = one.ask(Method::GET, SECRETS, "").await;
    assert!(code == 200 && text.contains("d29ybGQ="), "{text}");
}

/// An etcd over a store; its endpoint.
async fn etcd(below: store::Embedded, scope: &TaskScope) -> String {
    let listen = etcd::Listen::bind("127.0.0.1:0", None).await.unwrap();
    let endpoint = format!("http://{}", listen.address().unwrap());
    let member = store::Member {
        id: store::MemberId(1),
        name: "default".to_owned(),
        peer_urls: vec!["http://localhost:2380".to_owned()],
        client_urls: vec![endpoint.clone()],
        is_learner: false,
    };
    let cluster = store::SingleMember::new(below.clone(), 7, member);
    let server = etcd::Server::new(Arc::new(below), cluster, etcd::Options::default(), scope);
    scope.spawn(etcd::serve(server, listen, scope.clone()));
    endpoint
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
