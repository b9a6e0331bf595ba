//! Import of archives: OCI layouts and what `docker save` writes.

use std::collections::BTreeSet;
use std::fs::File;

use serde::Deserialize;

use super::Images;
use super::archive::{TarIndex, blob_path};
use super::catalog::ImageRecord;
use super::decompress::decompress;
use super::digest::{Digest, chain_ids};
use super::lease::Lease;
use super::manifest::{Descriptor, Document, INDEX_TYPES, ImageFile, Manifest};
use super::pull::{check_layers, parse_config};
use super::reference::Reference;
use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::snapshots::LayerSource;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes inside of indexes, at most.
const MAX_INDEX_DEPTH: usize = 3;
/// The most images of one archive.
const MAX_IMAGES: usize = 256;

/// An image that an archive brought.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its id.
    pub id: Digest,
    /// The names that it has now.
    pub names: Vec<String>,
}

/// An image found in an archive, not yet unpacked.
struct Candidate {
    names: Vec<Reference>,
    /// The manifest and what else is to be kept, with the digest that names are given with.
    manifest_digest: Option<Digest>,
    documents: Vec<Vec<u8>>,
    config: Vec<u8>,
    file: ImageFile,
    /// Where in the archive each layer is, with its size.
    layers: Vec<String>,
}

