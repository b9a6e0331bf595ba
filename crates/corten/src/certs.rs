//! The keys and certificates of a cluster: made at the first start, renewed long before they expire.
//!
//! File names and subjects are kubeadm's, so that what reads a kubeadm cluster reads this one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use base::TaskScope;
use pki::{Authority, CertificateRequest, KeyPairFiles, Usage};

use crate::kubeconfig;
use crate::layout::Layout;
use crate::settings::Settings;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a certificate lives (kubeadm: a year), and when the next is made.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

/// The files of a cluster's public key infrastructure.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// The files in the `pki` folder of `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { folder: layout.pki() }
    }

    /// The certificate authority of the cluster.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Its key, with which the controllers sign requests.
    pub fn authority_key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// The folder that all of them are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The authority of the members of the replicated store and of their clients.
    pub fn etcd_authority(&self) -> PathBuf {
        self.folder.join("etcd/ca.crt")
    }

    /// The authority of front proxies.
    pub fn front_proxy_authority(&self) -> PathBuf {
        self.folder.join("front-proxy-ca.crt")
    }

    /// The private and the public key of service-account tokens.
    pub fn service_account(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("sa.key"), self.folder.join("sa.pub"))
    }

    /// A certificate by its kubeadm name, e.g. `apiserver`.
    pub fn pair(&self, name: &str) -> KeyPairFiles {
        KeyPairFiles {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    /// Makes what is missing and renews what expires within four months.
    pub fn ensure(&self, settings: &Settings, layout: &Layout) -> anyhow::Result<()> {
        let authority = Authority::load_or_generate(&self.authority(), &self.authority_key(), "kubernetes")
            .context("cluster CA")?;
        let front_key = self.folder.join("front-proxy-ca.key");
        let front = Authority::load_or_generate(&self.front_proxy_authority(), &front_key, "front-proxy-ca")?;
        let (private, public) = self.service_account();
        if !private.exists() {
            pki::write_service_account_keys(&private, &public)?;
        }
        for (name, request) in requests(settings) {
            let issuer = if name == "front-proxy-client" { &front } else { &authority };
            self.ensure_pair(name, &request, issuer)?;
        }
        if settings.role.membership().is_some() {
            self.ensure_member(settings)?;
        }
        kubeconfig::write_all(settings, layout, self)
    }

    /// Those of a member of the replicated store, whose authority signs for nobody else.
    fn ensure_member(&self, settings: &Settings) -> anyhow::Result<()> {
        let folder = self.folder.join("etcd");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let authority =
            Authority::load_or_generate(&self.etcd_authority(), &folder.join("ca.key"), "etcd-ca")
                .context("etcd CA")?;
        for (name, request) in member_requests(settings) {
            self.ensure_pair(name, &request, &authority)?;
        }
        Ok(())
    }

    fn ensure_pair(
        &self,
        name: &str,
        request: &CertificateRequest,
        issuer: &Authority,
    ) -> anyhow::Result<()> {
        let pair = self.pair(name);
        let fresh = pair.key.exists()
            && pki::remaining_validity(&pair.certificate).is_ok_and(|left| left > RENEW_BEFORE)
            && answers_to(&pair.certificate, request);
        if !fresh {
            issuer
                .issue_to(request, &pair.certificate, &pair.key)
                .with_context(|| format!("issue {name}"))?;
        }
        Ok(())
    }

    /// Looks once a day whether something is to be renewed. Servers and clients take the new files by themselves.
    pub fn keep_fresh(self, settings: Settings, layout: Layout, scope: &TaskScope) {
        scope.spawn(async move {
            loop {
                tokio::time::sleep(DAY).await;
                if let Err(error) = self.ensure(&settings, &layout) {
                    tracing::error!(error = format!("{error:#}"), "certificates not renewed");
                }
            }
        });
    }
}

/// A machine's address may have changed since the certificate was made.
fn answers_to(certificate: &Path, request: &CertificateRequest) -> bool {
    pki::covers(certificate, &request.dns_names, &request.addresses).unwrap_or(false)
}

/// Certificates of a member, as kubeadm makes them.
fn member_requests(settings: &Settings) -> [(&'static str, CertificateRequest); 3] {
    let node = &settings.node_name;
    let both = CertificateRequest {
        common_name: node.clone(),
        organizations: Vec::new(),
        dns_names: vec![node.clone(), "localhost".to_owned()],
        addresses: [settings.node_address(), Ipv4Addr::LOCALHOST].map(IpAddr::from).to_vec(),
        usage: Usage::Both,
        validity: VALIDITY,
    };
    let client = CertificateRequest {
        common_name: "kube-etcd-healthcheck-client".to_owned(),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        ..both.clone()
    };
    [("etcd/server", both.clone()), ("etcd/peer", both), ("etcd/healthcheck-client", client)]
}

fn requests(settings: &Settings) -> Vec<(&'static str, CertificateRequest)> {
    let client = |name: &str, groups: &[&str]| CertificateRequest {
        common_name: name.to_owned(),
        organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        validity: VALIDITY,
    };
    let server = |name: &str, organizations: Vec<String>, names: Vec<String>, addresses: Vec<Ipv4Addr>| {
        CertificateRequest {
            common_name: name.to_owned(),
            organizations,
            dns_names: names,
            addresses: addresses.into_iter().map(IpAddr::from).collect(),
            usage: Usage::Server,
            validity: VALIDITY,
        }
    };
    let node = &settings.node_name;
    let node_user = format!("system:node:{node}");
    let domain = &settings.cluster_domain;
    let api_names =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", node.as_str()]
            .into_iter()
            .map(str::to_owned)
            .chain([format!("kubernetes.default.svc.{domain}")])
            .collect();
    let local = Ipv4Addr::LOCALHOST;
    let node_address = settings.node_address();
    let api_addresses = vec![settings.kubernetes_address(), node_address, local, settings.gateway()];
    let kubelet_names = vec![node.clone(), "localhost".to_owned()];
    vec![
        ("apiserver", server("kube-apiserver", Vec::new(), api_names, api_addresses)),
        (
            "kubelet",
            server(&node_user, vec!["system:nodes".to_owned()], kubelet_names, vec![node_address, local]),
        ),
        ("apiserver-kubelet-client", client("kube-apiserver-kubelet-client", &["system:masters"])),
        ("front-proxy-client", client("front-proxy-client", &[])),
        ("admin", client("kubernetes-admin", &["system:masters"])),
        ("kubelet-client", client(&node_user, &["system:nodes"])),
        ("scheduler", client("system:kube-scheduler", &[])),
        ("controller-manager", client("system:kube-controller-manager", &[])),
        ("kube-proxy", client("system:kube-proxy", &["system:node-proxier"])),
    ]
}
