//! Whom the server believes when it asks, and what it presents.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring::default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where distributions keep the system's authorities; the first that is there counts, as in Go.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// HTTP/1.1 alone, as ALPN names it.
pub const HTTP1: &[&str] = &["http/1.1"];
/// HTTP/2, and HTTP/1.1 for those who do not speak it.
pub const HTTP2_OR_1: &[&str] = &["h2", "http/1.1"];

/// Whom to believe, and what to present.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// PEM certificates that alone are believed; empty: those of the system.
    pub authorities: Vec<u8>,
    /// Believe anybody (`insecureSkipTLSVerify`).
    pub anybody: bool,
    /// PEM certificate chain and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// What to present instead, read again when its files change.
    pub identity_files: Option<Arc<pki::Reloading>>,
}

/// The TLS configuration of `trust` that offers the protocols `alpn`. The error is what is wrong with it.
pub fn client_config(trust: &Trust, alpn: &[&str]) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(default_provider());
    let verifier = verifier(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &trust.identity {
        None => match &trust.identity_files {
            Some(files) => builder.with_client_cert_resolver(files.clone()),
            None => builder.with_no_client_auth(),
        },
        Some((chain, key)) => {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).flatten().collect();
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("client key: {e:?}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| format!("client certificate: {e}"))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let system = || SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    let bundle = match trust.authorities.is_empty() {
        true if trust.anybody => Vec::new(),
        true => system(),
        false => trust.authorities.clone(),
    };
    let given: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bundle).flatten().collect();
    if given.is_empty() && !trust.authorities.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(given.iter().cloned());
    let inner = match roots.is_empty() || trust.anybody {
        true => None,
        false => Some(
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|e| format!("unable to load root certificates: {e}"))?,
        ),
    };
    Ok(Arc::new(Verifier { inner, given, anybody: trust.anybody, provider: provider.clone() }))
}

/// Believes what webpki believes, and a server whose own certificate is in the bundle, which Go believes too: many
/// webhooks serve with one self-signed certificate.
#[derive(Debug)]
struct Verifier {
    /// `None` without any authority.
    inner: Option<Arc<WebPkiServerVerifier>>,
    given: Vec<CertificateDer<'static>>,
    anybody: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Whether `leaf` is in the bundle, for this name and for this time.
    fn is_given(&self, leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        let named = || {
            ParsedCertificate::try_from(leaf)
                .and_then(|parsed| rustls::client::verify_server_name(&parsed, name))
                .is_ok()
        };
        self.given.iter().any(|given| given == leaf) && named() && is_valid_at(leaf, now)
    }
}

fn is_valid_at(leaf: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
    let Ok(now) = i64::try_from(now.as_secs()) else { return false };
    let validity = parsed.validity();
    validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.anybody {
            return Ok(ServerCertVerified::assertion());
        }
        let outcome = match &self.inner {
            Some(inner) => inner.verify_server_cert(leaf, intermediates, name, ocsp, now),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        };
        match outcome {
            Err(_) if self.is_given(leaf, name, now) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A server's certificate alone, without its authority, as DER and PEM.
    fn lone_certificate() -> (CertificateDer<'static>, Vec<u8>) {
        let (authority, _) = pki::Authority::generate("test").unwrap();
        let request = pki::CertificateRequest {
            common_name: "hook".to_owned(),
            organizations: Vec::new(),
            dns_names: vec!["hook.ns.svc".to_owned()],
            addresses: Vec::new(),
            usage: pki::Usage::Server,
            validity: HOUR,
        };
        let pem = authority.issue(&request).unwrap().certificate_pem.into_bytes();
        (CertificateDer::from_pem_slice(&pem).unwrap(), pem)
    }

    #[test]
    fn a_certificate_in_the_bundle_is_believed_for_its_names_and_while_it_is_valid() {
        let (leaf, bundle) = lone_certificate();
        let believes = |bundle: &[u8], anybody, name: &'static str, now| {
            let trust = Trust { authorities: bundle.to_vec(), anybody, ..Trust::default() };
            let verifier = verifier(&trust, &Arc::new(default_provider())).unwrap();
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(&leaf, &[], &name, &[], now).is_ok()
        };
        let now = UnixTime::now();
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + 2 * HOUR);
        let earlier = UnixTime::since_unix_epoch(Duration::ZERO);
        assert!(believes(&bundle, false, "hook.ns.svc", now));
        assert!(!believes(&bundle, false, "hook.ns.svc", later), "expired");
        assert!(!believes(&bundle, false, "hook.ns.svc", earlier), "not yet valid");
        assert!(!believes(&bundle, false, "other.ns.svc", now), "another name");
        let (_, others) = lone_certificate();
        assert!(!believes(&others, false, "hook.ns.svc", now), "not in the bundle");
        assert!(believes(&others, true, "other.ns.svc", later), "anybody");
    }

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        let trust = Trust { authorities: b"x".to_vec(), ..Trust::default() };
        let refused = client_config(&trust, HTTP1).unwrap_err();
        assert_eq!(refused, "unable to load root certificates: unable to parse bytes as PEM block");
    }
}