/// An entry of `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Images {
    /// An unnamed file that an upload may be collected in before [`Images::import`].
    pub fn upload_file(&self) -> Result<File> {
        self.0.content.scratch_file()
    }

    /// Imports all images of an archive that run on this machine. `names` are for an image that has none of its own.
    pub async fn import(&self, file: File, names: Vec<String>) -> Result<Vec<Imported>> {
        let names = names.iter().map(|n| Reference::parse(n)).collect::<Result<Vec<_>>>()?;
        let images = self.clone();
        let (index, candidates) = blocking(move || {
            let index = TarIndex::new(file, || images.0.content.scratch_file())?;
            let candidates = images.candidates(&index, names)?;
            Ok((index, candidates))
        })
        .await?;
        let mut imported = Vec::new();
        for candidate in candidates {
            imported.push(self.import_one(&index, candidate).await?);
        }
        Ok(imported)
    }

    fn candidates(&self, index: &TarIndex, names: Vec<Reference>) -> Result<Vec<Candidate>> {
        let (oci, docker) = (index.has("index.json"), index.has("manifest.json"));
        if !oci && !docker {
            return Err(Error::Image(
                "the archive is no image: it has neither index.json (OCI layout) nor manifest.json (docker save)"
                    .to_owned(),
            ));
        }
        let mut found = if oci { self.oci_candidates(index)? } else { Vec::new() };
        // Docker writes both; its own file always has the names.
        if docker && found.iter().all(|c| c.names.is_empty()) {
            found = docker_candidates(index)?;
        }
        if found.is_empty() {
            return Err(Error::Image("the archive has no images".to_owned()));
        }
        match found.as_mut_slice() {
            [only] if !names.is_empty() => only.names = names,
            _ if !names.is_empty() => {
                return Err(Error::InvalidArgument(format!(
                    "a name was given, but the archive has {} images",
                    found.len()
                )));
            }
            _ => {}
        }
        Ok(found)
    }

    fn oci_candidates(&self, archive: &TarIndex) -> Result<Vec<Candidate>> {
        let Document::Index(top) = Document::parse(INDEX_TYPES[0], &archive.read("index.json")?)? else {
            return Err(Error::Image("index.json is not an index".to_owned()));
        };
        let mut found: Vec<Candidate> = Vec::new();
        for descriptor in top.manifests.iter().take(MAX_IMAGES) {
            let names = oci_names(descriptor);
            let Some(mut candidate) = self.oci_candidate(archive, descriptor)? else { continue };
            match found.iter_mut().find(|c| c.manifest_digest == candidate.manifest_digest) {
                // The same image is listed once per tag.
                Some(known) => known.names.extend(names),
                None => {
                    candidate.names = names;
                    found.push(candidate);
                }
            }
        }
        if found.is_empty() && !top.manifests.is_empty() {
            top.choose(&self.0.platform)?;
        }
        Ok(found)
    }

    /// The image behind a descriptor; `None` if it is for another platform or no image.
    fn oci_candidate(&self, archive: &TarIndex, top: &Descriptor) -> Result<Option<Candidate>> {
        let mut descriptor = top.clone();
        let mut documents = Vec::new();
        for _ in 0..MAX_INDEX_DEPTH {
            let bytes = archive.read_blob(&descriptor.digest)?;
            let document = Document::parse(&descriptor.media_type, &bytes)?;
            documents.push(bytes);
            match document {
                Document::Index(index) => descriptor = index.choose(&self.0.platform)?.clone(),
                Document::Manifest(manifest) => {
                    let config = archive.read_blob(&manifest.config.digest)?;
                    let file = parse_config(&config)?;
                    if !self.runs_here(&file) {
                        return Ok(None);
                    }
                    check_layers(&manifest, &file)?;
                    return Ok(Some(Candidate {
                        names: Vec::new(),
                        manifest_digest: Some(top.digest.clone()),
                        documents,
                        config,
                        file,
                        layers: layer_paths(archive, &manifest)?,
                    }));
                }
            }
        }
        Err(Error::Image(format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")))
    }

    fn runs_here(&self, file: &ImageFile) -> bool {
        let host = &self.0.platform;
        (file.os.is_empty() || file.os == host.os)
            && (file.architecture.is_empty() || file.architecture == host.architecture)
    }

    async fn import_one(&self, archive: &TarIndex, candidate: Candidate) -> Result<Imported> {
        let lease = self.0.leases.begin();
        let chain = chain_ids(&candidate.file.rootfs.diff_ids);
        lease.hold(&chain);
        let (blobs, mut size) = self.keep_documents(&candidate, &lease)?;
        let mut sources = Vec::new();
        for ((path, diff_id), chain_id) in
            candidate.layers.iter().zip(&candidate.file.rootfs.diff_ids).zip(&chain)
        {
            let section = archive.section(path)?;
            size += section.len();
            sources.push(LayerSource {
                chain_id: chain_id.clone(),
                diff_id: diff_id.clone(),
                open: Box::new(move || decompress(section)),
            });
        }
        self.unpack(sources).await?;
        let id = Digest::of(&candidate.config);
        let tags: BTreeSet<String> = candidate.names.iter().filter_map(Reference::tagged).collect();
        let digests = match &candidate.manifest_digest {
            Some(digest) => candidate.names.iter().map(|name| name.with_digest(digest)).collect(),
            None => BTreeSet::new(),
        };
        let names = tags.iter().cloned().collect();
        let record = ImageRecord {
            id: id.clone(),
            tags,
            digests,
            size,
            chain,
            blobs,
            run: candidate.file.config,
            created_at_ns: disk::now_ns(),
            // Nothing could pull it again.
            pinned: true,
        };
        self.register(record, lease).await?;
        Ok(Imported { id, names })
    }

    fn keep_documents(&self, candidate: &Candidate, lease: &Lease) -> Result<(BTreeSet<Digest>, u64)> {
        let mut blobs = BTreeSet::new();
        let mut size = 0;
        for bytes in candidate.documents.iter().chain([&candidate.config]) {
            lease.hold([&Digest::of(bytes)]);
            blobs.insert(self.0.content.put(bytes)?);
            size += bytes.len() as u64;
        }
        Ok((blobs, size))
    }
}

fn layer_paths(archive: &TarIndex, manifest: &Manifest) -> Result<Vec<String>> {
    let paths: Vec<String> = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
    paths.iter().try_for_each(|path| archive.section(path).map(drop))?;
    Ok(paths)
}

/// The names that an OCI layout gives an image. A bare tag is no name: it does not say of what.
fn oci_names(descriptor: &Descriptor) -> Vec<Reference> {
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let full =
        annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME).filter(|n| n.contains([':', '/'])));
    full.and_then(|name| Reference::parse(name).ok()).into_iter().collect()
}

fn docker_candidates(archive: &TarIndex) -> Result<Vec<Candidate>> {
    let manifests: Vec<DockerManifest> = serde_json::from_slice(&archive.read("manifest.json")?)
        .map_err(|e| Error::Image(format!("invalid manifest.json: {e}")))?;
    manifests.into_iter().take(MAX_IMAGES).map(|m| docker_candidate(archive, m)).collect()
}

fn docker_candidate(archive: &TarIndex, manifest: DockerManifest) -> Result<Candidate> {
    let config = archive.read(&manifest.config)?;
    let file = parse_config(&config)?;
    let (layers, diffs) = (manifest.layers.len(), file.rootfs.diff_ids.len());
    if layers != diffs || layers == 0 {
        return Err(Error::Image(format!(
            "{}: {layers} layers in manifest.json, {diffs} in the image configuration",
            manifest.config
        )));
    }
    manifest.layers.iter().try_for_each(|path| archive.section(path).map(drop))?;
    let names = manifest.repo_tags.unwrap_or_default();
    let names = names.iter().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
    Ok(Candidate {
        names,
        manifest_digest: None,
        documents: Vec::new(),
        config,
        file,
        layers: manifest.layers,
    })
}
