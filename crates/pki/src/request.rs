//! Certificate signing requests (PKCS#10): reading them and signing what they ask for.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::authority::random_serial;
use crate::{Authority, Error};

/// Clocks of a cluster's machines may differ by this much without a fresh certificate being refused.
const BACKDATE: Duration = Duration::from_secs(300);
/// The object identifier of organizations.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// A request whose signature is right: whoever made it has the key.
pub struct SigningRequest {
    inner: CertificateSigningRequestParams,
    /// Common name of the subject.
    pub common_name: String,
    /// Organizations of the subject.
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// How many alternative names are addresses.
    pub addresses: usize,
    /// How many are anything else: mail addresses, URIs.
    pub other_names: usize,
}

impl SigningRequest {
    /// Reads a request in PEM.
    pub fn parse(pem: &[u8]) -> Result<Self, Error> {
        let refused = |reason: String| Error::Request { reason };
        let (_, block) =
            x509_parser::pem::parse_x509_pem(pem).map_err(|e| refused(format!("not PEM: {e}")))?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|e| refused(format!("not a certificate request: {e}")))?;
        let subject = &parsed.certification_request_info.subject;
        let texts = |mut all: Vec<String>| {
            all.retain(|t| !t.is_empty());
            all
        };
        let common_name =
            subject.iter_common_name().filter_map(|a| a.as_str().ok()).next().unwrap_or_default();
        let organizations =
            texts(subject.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect());
        let (mut dns_names, mut addresses, mut other_names) = (Vec::new(), 0, 0);
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(_) => addresses += 1,
                    _ => other_names += 1,
                }
            }
        }
        let common_name = common_name.to_owned();
        let mut inner = CertificateSigningRequestParams::from_der(&block.contents.as_slice().into())?;
        inner.params.distinguished_name = name_of(&common_name, &organizations)?;
        Ok(Self { inner, common_name, organizations, dns_names, addresses, other_names })
    }
}

/// The subject of the certificate: organizations and common name, as Kubernetes reads them.
fn name_of(common_name: &str, organizations: &[String]) -> Result<DistinguishedName, Error> {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value for each kind of attribute, so that a second organization goes by its number.
    for (at, organization) in organizations.iter().enumerate() {
        let kind = match at {
            0 => DnType::OrganizationName,
            1 => DnType::CustomDnType(ORGANIZATION.to_vec()),
            _ => {
                let reason = "requests with more than two organizations are not supported".to_owned();
                return Err(Error::Request { reason });
            }
        };
        name.push(kind, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}

impl Authority {
    /// Signs what `request` asks for, for these usages (names as in `certificates.k8s.io/v1`), valid from now on.
    /// Gives the certificate in PEM. Never makes an authority of the subject.
    pub fn sign(
        &self,
        request: SigningRequest,
        usages: &[String],
        validity: Duration,
    ) -> Result<String, Error> {
        let mut inner = request.inner;
        let params = &mut inner.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match usage_of(usage)? {
                Purpose::Key(purpose) if !params.key_usages.contains(&purpose) => {
                    params.key_usages.push(purpose)
                }
                Purpose::Extended(purpose) if !params.extended_key_usages.contains(&purpose) => {
                    params.extended_key_usages.push(purpose);
                }
                _ => {}
            }
        }
        let now = SystemTime::now();
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + validity).into();
        params.serial_number = Some(random_serial().to_vec().into());
        params.use_authority_key_identifier_extension = true;
        Ok(inner.signed_by(self.issuer())?.pem())
    }
}

enum Purpose {
    Key(KeyUsagePurpose),
    Extended(ExtendedKeyUsagePurpose),
}

fn usage_of(name: &str) -> Result<Purpose, Error> {
    use ExtendedKeyUsagePurpose as X;
    use KeyUsagePurpose as K;
    Ok(match name {
        "signing" | "digital signature" => Purpose::Key(K::DigitalSignature),
        "content commitment" => Purpose::Key(K::ContentCommitment),
        "key encipherment" => Purpose::Key(K::KeyEncipherment),
        "key agreement" => Purpose::Key(K::KeyAgreement),
        "data encipherment" => Purpose::Key(K::DataEncipherment),
        "cert sign" => Purpose::Key(K::KeyCertSign),
        "crl sign" => Purpose::Key(K::CrlSign),
        "encipher only" => Purpose::Key(K::EncipherOnly),
        "decipher only" => Purpose::Key(K::DecipherOnly),
        "any" => Purpose::Extended(X::Any),
        "server auth" => Purpose::Extended(X::ServerAuth),
        "client auth" => Purpose::Extended(X::ClientAuth),
        "code signing" => Purpose::Extended(X::CodeSigning),
        "email protection" | "s/mime" => Purpose::Extended(X::EmailProtection),
        "timestamping" => Purpose::Extended(X::TimeStamping),
        "ocsp signing" => Purpose::Extended(X::OcspSigning),
        other => return Err(Error::Request { reason: format!("unrecognized usage values: {other:?}") }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    #[test]
    fn a_request_is_read_and_signed() {
        let (authority, _) = Authority::generate("test").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name =
            name_of("system:node:n1", &["system:nodes".to_owned(), "other".to_owned()]).unwrap();
        params.subject_alt_names = vec![SanType::DnsName("n1".try_into().unwrap())];
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = SigningRequest::parse(pem.as_bytes()).unwrap();
        assert_eq!(request.common_name, "system:node:n1");
        assert_eq!(request.organizations, ["system:nodes", "other"]);
        assert_eq!((request.dns_names.as_slice(), request.addresses), (&["n1".to_owned()][..], 0));
        let usages = ["digital signature".to_owned(), "client auth".to_owned()];
        let signed = authority.sign(request, &usages, Duration::from_secs(3600)).unwrap();
        let der = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap().1.contents;
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        assert!(!certificate.is_ca());
        assert!(certificate.extended_key_usage().unwrap().unwrap().value.client_auth);
        let (name, groups) = crate::peer_identity(&der.into()).unwrap();
        assert_eq!((name.as_str(), groups.len()), ("system:node:n1", 2));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(SigningRequest::parse(b"nonsense").is_err());
        assert!(matches!(usage_of("flying"), Err(Error::Request { .. })));
    }
}
