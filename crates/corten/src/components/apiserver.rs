//! `corten kube-apiserver`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use apiserver::Options;
use base::{TaskScope, system_clock};
use clap::{ArgAction, Args};
use pki::{Authority, CertificateRequest, Usage};
use tokio::net::TcpListener;

/// Upstream's flags that are supported, and `--data-dir` for the store inside.
#[derive(Args)]
pub struct Flags {
    /// The store's files, when no --etcd-servers are given
    #[arg(long, default_value = "/var/lib/corten-apiserver")]
    data_dir: PathBuf,
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    #[arg(long, default_value = "/var/run/kubernetes")]
    cert_dir: PathBuf,
    #[arg(long)]
    tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    tls_private_key_file: Option<PathBuf>,
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    #[arg(long)]
    token_auth_file: Option<PathBuf>,
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    anonymous_auth: bool,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    enable_bootstrap_token_auth: bool,
    #[arg(long, value_delimiter = ',')]
    api_audiences: Vec<String>,
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    service_account_issuer: Vec<String>,
    #[arg(long)]
    service_account_key_file: Vec<PathBuf>,
    #[arg(long)]
    service_account_signing_key_file: Option<PathBuf>,
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    service_account_lookup: bool,
    #[arg(long)]
    service_account_jwks_uri: Option<String>,
    #[arg(long, default_value = "10.0.0.0/24", value_delimiter = ',')]
    service_cluster_ip_range: Vec<String>,
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    service_node_port_range: (u16, u16),
    #[arg(long, default_value = "AlwaysAllow", value_delimiter = ',')]
    authorization_mode: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allow_privileged: bool,
    #[arg(long)]
    kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long)]
    kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    kubelet_client_key: Option<PathBuf>,
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    kubelet_preferred_address_types: Vec<String>,
    /// An external etcd; not implemented yet
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    #[arg(long, default_value_t = 400)]
    max_requests_inflight: usize,
    #[arg(long, default_value_t = 200)]
    max_mutating_requests_inflight: usize,
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is no range of ports such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    Ok((first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?))
}

/// Serves until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    if !flags.etcd_servers.is_empty() {
        bail!(
            "--etcd-servers: an external etcd is not implemented yet; leave the flag out to use the store inside"
        );
    }
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    crate::settings::check_port(address, "--secure-port")?;
    let store =
        store::Embedded::open(&store::Config::new(&flags.data_dir), system_clock()).context("store")?;
    let options = options(flags)?;
    let server = apiserver::Server::new(options, Arc::new(store), system_clock(), &scope).await?;
    let tls = server.tls()?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    Ok(server.serve(listener, Some(tls)).await?)
}

fn options(flags: Flags) -> anyhow::Result<Options> {
    let (certificate, key) = match (flags.tls_cert_file, flags.tls_private_key_file) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => self_signed(&flags.cert_dir, flags.bind_address)?,
        _ => bail!("--tls-cert-file and --tls-private-key-file go together"),
    };
    Ok(Options {
        advertise_address: flags.advertise_address,
        bind_address: flags.bind_address,
        secure_port: flags.secure_port,
        cert_dir: flags.cert_dir,
        tls_cert_file: Some(certificate),
        tls_private_key_file: Some(key),
        client_ca_file: flags.client_ca_file,
        token_auth_file: flags.token_auth_file,
        anonymous_auth: flags.anonymous_auth,
        enable_bootstrap_token_auth: flags.enable_bootstrap_token_auth,
        api_audiences: flags.api_audiences,
        service_account_issuer: flags.service_account_issuer,
        service_account_key_file: flags.service_account_key_file,
        service_account_signing_key_file: flags.service_account_signing_key_file,
        service_account_lookup: flags.service_account_lookup,
        service_account_jwks_uri: flags.service_account_jwks_uri,
        service_cluster_ip_range: flags.service_cluster_ip_range,
        service_node_port_range: flags.service_node_port_range,
        authorization_mode: flags.authorization_mode,
        enable_admission_plugins: flags.enable_admission_plugins,
        disable_admission_plugins: flags.disable_admission_plugins,
        allow_privileged: flags.allow_privileged,
        kubelet_certificate_authority: flags.kubelet_certificate_authority,
        kubelet_client_certificate: flags.kubelet_client_certificate,
        kubelet_client_key: flags.kubelet_client_key,
        kubelet_preferred_address_types: flags.kubelet_preferred_address_types,
        max_requests_inflight: flags.max_requests_inflight,
        max_mutating_requests_inflight: flags.max_mutating_requests_inflight,
        requestheader_client_ca_file: flags.requestheader_client_ca_file,
        requestheader_allowed_names: flags.requestheader_allowed_names,
        requestheader_username_headers: flags.requestheader_username_headers,
        requestheader_group_headers: flags.requestheader_group_headers,
        requestheader_extra_headers_prefix: flags.requestheader_extra_headers_prefix,
        ..Options::default()
    })
}

/// A serving certificate of its own in `folder`, as upstream makes one when none is given.
fn self_signed(folder: &std::path::Path, address: IpAddr) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let (authority, _) = Authority::generate("apiserver-loopback-ca")?;
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
    addresses.extend((!address.is_unspecified()).then_some(address));
    let request = CertificateRequest {
        common_name: "kube-apiserver".to_owned(),
        organizations: Vec::new(),
        dns_names: ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
            .map(str::to_owned)
            .to_vec(),
        addresses,
        usage: Usage::Server,
        validity: std::time::Duration::from_secs(365 * 24 * 3600),
    };
    authority.issue_to(&request, &certificate, &key)?;
    Ok((certificate, key))
}
