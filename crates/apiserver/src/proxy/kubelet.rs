//! How kubelets are spoken to: with the server's own client certificate.

use std::sync::Arc;

use pki::KeyPairFiles;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::{Error, Options};

/// TLS configurations of connections that the server makes.
pub struct KubeletClient {
    /// To kubelets.
    pub kubelet: Arc<ClientConfig>,
    /// To pods and services behind a proxy, whose certificates nobody can know.
    pub anyone: Arc<ClientConfig>,
}

impl KubeletClient {
    /// From the `--kubelet-*` flags. Without an authority the kubelet's certificate is not verified, as upstream.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let identity = match (&options.kubelet_client_certificate, &options.kubelet_client_key) {
            (Some(certificate), Some(key)) => {
                Some(KeyPairFiles { certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        };
        let anyone = Arc::new(unverified()?);
        let kubelet = match &options.kubelet_certificate_authority {
            Some(authority) => pki::client_config(std::slice::from_ref(authority), identity, Vec::new())?,
            None => match identity {
                Some(files) => Arc::new(unverified_as(&files)?),
                None => anyone.clone(),
            },
        };
        Ok(Self { kubelet, anyone })
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder() -> Result<Builder, Error> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Unverified(provider.signature_verification_algorithms));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pki::Error::from)?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn unverified() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_no_client_auth())
}

fn unverified_as(files: &KeyPairFiles) -> Result<ClientConfig, Error> {
    let (chain, key) = (pki::read_certificates(&files.certificate)?, pki::read_key(&files.key)?);
    Ok(builder()?.with_client_auth_cert(chain, key).map_err(pki::Error::from)?)
}

/// Takes any certificate whose key signs the handshake.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
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
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
