//! The serving certificate that is made when none is configured (`--cert-dir`).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pki::{Authority, CertificateRequest, KeyPairFiles, Usage};

use crate::{Error, Options};

/// How long a self-made certificate is good for.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// The serving key pair: as configured, else one in the certificate directory, made if it is not there.
pub(crate) fn key_pair(
    options: &Options,
    advertise: IpAddr,
    service_ip: Option<IpAddr>,
) -> Result<KeyPairFiles, Error> {
    if let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_private_key_file) {
        return Ok(KeyPairFiles { certificate: certificate.clone(), key: key.clone() });
    }
    let files = KeyPairFiles {
        certificate: options.cert_dir.join("apiserver.crt"),
        key: options.cert_dir.join("apiserver.key"),
    };
    // Somebody may have put a pair there that is good for a day only; it is theirs as long as it is good at all.
    let good = files.certificate.exists() && !pki::remaining_validity(&files.certificate)?.is_zero();
    if good && files.key.exists() {
        return Ok(files);
    }
    std::fs::create_dir_all(&options.cert_dir)
        .map_err(|source| Error::File { path: options.cert_dir.clone(), source })?;
    let mut addresses = vec![advertise, IpAddr::V4(Ipv4Addr::LOCALHOST)];
    addresses.extend(service_ip);
    let mut dns_names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .into();
    dns_names.extend(options.external_hostname.clone());
    let (authority, _) = Authority::generate("kube-apiserver-ca")?;
    let request = CertificateRequest {
        common_name: "kube-apiserver".to_owned(),
        organizations: Vec::new(),
        dns_names,
        addresses,
        usage: Usage::Server,
        validity: VALIDITY,
    };
    let issued = authority.issue(&request)?;
    pki::write_private(&files.key, issued.key_pem.as_bytes())?;
    let chain = format!("{}{}", issued.certificate_pem, authority.certificate_pem());
    pki::write_public(&files.certificate, chain.as_bytes())?;
    Ok(files)
}
