//! For who does not know a cluster's authority yet: a connection to anyone, and the hash that an authority is known by.

use std::path::Path;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, read_certificates};

/// The client side of a connection to a server that nothing is known of. What it answers must be verified by other
/// means, and nothing secret sent to it.
pub fn unverified_client_config(alpn: Vec<Vec<u8>>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn;
    Ok(Arc::new(config))
}

/// `sha256:` and the hash of the public key of the first certificate in a PEM file, in hexadecimal (kubeadm's
/// `--discovery-token-ca-cert-hash`).
pub fn public_key_hash(path: &Path) -> Result<String, Error> {
    let certificates = read_certificates(path)?;
    let (_, parsed) = X509Certificate::from_der(&certificates[0]).map_err(|e| Error::Content {
        path: path.to_owned(),
        reason: format!("not an X.509 certificate: {e}"),
    })?;
    let hash = digest(&SHA256, parsed.public_key().raw);
    Ok(hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_known_by_its_key() {
        let path = std::env::temp_dir().join(format!("pki-discovery-{}.crt", std::process::id()));
        let (_, issued) = crate::Authority::generate("test").unwrap();
        crate::write_public(&path, issued.certificate_pem.as_bytes()).unwrap();
        let hash = public_key_hash(&path).unwrap();
        assert_eq!((hash.len(), &hash[..7]), (7 + 64, "sha256:"));
        let (_, other) = crate::Authority::generate("test").unwrap();
        crate::write_public(&path, other.certificate_pem.as_bytes()).unwrap();
        assert_ne!(public_key_hash(&path).unwrap(), hash);
        std::fs::remove_file(&path).unwrap();
    }
}
