//! Pulling: resolve the name, choose the platform, download what is missing, unpack, and give it its names.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use proto::cri::v1::AuthConfig;

use super::Images;
use super::catalog::ImageRecord;
use super::content::Ingest;
use super::decompress::decompress;
use super::digest::{Digest, chain_ids};
use super::lease::Lease;
use super::manifest::{Descriptor, Document, ImageFile, MAX_JSON_BYTES, Manifest};
use super::reference::Reference;
use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::registry::{Credentials, RegistryError, Resolved};
use crate::snapshots::LayerSource;

/// How often the download of one blob is taken up again after it broke.
const MAX_RESUMES: usize = 5;
/// How much is collected in memory before it is written.
const WRITE_BYTES: usize = 1 << 20;

impl Images {
    /// Pulls the image that `name` stands for now, and gives its id.
    pub async fn pull(&self, name: &str, auth: Option<&AuthConfig>) -> Result<Digest> {
        let reference = Reference::parse(name)?;
        let credentials = Credentials::from_auth_config(auth, &reference.domain)?;
        let failed = format!("failed to pull and unpack image {:?}", reference.to_string());
        let pulled = self.pull_reference(&reference, credentials).await;
        pulled.map_err(|error| error.context(failed))
    }

    async fn pull_reference(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Digest> {
        let resolved = self.0.registry.resolve(reference, credentials).await.map_err(|error| {
            Error::from(error).context(format!("failed to resolve reference {:?}", reference.to_string()))
        })?;
        let lease = self.0.leases.begin();
        let found = self.manifest(&resolved, &lease).await?;
        let id = found.manifest.config.digest.clone();
        self.download(&resolved, &found.manifest.config, &lease).await?;
        let config = self.0.content.read(&id)?;
        let file = parse_config(&config)?;
        let chain = check_layers(&found.manifest, &file)?;
        lease.hold(&chain);
        self.download_missing(&resolved, &found.manifest, &chain, &lease).await?;
        self.unpack(layers_in_store(self, &found.manifest, &file, &chain)).await?;
        let layers: u64 = found.manifest.layers.iter().map(|layer| layer.size).sum();
        let record = ImageRecord {
            tags: reference.tagged().into_iter().collect(),
            digests: BTreeSet::from([reference.with_digest(&found.digest)]),
            size: layers + config.len() as u64 + found.documents_size,
            chain,
            blobs: found.blobs.into_iter().chain([id.clone()]).collect(),
            run: file.config,
            created_at_ns: disk::now_ns(),
            pinned: false,
            id: id.clone(),
        };
        self.register(record, lease).await?;
        Ok(id)
    }

    /// Adds an image to the catalog, then lets go of blobs that were only needed to unpack it.
    pub(super) async fn register(&self, record: ImageRecord, lease: Lease) -> Result<()> {
        let inner = self.0.clone();
        blocking(move || {
            inner.catalog.add(record)?;
            drop(lease);
            inner.collect_blobs()
        })
        .await
    }

    /// Unpacks layers, one image at a time.
    pub(super) async fn unpack(&self, sources: Vec<LayerSource>) -> Result<()> {
        let _turn = self.0.unpacking.lock().await;
        let snapshots = self.0.snapshots.clone();
        blocking(move || snapshots.unpack(sources)).await
    }

    async fn manifest(&self, resolved: &Resolved<'_>, lease: &Lease) -> Result<Found> {
        let digest = Digest::of(&resolved.body);
        let top = Document::parse(&resolved.media_type, &resolved.body)?;
        lease.hold([&digest]);
        self.0.content.put(&resolved.body)?;
        let index = match top {
            Document::Manifest(manifest) => {
                let documents_size = resolved.body.len() as u64;
                return Ok(Found { manifest, blobs: vec![digest.clone()], digest, documents_size });
            }
            Document::Index(index) => index,
        };
        let chosen = index.choose(&self.0.platform)?;
        let (media_type, body) = resolved.manifest(chosen.digest.as_str()).await?;
        let Document::Manifest(manifest) = Document::parse(&media_type, &body)? else {
            return Err(Error::Image(format!("{} is an index inside of an index", chosen.digest)));
        };
        lease.hold([&chosen.digest]);
        self.0.content.put(&body)?;
        let documents_size = (resolved.body.len() + body.len()) as u64;
        Ok(Found { manifest, blobs: vec![digest.clone(), chosen.digest.clone()], digest, documents_size })
    }

    async fn download_missing(
        &self,
        resolved: &Resolved<'_>,
        manifest: &Manifest,
        chain: &[Digest],
        lease: &Lease,
    ) -> Result<()> {
        let missing = manifest.layers.iter().zip(chain).filter(|(_, id)| !self.0.snapshots.has(id));
        let mut seen = BTreeSet::new();
        let downloads = missing.filter(|(layer, _)| seen.insert(layer.digest.clone()));
        try_join_all(downloads.map(|(layer, _)| self.download(resolved, layer, lease))).await?;
        Ok(())
    }

    /// Gets a blob into the content store, unless it is there.
    async fn download(&self, resolved: &Resolved<'_>, blob: &Descriptor, lease: &Lease) -> Result<()> {
        lease.hold([&blob.digest]);
        let _only = self.0.blob_locks.lock(&blob.digest).await;
        if self.0.content.has(&blob.digest) {
            return Ok(());
        }
        let _slot = self.0.download_slots.acquire().await.map_err(|e| Error::Internal(e.to_string()))?;
        let failed = |e: Error| e.context(format!("failed to copy blob {}", blob.digest));
        let content = self.0.content.clone();
        let digest = blob.digest.clone();
        let mut ingest = blocking(move || content.resume(&digest)).await?;
        for attempt in 0.. {
            let before = ingest.written();
            if blob.size == 0 || before < blob.size {
                let (kept, result) = self.fetch(resolved, blob, ingest).await.map_err(failed)?;
                ingest = kept;
                match result {
                    Ok(()) => {}
                    // As long as bytes arrive it is worth going on.
                    Err(error) if attempt < MAX_RESUMES && ingest.written() > before => {
                        tracing::debug!(digest = %blob.digest, written = ingest.written(), %error, "resuming");
                        continue;
                    }
                    Err(error) => return Err(failed(error.into())),
                }
            }
            break;
        }
        blocking(move || ingest.commit()).await.map(drop).map_err(failed)
    }

    /// Adds to a blob what the registry gives. An inner error is one of the connection: what came is kept.
    async fn fetch(
        &self,
        resolved: &Resolved<'_>,
        blob: &Descriptor,
        mut ingest: Ingest,
    ) -> Result<(Ingest, Result<(), RegistryError>)> {
        let mut stream = match resolved.blob(&blob.digest, ingest.written()).await {
            Ok(stream) => stream,
            Err(error) => return Ok((ingest, Err(error))),
        };
        if stream.offset != ingest.written() {
            ingest = self.0.content.restart(&blob.digest)?;
        }
        let mut buffer = Vec::with_capacity(WRITE_BYTES);
        loop {
            let piece = stream.next().await;
            if let Ok(Some(bytes)) = &piece {
                buffer.extend_from_slice(bytes);
            }
            let total = ingest.written() + buffer.len() as u64;
            if blob.size > 0 && total > blob.size {
                return Err(Error::Image(format!(
                    "the registry sent more than the {} bytes promised",
                    blob.size
                )));
            }
            let ended = !matches!(piece, Ok(Some(_)));
            if buffer.len() >= WRITE_BYTES || (ended && !buffer.is_empty()) {
                let full = std::mem::replace(&mut buffer, Vec::with_capacity(WRITE_BYTES));
                ingest = blocking(move || ingest.write(&full).map(|()| ingest)).await?;
            }
            match piece {
                Ok(Some(_)) => {}
                Ok(None) => return Ok((ingest, Ok(()))),
                Err(error) => return Ok((ingest, Err(error))),
            }
        }
    }
}

/// A manifest with where it came from.
struct Found {
    manifest: Manifest,
    /// Of what the name stands for: the index if there is one.
    digest: Digest,
    blobs: Vec<Digest>,
    documents_size: u64,
}

/// Parses an image's configuration.
pub(super) fn parse_config(bytes: &[u8]) -> Result<ImageFile> {
    if bytes.len() as u64 > MAX_JSON_BYTES {
        return Err(Error::Image("the image configuration is too large".to_owned()));
    }
    serde_json::from_slice(bytes).map_err(|e| Error::Image(format!("invalid image configuration: {e}")))
}

/// The chain of an image whose manifest and configuration agree.
pub(super) fn check_layers(manifest: &Manifest, file: &ImageFile) -> Result<Vec<Digest>> {
    let (layers, diffs) = (manifest.layers.len(), file.rootfs.diff_ids.len());
    if diffs == 0 && layers == 0 {
        return Err(Error::Image("the image has no layers".to_owned()));
    }
    if layers != diffs {
        return Err(Error::Image(format!(
            "mismatched image rootfs and manifest layers: {diffs} diff ids, {layers} layers"
        )));
    }
    if let Some(layer) =
        manifest.layers.iter().find(|l| !l.media_type.is_empty() && !l.media_type.contains("tar"))
    {
        return Err(Error::Image(format!("unsupported layer media type {:?}", layer.media_type)));
    }
    Ok(chain_ids(&file.rootfs.diff_ids))
}

fn layers_in_store(
    images: &Images,
    manifest: &Manifest,
    file: &ImageFile,
    chain: &[Digest],
) -> Vec<LayerSource> {
    let parts = manifest.layers.iter().zip(&file.rootfs.diff_ids).zip(chain);
    parts
        .map(|((layer, diff_id), chain_id)| {
            let (content, digest) = (images.0.content.clone(), layer.digest.clone());
            LayerSource {
                chain_id: chain_id.clone(),
                diff_id: diff_id.clone(),
                open: Box::new(move || decompress(content.open_blob(&digest)?)),
            }
        })
        .collect()
}
