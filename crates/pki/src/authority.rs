//! A certificate authority and what it issues.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, read_certificates, write_private, write_public};

/// Clocks of a cluster's machines may differ by this much without a fresh certificate being refused.
const BACKDATE: Duration = Duration::from_secs(300);
/// How long an authority lives (kubeadm: ten years).
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Signs certificates with a P-256 key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Which side of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `serverAuth`.
    Server,
    /// `clientAuth`.
    Client,
    /// Both, as etcd peers have.
    Both,
}

/// What to certify.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    /// Common name: the user, for a client.
    pub common_name: String,
    /// Organizations: the groups, for a client.
    pub organizations: Vec<String>,
    /// DNS names a server answers to.
    pub dns_names: Vec<String>,
    /// Addresses a server answers at.
    pub addresses: Vec<IpAddr>,
    /// Side of the connection.
    pub usage: Usage,
    /// From now on.
    pub validity: Duration,
}

/// A certificate with its key, both PEM.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl Authority {
    /// Makes a self-signed authority named `common_name`, valid for ten years.
    pub fn generate(common_name: &str) -> Result<(Self, Issued), Error> {
        let key = KeyPair::generate()?;
        let mut params = params(common_name, &[], AUTHORITY_VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let issued = Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
        let authority = Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) };
        Ok((authority, issued))
    }

    /// Reads an authority from its two PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
        };
        let certificate_pem = read(certificate)?;
        let key = KeyPair::from_pem(&read(key)?)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Reads the authority of the two files, or makes and writes it when both are absent.
    pub fn load_or_generate(certificate: &Path, key: &Path, common_name: &str) -> Result<Self, Error> {
        if certificate.exists() || key.exists() {
            return Self::load(certificate, key);
        }
        let (authority, issued) = Self::generate(common_name)?;
        write_private(key, issued.key_pem.as_bytes())?;
        write_public(certificate, issued.certificate_pem.as_bytes())?;
        Ok(authority)
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The authority's own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a key and signs a certificate for it.
    pub fn issue(&self, request: &CertificateRequest) -> Result<Issued, Error> {
        let key = KeyPair::generate()?;
        let organizations: Vec<&str> = request.organizations.iter().map(String::as_str).collect();
        let mut params = params(&request.common_name, &organizations, request.validity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match request.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        for name in &request.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(request.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Issues into two files, the key first, so that a reader never sees a certificate without its key for long.
    pub fn issue_to(
        &self,
        request: &CertificateRequest,
        certificate: &Path,
        key: &Path,
    ) -> Result<(), Error> {
        let issued = self.issue(request)?;
        write_private(key, issued.key_pem.as_bytes())?;
        write_public(certificate, issued.certificate_pem.as_bytes())
    }
}

fn params(common_name: &str, organizations: &[&str], validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
    params.serial_number = Some(SerialNumber::from(random_serial().to_vec()));
    params
}

/// A positive 127-bit serial number from the system's generator.
pub(crate) fn random_serial() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness no key could have been made either; rcgen then reports the failure.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    bytes[0] &= 0x7f;
    bytes[0] |= 0x40;
    bytes
}

/// How long the first certificate of a PEM file is still valid; zero when it has expired.
pub fn remaining_validity(path: &Path) -> Result<Duration, Error> {
    let certificates = read_certificates(path)?;
    let (_, parsed) = X509Certificate::from_der(&certificates[0]).map_err(|e| Error::Content {
        path: path.to_owned(),
        reason: format!("not an X.509 certificate: {e}"),
    })?;
    let until = parsed.validity().not_after.timestamp();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    Ok(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

/// True if the first certificate of a PEM file names all of these.
pub fn covers(path: &Path, dns_names: &[String], addresses: &[IpAddr]) -> Result<bool, Error> {
    use x509_parser::extensions::GeneralName;
    let certificates = read_certificates(path)?;
    let wrong = |reason: String| Error::Content { path: path.to_owned(), reason };
    let (_, parsed) = X509Certificate::from_der(&certificates[0]).map_err(|e| wrong(e.to_string()))?;
    let extension = parsed.subject_alternative_name().map_err(|e| wrong(e.to_string()))?;
    let names = extension.map(|e| e.value.general_names.as_slice()).unwrap_or_default();
    let has_name = |name: &String| names.iter().any(|n| matches!(n, GeneralName::DNSName(d) if *d == name));
    let has_address = |address: &IpAddr| {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        names.iter().any(|n| matches!(n, GeneralName::IPAddress(bytes) if *bytes == octets))
    };
    Ok(dns_names.iter().all(has_name) && addresses.iter().all(has_address))
}

/// Makes the key pair of service-account tokens (P-256): the private key in PKCS#8, the public one as PKIX.
pub fn write_service_account_keys(private: &Path, public: &Path) -> Result<(), Error> {
    let key = KeyPair::generate()?;
    write_public(public, key.public_key_pem().as_bytes())?;
    write_private(private, key.serialize_pem().as_bytes())
}
