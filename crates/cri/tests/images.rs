//! Images from registries and archives, as clients of the socket see them.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use proto::cri::v1;
use serde_json::json;
use support::image::{INDEX, Image, Pack, build, busybox, digest, tar_of};
use support::registry::{DockerRegistry, Registry};
use support::{Node, can_run, image_spec};
use tonic::Code;

fn small(content: &str, pack: Pack) -> Image {
    let lower = tar_of(&[("a/", b""), ("a/file", content.as_bytes())]);
    let upper = tar_of(&[("a/.wh.file", b""), ("b", content.as_bytes())]);
    build(json!({"Cmd": ["/b"], "User": "1000:5"}), vec![lower, upper], pack)
}

async fn status(node: &mut Node, name: &str) -> Option<v1::Image> {
    let request = v1::ImageStatusRequest { image: Some(image_spec(name)), verbose: false };
    node.images.image_status(request).await.unwrap().into_inner().image
}

async fn remove(node: &mut Node, name: &str) -> Result<(), tonic::Status> {
    let request = v1::RemoveImageRequest { image: Some(image_spec(name)) };
    node.images.remove_image(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_listed_and_removed() {
    if !can_run() {
        return;
    }
    let (mut node, registry) = (Node::start().await, Registry::start().await);
    for (tag, pack) in [("plain", Pack::Plain), ("gzip", Pack::Gzip), ("zstd", Pack::Zstd)] {
        let image = small(tag, pack);
        registry.add("team/app", tag, &image);
        let name = registry.name(&format!("team/app:{tag}"));
        let id = node.pull(&name, None).await.unwrap();
        assert_eq!(id, image.id());
        let found = status(&mut node, &name).await.unwrap();
        assert_eq!((&found.id, &found.repo_tags), (&id, &vec![name.clone()]));
        let by_digest = registry.name(&format!("team/app@{}", digest(&image.manifest)));
        assert_eq!(found.repo_digests, [by_digest.as_str()]);
        assert_eq!((found.uid.unwrap().value, found.username.as_str()), (1000, ""));
        assert!(found.size > 100);
        assert_eq!(status(&mut node, &by_digest).await.unwrap().id, id);
        assert_eq!(status(&mut node, &id).await.unwrap().id, id);
    }
    let list = node.images.list_images(v1::ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert_eq!(list.len(), 3);
    for image in &list {
        remove(&mut node, &image.id).await.unwrap();
        remove(&mut node, &image.id).await.unwrap();
        assert!(status(&mut node, &image.id).await.is_none());
    }
    let layers = node.config.state_dir.join("snapshots/layers");
    assert_eq!(std::fs::read_dir(layers).unwrap().count(), 0, "layers are collected");
    let blobs = node.config.state_dir.join("images/content/blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0, "blobs are collected");
    assert_eq!(support::mounts_below(node.dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_and_survive_a_restart() {
    if !can_run() {
        return;
    }
    let (mut node, registry) = (Node::start().await, Registry::start().await);
    let base = tar_of(&[("base", b"shared")]);
    let image =
        |extra: &str| build(json!({}), vec![base.clone(), tar_of(&[("own", extra.as_bytes())])], Pack::Gzip);
    registry.add("one", "latest", &image("1"));
    registry.add("two", "latest", &image("2"));
    let one = node.pull(&registry.name("one"), None).await.unwrap();
    let before = registry.seen().len();
    node.pull(&registry.name("two"), None).await.unwrap();
    let shared = &image("1").blobs[0].0;
    assert!(
        !registry.seen()[before..].iter().any(|path| path.contains(shared.as_str())),
        "not fetched again"
    );
    let layers = node.config.state_dir.join("snapshots/layers");
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 3);
    node.restart().await;
    assert_eq!(status(&mut node, &registry.name("one")).await.unwrap().id, one);
    remove(&mut node, &registry.name("one:latest")).await.unwrap();
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 2, "what the other image needs stays");
    let usage = node.images.image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert!(usage.image_filesystems[0].used_bytes.unwrap().value > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_chosen_and_a_broken_download_resumed() {
    if !can_run() {
        return;
    }
    let (mut node, registry) = (Node::start().await, Registry::start().await);
    let large = vec![7; 300_000];
    let image = build(json!({}), vec![tar_of(&[("large", &large)])], Pack::Plain);
    registry.add("multi", "amd64", &image);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let entry = |arch: &str, manifest: &[u8]| {
        json!({"mediaType": support::image::MANIFEST, "digest": digest(manifest), "size": manifest.len(),
            "platform": {"architecture": arch, "os": "linux"}})
    };
    let index =
        json!({"schemaVersion": 2, "manifests": [entry("s390x", b"other"), entry(arch, &image.manifest)]});
    let index = index.to_string().into_bytes();
    let layer = image.blobs[0].0.clone();
    {
        let mut served = registry.served.lock().unwrap();
        served.manifests.insert("multi:latest".to_owned(), (INDEX.to_owned(), index.clone()));
        served.break_once.insert(layer.clone(), 100_000);
    }
    let name = registry.name("multi");
    assert_eq!(node.pull(&name, None).await.unwrap(), image.id());
    let found = status(&mut node, &name).await.unwrap();
    assert_eq!(found.repo_digests, [registry.name(&format!("multi@{}", digest(&index)))]);
    let fetched: Vec<String> = registry.seen().into_iter().filter(|s| s.contains(&layer)).collect();
    assert_eq!(fetched.len(), 2);
    assert!(fetched[1].contains("bytes="), "the second time from where the first broke: {fetched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_exchanged_for_a_token() {
    if !can_run() {
        return;
    }
    let (mut node, registry) = (Node::start().await, Registry::start().await);
    registry.add("private", "latest", &small("secret", Pack::Gzip));
    registry.served.lock().unwrap().credentials = Some("user:pass".to_owned());
    let name = registry.name("private");
    let auth = |password: &str| {
        let (username, password) = ("user".to_owned(), password.to_owned());
        Some(v1::AuthConfig { username, password, ..Default::default() })
    };
    let denied = node.pull(&name, auth("wrong")).await.unwrap_err();
    assert!(denied.message().contains("incorrect username or password"), "{denied}");
    let denied = node.pull(&name, None).await.unwrap_err();
    assert!(denied.message().contains("pull access denied"), "{denied}");
    node.pull(&name, auth("pass")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first() {
    if !can_run() {
        return;
    }
    let registry = Registry::start().await;
    let mirror = format!("http://{}", registry.address);
    let mut node = Node::start_with(|config| {
        config.registries.mirrors.insert("docker.io".to_owned(), vec![mirror]);
    })
    .await;
    let image = small("hub", Pack::Gzip);
    registry.add("library/app", "1", &image);
    node.pull("app:1", None).await.unwrap();
    assert_eq!(status(&mut node, "app:1").await.unwrap().repo_tags, ["docker.io/library/app:1"]);
    assert!(registry.seen()[0].contains("ns=docker.io"), "{:?}", registry.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_unless_told_otherwise() {
    if !can_run() {
        return;
    }
    let (registry, certificate) = Registry::start_tls().await;
    registry.add("app", "1", &small("tls", Pack::Gzip));
    let name = registry.name("app:1");
    let mut stranger = Node::start().await;
    let error = stranger.pull(&name, None).await.unwrap_err();
    assert!(error.message().contains("certificate"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let mut trusting = Node::start_with(|config| config.registries.ca_files = vec![file]).await;
    trusting.pull(&name, None).await.unwrap();
    let address = registry.address.to_string();
    let mut careless = Node::start_with(|config| config.registries.insecure = vec![address]).await;
    careless.pull(&name, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_the_registry_said() {
    if !can_run() {
        return;
    }
    let (mut node, registry) = (Node::start().await, Registry::start().await);
    let missing = node.pull(&registry.name("none:v9"), None).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let name = registry.name("none:v9");
    let expect = format!(
        "failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: {name}: not found"
    );
    assert_eq!(missing.message(), expect);
    let image = small("x", Pack::Gzip);
    registry.add("bad", "latest", &image);
    let layer = image.blobs[1].0.clone();
    registry.served.lock().unwrap().corrupt.insert(layer, b"evil".to_vec());
    let corrupt = node.pull(&registry.name("bad"), None).await.unwrap_err();
    assert!(corrupt.message().contains("expected sha256:"), "{corrupt}");
    let unreachable = node.pull(&format!("{}/a", support::free_address()), None).await.unwrap_err();
    assert!(unreachable.message().contains("failed to do request"), "{unreachable}");
    let nonsense = node.pull("A B", None).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_imported() {
    if !can_run() {
        return;
    }
    let mut node = Node::start().await;
    let image = small("oci", Pack::Zstd);
    let imported = node.import(image.oci_layout(Some("docker.io/library/web:1")), &[]).await.unwrap();
    assert_eq!(
        (imported[0].id.clone(), &imported[0].names),
        (image.id(), &vec!["docker.io/library/web:1".to_owned()])
    );
    assert_eq!(status(&mut node, "web:1").await.unwrap().id, image.id());

    let image = small("docker", Pack::Plain);
    node.import(image.docker_archive("corp.example/app:2"), &[]).await.unwrap();
    assert_eq!(status(&mut node, "corp.example/app:2").await.unwrap().id, image.id());

    let image = small("named", Pack::Gzip);
    node.import(image.oci_layout(None), &["given"]).await.unwrap();
    assert_eq!(status(&mut node, "given:latest").await.unwrap().id, image.id());

    // The whole archive may be compressed.
    let packed = zstd::encode_all(&small("packed", Pack::Plain).docker_archive("packed")[..], 1).unwrap();
    node.import(packed, &[]).await.unwrap();
    let list = node.images.list_images(v1::ListImagesRequest::default()).await.unwrap().into_inner().images;
    let ids: BTreeSet<String> = list.into_iter().map(|i| i.id).collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_archives_are_refused_with_a_reason() {
    if !can_run() {
        return;
    }
    let mut node = Node::start().await;
    let image = small("x", Pack::Gzip);
    let whole = image.oci_layout(Some("x"));
    let mut damaged = image.clone();
    damaged.blobs[0].1[40] ^= 1;
    let mut wrong_config = image.clone();
    wrong_config.blobs[2].1[5] ^= 1;
    let mut incomplete = image.clone();
    incomplete.blobs.remove(0);
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("empty", Vec::new(), "not a tar archive"),
        ("text", b"hello".repeat(500), "not a readable tar archive"),
        ("cut", whole[..whole.len() - 1600].to_vec(), "cut off"),
        ("other", tar_of(&[("readme", b"hi")]), "neither index.json"),
        ("layer", damaged.oci_layout(Some("x")), "failed to extract layer"),
        ("config", wrong_config.oci_layout(Some("x")), "is damaged"),
        ("missing", incomplete.oci_layout(Some("x")), "has no file"),
    ];
    for (what, archive, expect) in cases {
        let error = node.import(archive, &[]).await.map(|_| what).unwrap_err();
        assert!(error.message().contains(expect), "{what}: {error}");
    }
    let list = node.images.list_images(v1::ListImagesRequest::default()).await.unwrap().into_inner();
    assert!(list.images.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_is_pulled_from() {
    if !can_run() {
        return;
    }
    let mut node = Node::start().await;
    let Some(registry) = DockerRegistry::start(node.dir.path()).await else { return };
    let image = busybox(json!({"Cmd": ["sh"]}), Pack::Gzip);
    registry.push("library/busybox", "1", &image).await;
    let name = format!("{}/library/busybox:1", registry.address);
    assert_eq!(node.pull(&name, None).await.unwrap(), image.id());
    let missing = node.pull(&format!("{}/library/none", registry.address), None).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}
