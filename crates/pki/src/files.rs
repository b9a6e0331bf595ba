//! PEM files, written so that a crash leaves the old or the new content, never half of one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// Writes `content` readable by its owner only (mode 0600).
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_atomic(path, content, 0o600)
}

/// Writes `content` readable by all (mode 0644).
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_atomic(path, content, 0o644)
}

fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let at = |source| Error::File { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // A leftover of a crash may have another mode.
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(at)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at)?;
    std::fs::rename(&temporary, path).map_err(at)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|f| f.sync_all()).map_err(at)
}

/// Every certificate of a PEM file, at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let wrong = |reason: String| Error::Content { path: path.to_owned(), reason };
    let all = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(format!("not a PEM certificate: {e}")))?;
    if all.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(all) }
}

/// The private key of a PEM file (PKCS#8, PKCS#1 or SEC1).
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|e| Error::Content { path: path.to_owned(), reason: format!("not a PEM private key: {e}") })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
