//! Certificates for a kubelet and those who ask it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kubelet::Config;
use pki::{Authority, CertificateRequest, KeyPairFiles, Usage};

pub struct Tls {
    folder: tempfile::TempDir,
    authority: Authority,
    pub address: SocketAddr,
}

impl Tls {
    /// An authority of its own, and a free address.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::generate("test-ca").unwrap().0;
        pki::write_public(&folder.path().join("ca.crt"), authority.certificate_pem().as_bytes()).unwrap();
        Self { folder, authority, address: (Ipv4Addr::LOCALHOST, testnet::reserve_port()).into() }
    }

    pub fn authority_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn issue(&self, name: &str, usage: Usage) -> KeyPairFiles {
        let request = CertificateRequest {
            common_name: name.to_owned(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            usage,
            validity: Duration::from_secs(3600),
        };
        let issued = self.authority.issue(&request).unwrap();
        let file = |suffix: &str| self.folder.path().join(format!("{name}.{suffix}"));
        let files = KeyPairFiles { certificate: file("crt"), key: file("key") };
        pki::write_public(&files.certificate, issued.certificate_pem.as_bytes()).unwrap();
        pki::write_private(&files.key, issued.key_pem.as_bytes()).unwrap();
        files
    }

    /// Has the kubelet serve at our address.
    pub fn configure(&self, config: &mut Config) {
        config.listen = self.address;
        config.serving = Some(self.issue("node", Usage::Server));
        config.client_ca_files = vec![self.authority_file()];
    }

    pub fn client(&self, identity: Option<KeyPairFiles>) -> kube::Client {
        let config = client::RemoteConfig {
            server: format!("https://{}", self.address),
            authorities: vec![self.authority_file()],
            identity,
            ..Default::default()
        };
        client::remote(config).unwrap()
    }
}
