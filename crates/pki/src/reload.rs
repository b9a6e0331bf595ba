//! A certificate and key that are read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::{Error, read_certificates, read_key};

/// A certificate chain and its key, on disk.
#[derive(Debug, Clone)]
pub struct KeyPairFiles {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// Serves the key pair of two files, and their new content once they change.
#[derive(Debug)]
pub struct Reloading {
    files: KeyPairFiles,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamp: Option<Stamp>,
    key: Arc<CertifiedKey>,
}

/// What of a file tells that it was replaced.
type Stamp = (SystemTime, u64);

impl Reloading {
    /// Reads both files now, and again when the certificate's changes.
    pub fn new(files: KeyPairFiles) -> Result<Self, Error> {
        let loaded = Loaded { stamp: stamp(&files.certificate), key: load(&files)? };
        Ok(Self { files, current: ArcSwap::from_pointee(loaded) })
    }

    /// The key pair; read again when the certificate file is another than before. An unreadable new one is reported
    /// and the old one stays in use.
    pub fn key(&self) -> Arc<CertifiedKey> {
        let stamp = stamp(&self.files.certificate);
        let current = self.current.load();
        if stamp == current.stamp {
            return current.key.clone();
        }
        match load(&self.files) {
            Ok(key) => {
                self.current.store(Arc::new(Loaded { stamp, key: key.clone() }));
                key
            }
            Err(error) => {
                tracing::error!(%error, "keep using the previous certificate");
                current.key.clone()
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino()))
}

fn load(files: &KeyPairFiles) -> Result<Arc<CertifiedKey>, Error> {
    let key = any_supported_type(&read_key(&files.key)?)?;
    let pair = CertifiedKey::new(read_certificates(&files.certificate)?, key);
    pair.keys_match()?;
    Ok(Arc::new(pair))
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Reloading {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
