//! TLS configurations for both sides of a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::reload::Reloading;
use crate::{Error, KeyPairFiles, read_certificates};

/// How a server presents itself and whom it asks for a certificate.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The serving certificate.
    pub identity: KeyPairFiles,
    /// Authorities of client certificates; empty asks for none.
    pub client_authorities: Vec<PathBuf>,
    /// True refuses clients without a certificate; false lets other credentials identify them.
    pub client_required: bool,
    /// Protocols offered by ALPN, best first, e.g. `h2` and `http/1.1`.
    pub alpn: Vec<Vec<u8>>,
}

/// The server side: TLS 1.2 and 1.3, the certificate reloaded when its file changes.
pub fn server_config(tls: &ServerTls) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if tls.client_authorities.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = Arc::new(roots(&tls.client_authorities)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let verifier = if tls.client_required { verifier } else { verifier.allow_unauthenticated() };
        builder.with_client_cert_verifier(verifier.build()?)
    };
    let mut config = builder.with_cert_resolver(Arc::new(Reloading::new(tls.identity.clone())?));
    config.alpn_protocols = tls.alpn.clone();
    Ok(Arc::new(config))
}

/// The client side: trusts `authorities` alone, presents `identity` if the server asks.
pub fn client_config(
    authorities: &[PathBuf],
    identity: Option<KeyPairFiles>,
    alpn: Vec<Vec<u8>>,
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authorities)?);
    let mut config = match identity {
        Some(files) => builder.with_client_cert_resolver(Arc::new(Reloading::new(files)?)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn;
    Ok(Arc::new(config))
}

fn roots(files: &[PathBuf]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for file in files {
        add_roots(&mut store, file)?;
    }
    Ok(store)
}

fn add_roots(store: &mut RootCertStore, file: &Path) -> Result<(), Error> {
    for certificate in read_certificates(file)? {
        store.add(certificate)?;
    }
    Ok(())
}

/// The common name and organizations of a verified client certificate: its user and groups.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some((name, groups))
}
