//! Images as bytes.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a layer is packed.
#[derive(Clone, Copy)]
pub enum Pack {
    Plain,
    Gzip,
    Zstd,
}

/// An image: its blobs by digest, its manifest and its uncompressed layers.
#[derive(Clone)]
pub struct Image {
    pub blobs: Vec<(String, Vec<u8>)>,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar of files; those whose content begins with `->` are symbolic links.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        if let Some(target) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, std::str::from_utf8(target).unwrap()).unwrap();
        } else {
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// Busybox with a shell and some commands, and a second layer that replaces and hides files of the first.
pub fn busybox(config: Value, pack: Pack) -> Image {
    let binary = std::fs::read("/bin/busybox").unwrap();
    let applets = [
        "sh", "cat", "grep", "echo", "sleep", "id", "ls", "true", "false", "kill", "nc", "head", "stty",
        "tr", "dd", "wc",
    ];
    let links: Vec<String> = applets.iter().map(|a| format!("bin/{a}")).collect();
    let mut files: Vec<(&str, &[u8])> = vec![
        ("etc/", b""),
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"),
        ("etc/group", b"root:x:0:\napp:x:1000:\nextra:x:77:app\n"),
        ("etc/hidden", b"of the lower layer"),
        ("etc/version", b"1"),
        ("tmp/", b""),
        ("bin/busybox", &binary),
    ];
    files.extend(links.iter().map(|l| (l.as_str(), b"->busybox".as_slice())));
    let upper = tar_of(&[("etc/version", b"2"), ("etc/.wh.hidden", b"")]);
    build(config, vec![tar_of(&files), upper], pack)
}

/// An image of these layers.
pub fn build(run: Value, layers: Vec<Vec<u8>>, pack: Pack) -> Image {
    let packed: Vec<(Vec<u8>, &str)> = layers.iter().map(|layer| self::pack(layer, pack)).collect();
    let config = json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| digest(l)).collect::<Vec<_>>()},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let descriptor =
        |media: &str, blob: &[u8]| json!({"mediaType": media, "digest": digest(blob), "size": blob.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": packed.iter().map(|(blob, media)| descriptor(media, blob)).collect::<Vec<_>>(),
    });
    let blobs = packed.into_iter().map(|(blob, _)| blob).chain([config.clone()]);
    let blobs = blobs.map(|blob| (digest(&blob), blob)).collect();
    Image { blobs, manifest: serde_json::to_vec(&manifest).unwrap(), config, layers }
}

fn pack(layer: &[u8], pack: Pack) -> (Vec<u8>, &'static str) {
    match pack {
        Pack::Plain => (layer.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
        Pack::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).unwrap();
            (encoder.finish().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
        }
        Pack::Zstd => (zstd::encode_all(layer, 1).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
    }
}

impl Image {
    pub fn id(&self) -> String {
        digest(&self.config)
    }

    /// An OCI layout as a tar, with the name as containerd and Docker write it.
    pub fn oci_layout(&self, name: Option<&str>) -> Vec<u8> {
        let mut entry =
            json!({"mediaType": MANIFEST, "digest": digest(&self.manifest), "size": self.manifest.len()});
        if let Some(name) = name {
            entry["annotations"] = json!({"io.containerd.image.name": name});
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        let paths: Vec<(String, &[u8])> = self
            .blobs
            .iter()
            .map(|(d, b)| (d.clone(), b.as_slice()))
            .chain([(digest(&self.manifest), self.manifest.as_slice())])
            .map(|(d, b)| (format!("blobs/{}", d.replace(':', "/")), b))
            .collect();
        let mut files: Vec<(&str, &[u8])> =
            vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", index.as_bytes())];
        files.extend(paths.iter().map(|(p, b)| (p.as_str(), *b)));
        tar_of(&files)
    }

    /// What `docker save` wrote before it wrote OCI layouts.
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        let layers: Vec<String> = (0..self.layers.len()).map(|i| format!("{i}/layer.tar")).collect();
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": layers}]).to_string();
        let mut files: Vec<(&str, &[u8])> =
            vec![("manifest.json", manifest.as_bytes()), ("config.json", &self.config)];
        files.extend(layers.iter().map(String::as_str).zip(self.layers.iter().map(Vec::as_slice)));
        tar_of(&files)
    }
}
