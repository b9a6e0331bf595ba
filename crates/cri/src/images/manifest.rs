//! The JSON of images: indexes, manifests and configurations of OCI and of Docker's schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use crate::error::{Error, Result};

/// Media types of lists of manifests.
pub const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Media types of manifests.
pub const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const SCHEMA1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1";

/// The largest manifest, index or configuration that is read into memory.
pub const MAX_JSON_BYTES: u64 = 8 << 20;
/// The most layers of one image; overlayfs stops at 500 lower directories.
pub const MAX_LAYERS: usize = 256;

/// A pointer to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its content.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(default)]
    pub size: u64,
    /// For manifests in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names of an archive's images are here.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it, e.g. `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// As Go names it, e.g. `linux`.
    #[serde(default)]
    pub os: String,
    /// E.g. `v8`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A list of manifests, one per platform.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// In order of preference.
    pub manifests: Vec<Descriptor>,
}

/// One image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default)]
    pub schema_version: u32,
    /// May be missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The configuration; its digest is the image's id.
    pub config: Descriptor,
    /// From the lowest up.
    pub layers: Vec<Descriptor>,
}

/// The configuration file of an image.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ImageFile {
    /// What it runs on.
    pub architecture: String,
    /// What it runs on.
    pub os: String,
    /// How to run it.
    #[serde(deserialize_with = "null_as_default")]
    pub config: RunConfig,
    /// What it consists of.
    pub rootfs: RootFs,
}

/// The layers of an image, uncompressed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Digests of the uncompressed layers, from the lowest up.
    #[serde(deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

/// How to run an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// User and group by name or number, `user:group`.
    #[serde(deserialize_with = "null_as_default")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    /// The command.
    #[serde(deserialize_with = "null_as_default")]
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    #[serde(deserialize_with = "null_as_default")]
    pub cmd: Vec<String>,
    /// Paths meant to hold data that outlives the container.
    #[serde(deserialize_with = "null_as_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Where the command starts.
    #[serde(deserialize_with = "null_as_default")]
    pub working_dir: String,
    /// Labels of the image.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to end.
    #[serde(deserialize_with = "null_as_default")]
    pub stop_signal: String,
}

/// Go writes empty lists and maps as `null`.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// What a registry gave for a name.
pub enum Document {
    /// Several images.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

impl Document {
    /// Parses a document of `media_type`, or says what is wrong with it.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self> {
        if media_type.starts_with(SCHEMA1_PREFIX) {
            return Err(Error::Image(
                "the image has a Docker schema 1 manifest, which is no longer supported; push it anew"
                    .to_owned(),
            ));
        }
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| Error::Image(format!("invalid manifest: {e}")))?;
        let is_index = INDEX_TYPES.contains(&media_type)
            || (!MANIFEST_TYPES.contains(&media_type) && value.get("manifests").is_some());
        let invalid = |e: serde_json::Error| Error::Image(format!("invalid manifest: {e}"));
        if is_index {
            return serde_json::from_value(value).map(Self::Index).map_err(invalid);
        }
        if value.get("config").is_none() && value.get("fsLayers").is_some() {
            return Self::parse(SCHEMA1_PREFIX, bytes);
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(invalid)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(Error::Image(format!("the image has more than {MAX_LAYERS} layers")));
        }
        Ok(Self::Manifest(manifest))
    }
}

impl Platform {
    /// The machine's own platform.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.to_owned() }
    }

    /// How well an image for `self` runs on `host`: `None` not at all, lower is better.
    fn rank_on(&self, host: &Self) -> Option<u32> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        let number = |v: &str| v.trim_start_matches('v').parse::<u32>().ok();
        match (number(&self.variant), number(&host.variant)) {
            (None, _) => Some(if host.variant.is_empty() { 0 } else { 1 }),
            (Some(want), Some(have)) if want <= have => Some(2 * (have - want)),
            // amd64/v2 and up cannot be told from here; take them after plain amd64.
            (Some(want), None) if want <= 1 => Some(1),
            _ => None,
        }
    }
}

impl Index {
    /// The manifest for `host`.
    pub fn choose(&self, host: &Platform) -> Result<&Descriptor> {
        let mut best: Option<(u32, &Descriptor)> = None;
        for descriptor in &self.manifests {
            let rank = match &descriptor.platform {
                Some(platform) => platform.rank_on(host),
                // Without a platform it may be anything; only a list of one is taken at its word.
                None => (self.manifests.len() == 1).then_some(u32::MAX),
            };
            if let Some(rank) = rank.filter(|r| best.is_none_or(|(b, _)| *r < b)) {
                best = Some((rank, descriptor));
            }
        }
        best.map(|(_, descriptor)| descriptor).ok_or_else(|| {
            let have: Vec<String> = self
                .manifests
                .iter()
                .filter_map(|m| m.platform.as_ref())
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            Error::NotFound(format!(
                "no match for platform {}/{} in manifest (it has: {})",
                host.os,
                host.architecture,
                have.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(arch: &str, variant: &str) -> Descriptor {
        Descriptor {
            media_type: MANIFEST_TYPES[0].to_owned(),
            digest: Digest::of(format!("{arch}{variant}").as_bytes()),
            size: 1,
            platform: Some(Platform {
                architecture: arch.to_owned(),
                os: "linux".to_owned(),
                variant: variant.to_owned(),
            }),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        let index = Index {
            manifests: vec![
                descriptor("unknown", ""),
                descriptor("arm", "v6"),
                descriptor("arm", "v7"),
                descriptor("amd64", ""),
            ],
        };
        let host = |arch: &str, variant: &str| Platform {
            architecture: arch.to_owned(),
            os: "linux".to_owned(),
            variant: variant.to_owned(),
        };
        let chosen =
            |h: Platform| index.choose(&h).map(|d| d.platform.clone().unwrap()).map_err(|e| e.to_string());
        assert_eq!(chosen(host("arm", "v7")).unwrap(), host("arm", "v7"));
        assert_eq!(chosen(host("arm", "v6")).unwrap(), host("arm", "v6"));
        assert_eq!(chosen(host("amd64", "")).unwrap(), host("amd64", ""));
        assert!(chosen(host("riscv64", "")).unwrap_err().contains("no match for platform linux/riscv64"));
    }

    #[test]
    fn nulls_of_go_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Volumes":{"/a":{}}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let file: ImageFile = serde_json::from_str(text).unwrap();
        assert_eq!(file.config.cmd, ["sh"]);
        assert!(file.config.env.is_empty() && file.config.volumes.contains_key("/a"));
        let file: ImageFile = serde_json::from_str(r#"{"config":null}"#).unwrap();
        assert_eq!(file.config, RunConfig::default());
    }

    #[test]
    fn old_manifests_are_named_as_such() {
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        let error = Document::parse("application/json", old).err().unwrap().to_string();
        assert!(error.contains("schema 1"), "{error}");
    }
}
