//! The server's TLS configuration.

use std::sync::Arc;

use pki::{KeyPairFiles, Reloading};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring::default_provider};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::options::SniCertificate;
use crate::{Error, Options};

/// TLS 1.2 suites by Go's names. Those of TLS 1.3 cannot be chosen, as in Go.
const SUITES: [(&str, CipherSuite); 8] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The configuration of the options, with `identity` as the certificate for names that no other one is for.
pub fn server_config(
    options: &Options,
    identity: KeyPairFiles,
    ask_clients: bool,
) -> Result<Arc<ServerConfig>, Error> {
    let mut provider = default_provider();
    choose_suites(&mut provider, &options.tls_cipher_suites)?;
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions(&options.tls_min_version)?)
        .map_err(pki::Error::from)?;
    let builder = match ask_clients {
        true => builder.with_client_cert_verifier(Arc::new(AskOnly(algorithms))),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(options, identity)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// From the newest.
static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];

fn versions(least: &str) -> Result<&'static [&'static SupportedProtocolVersion], Error> {
    match least {
        // 1.0 and 1.1 are spoken by nobody here; asking for at least those is granted by more.
        "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(&BOTH),
        "VersionTLS13" => Ok(&NEWEST),
        other => {
            let reason =
                format!("unknown tls version {other:?}, possible values: VersionTLS12, VersionTLS13");
            Err(Error::Flag { flag: "tls-min-version", reason })
        }
    }
}

fn choose_suites(provider: &mut CryptoProvider, names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for name in names {
        match SUITES.iter().find(|(known, _)| known == name) {
            Some((_, suite)) => wanted.push(*suite),
            None if name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_") => {}
            None => {
                let reason = format!("Cipher suite {name} not supported or doesn't exist");
                return Err(Error::Flag { flag: "tls-cipher-suites", reason });
            }
        }
    }
    provider.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()));
    Ok(())
}

/// Certificates by the name that the client asks for.
#[derive(Debug)]
struct ByName {
    named: Vec<(Vec<String>, Reloading)>,
    other: Reloading,
}

impl ByName {
    fn new(options: &Options, identity: KeyPairFiles) -> Result<Self, Error> {
        let read = |sni: &SniCertificate| -> Result<_, Error> {
            let files = KeyPairFiles { certificate: sni.certificate.clone(), key: sni.key.clone() };
            let names = match sni.names.is_empty() {
                true => names_in(&sni.certificate)?,
                false => sni.names.clone(),
            };
            Ok((names, Reloading::new(files)?))
        };
        let named = options.tls_sni_cert_key.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { named, other: Reloading::new(identity)? })
    }
}

/// DNS names in a certificate; its common name when there are none.
fn names_in(path: &std::path::Path) -> Result<Vec<String>, Error> {
    let certificates = pki::read_certificates(path)?;
    let wrong = || pki::Error::Content { path: path.to_owned(), reason: "not an X.509 certificate".into() };
    let leaf = certificates.first().ok_or_else(wrong)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| wrong())?;
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push((*name).to_owned());
            }
        }
    }
    if names.is_empty() {
        names.extend(parsed.subject().iter_common_name().filter_map(|n| n.as_str().ok()).map(str::to_owned));
    }
    Ok(names)
}

/// Whether a certificate's name stands for `host`: the same, or a star for the first label.
fn stands_for(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or_default();
        let exact = |names: &[String]| names.iter().any(|n| !n.starts_with('*') && stands_for(n, host));
        let wild = |names: &[String]| names.iter().any(|n| stands_for(n, host));
        let found = self.named.iter().find(|(names, _)| exact(names));
        let found = found.or_else(|| self.named.iter().find(|(names, _)| wild(names)));
        Some(found.map_or(&self.other, |(_, pair)| pair).key())
    }
}

/// Asks clients for a certificate, and checks only that they have its key; who signed it is judged later.
#[derive(Debug)]
struct AskOnly(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags() {
        assert!(stands_for("a.example", "A.example") && stands_for("*.example", "a.example"));
        assert!(!stands_for("*.example", "example") && !stands_for("*.example", "a.b.example"));
        let mut provider = default_provider();
        choose_suites(&mut provider, &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()]).unwrap();
        assert_eq!(provider.cipher_suites.iter().filter(|s| s.tls13().is_none()).count(), 1);
        let error = choose_suites(&mut provider, &["TLS_RSA_NOPE".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("TLS_RSA_NOPE"), "{error}");
        assert!(versions("VersionTLS9").is_err());
    }
}
