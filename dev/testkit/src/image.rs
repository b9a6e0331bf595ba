//! Images made on the spot from busybox, as OCI layouts.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image in a tar file.
pub struct Image {
    /// Its name with tag.
    pub name: String,
    /// The OCI layout, as `docker save` of today and `skopeo` write it.
    pub tar: PathBuf,
    /// The manifest and the blobs it names, by digest.
    pub blobs: Vec<(String, Vec<u8>)>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// Makes an image `name` in `folder`: busybox with its commands, `files` (path and content) and a command to run.
pub fn busybox(folder: &Path, name: &str, files: &[(&str, &str)], command: &[&str]) -> Image {
    let base = layer(&base_files());
    let own = layer(
        &files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Node::File(text.as_bytes(), 0o644)))
            .collect::<Vec<_>>(),
    );
    let layers = [base, own];
    let packed: Vec<Vec<u8>> = layers.iter().map(|tar| gzip(tar)).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin:/usr/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|tar| digest(tar)).collect::<Vec<_>>()},
    });
    let config = serde_json::to_vec(&config).expect("JSON");
    let descriptor =
        |media: &str, blob: &[u8]| json!({"mediaType": media, "digest": digest(blob), "size": blob.len()});
    let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": packed.iter().map(|blob| descriptor(layer_type, blob)).collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] =
        json!({"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name});
    let blobs: Vec<(String, Vec<u8>)> =
        packed.into_iter().chain([config]).map(|blob| (digest(&blob), blob)).collect();
    let tar = folder.join(format!("{}.tar", name.replace(['/', ':'], "_")));
    write_layout(&tar, &entry, &manifest, &blobs);
    Image { name: name.to_owned(), tar, blobs, manifest }
}

enum Node<'a> {
    Folder(u32),
    File(&'a [u8], u32),
    Link(&'a str),
}

fn base_files() -> Vec<(String, Node<'static>)> {
    let binary: &'static [u8] =
        Box::leak(std::fs::read("/bin/busybox").expect("busybox-static").into_boxed_slice());
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    let mut files = vec![
        ("bin/".to_owned(), Node::Folder(0o755)),
        ("etc/".to_owned(), Node::Folder(0o755)),
        ("tmp/".to_owned(), Node::Folder(0o1777)),
        ("root/".to_owned(), Node::Folder(0o700)),
        ("bin/busybox".to_owned(), Node::File(binary, 0o755)),
        ("etc/passwd".to_owned(), Node::File(passwd, 0o644)),
        ("etc/group".to_owned(), Node::File(b"root:x:0:\nnogroup:x:65534:\n", 0o644)),
    ];
    let applets =
        std::process::Command::new("/bin/busybox").arg("--list").output().expect("busybox runs").stdout;
    let applets: &'static str = Box::leak(String::from_utf8(applets).expect("names").into_boxed_str());
    files.extend(
        applets.lines().filter(|a| *a != "busybox").map(|a| (format!("bin/{a}"), Node::Link("busybox"))),
    );
    files
}

fn layer(files: &[(String, Node<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, node) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let content: &[u8] = match node {
            Node::Folder(mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                &[]
            }
            Node::File(content, mode) => {
                header.set_mode(*mode);
                content
            }
            Node::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_link_name(target).expect("a short name");
                &[]
            }
        };
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).expect("written to memory");
    }
    builder.into_inner().expect("written to memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("written to memory")
}

/// The digest of a blob, `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn write_layout(path: &Path, entry: &Value, manifest: &[u8], blobs: &[(String, Vec<u8>)]) {
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    let mut builder = tar::Builder::new(std::fs::File::create(path).expect("a file"));
    let mut put = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).expect("written");
    };
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    put("index.json", &serde_json::to_vec(&index).expect("JSON"));
    for (digest, blob) in
        blobs.iter().map(|(d, b)| (d.clone(), b.as_slice())).chain([(self::digest(manifest), manifest)])
    {
        put(&format!("blobs/{}", digest.replace(':', "/")), blob);
    }
    builder.finish().expect("written");
}
