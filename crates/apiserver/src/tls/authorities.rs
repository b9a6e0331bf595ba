//! The authorities of client certificates, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::{Error, Options};

/// Which authorities a client's certificate is of. The words are for the log.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// `--client-ca-file`: the certificate names a user.
    pub user: Result<(), String>,
    /// `--requestheader-client-ca-file`: its bearer may say who the user is.
    pub front_proxy: Result<(), String>,
}

/// Both authorities.
pub struct ClientAuthorities {
    users: Option<Bundle>,
    front_proxies: Option<Bundle>,
}

impl ClientAuthorities {
    /// Those of the options.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let bundle = |path: &Option<PathBuf>| path.as_deref().map(Bundle::read).transpose();
        Ok(Self {
            users: bundle(&options.client_ca_file)?,
            front_proxies: bundle(&options.requestheader_client_ca_file)?,
        })
    }

    /// True if certificates are of any use.
    pub fn any(&self) -> bool {
        self.users.is_some() || self.front_proxies.is_some()
    }

    /// Whose the certificate at the head of `chain` is.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Verdict {
        let by = |bundle: &Option<Bundle>| match bundle {
            Some(bundle) => bundle.verify(chain),
            None => Err("no authority is configured".to_owned()),
        };
        Verdict { user: by(&self.users), front_proxy: by(&self.front_proxies) }
    }
}

/// One file of authorities.
struct Bundle {
    path: PathBuf,
    current: ArcSwap<Loaded>,
}

struct Loaded {
    stamp: Option<Stamp>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What of a file tells that it was replaced: time, inode and size.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino(), meta.size()))
}

fn load(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in pki::read_certificates(path)? {
        roots.add(certificate).map_err(pki::Error::from)?;
    }
    let provider = Arc::new(default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(builder.build().map_err(pki::Error::from)?)
}

impl Bundle {
    fn read(path: &Path) -> Result<Self, Error> {
        let loaded = Loaded { stamp: stamp(path), verifier: load(path)? };
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(loaded) })
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let stamp = stamp(&self.path);
        let current = self.current.load();
        if stamp == current.stamp {
            return current.verifier.clone();
        }
        match load(&self.path) {
            Ok(verifier) => {
                self.current.store(Arc::new(Loaded { stamp, verifier: verifier.clone() }));
                verifier
            }
            Err(error) => {
                tracing::error!(%error, "keep believing the previous authorities");
                current.verifier.clone()
            }
        }
    }

    fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let (leaf, rest) = chain.split_first().ok_or_else(|| "no certificate".to_owned())?;
        let outcome = self.verifier().verify_client_cert(leaf, rest, UnixTime::now());
        outcome.map(drop).map_err(|e| format!("verifying certificate failed: {e}"))
    }
}
