//! The flags of `corten kube-apiserver`: upstream's names and defaults, and `--data-dir` for the store inside.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use apiserver::options::SniCertificate;
use clap::{ArgAction, Args};

use crate::components::go_flags::duration;

/// All flags.
#[derive(Args)]
pub struct Flags {
    /// The store's files, when no --etcd-servers are given
    #[arg(long, default_value = "/var/lib/corten-apiserver")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub serving: Serving,
    #[command(flatten)]
    pub authentication: Authentication,
    #[command(flatten)]
    pub accounts: Accounts,
    #[command(flatten)]
    pub authorization: Authorization,
    #[command(flatten)]
    pub audit: Audit,
    #[command(flatten)]
    pub cluster: Cluster,
    /// Names of upstream's flags that were given and do nothing here
    #[arg(long, hide = true)]
    pub ignored_upstream_flag: Vec<String>,
}

/// Addresses, certificates and limits.
#[derive(Args)]
pub struct Serving {
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    #[arg(long, default_value = "/var/run/kubernetes")]
    pub cert_dir: PathBuf,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    #[arg(long, default_value = "")]
    pub tls_min_version: String,
    #[arg(long, value_parser = sni)]
    pub tls_sni_cert_key: Vec<SniCertificate>,
    #[arg(long)]
    pub external_hostname: Option<String>,
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub request_timeout: Duration,
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: u64,
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub shutdown_delay_duration: Duration,
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub livez_grace_period: Duration,
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub profiling: bool,
}

/// Who asks.
#[derive(Args)]
pub struct Authentication {
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: bool,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_bootstrap_token_auth: bool,
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
    #[arg(long, default_value = "v1beta1")]
    pub authentication_token_webhook_version: String,
    #[arg(long)]
    pub oidc_issuer_url: Option<String>,
    #[arg(long, default_value = "")]
    pub oidc_client_id: String,
    #[arg(long)]
    pub oidc_ca_file: Option<PathBuf>,
    #[arg(long, default_value = "sub")]
    pub oidc_username_claim: String,
    #[arg(long)]
    pub oidc_username_prefix: Option<String>,
    #[arg(long, default_value = "")]
    pub oidc_groups_claim: String,
    #[arg(long, default_value = "")]
    pub oidc_groups_prefix: String,
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    pub oidc_required_claim: Vec<(String, String)>,
    #[arg(long, value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

/// Service accounts and their tokens.
#[derive(Args)]
pub struct Accounts {
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    pub service_account_issuer: Vec<String>,
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub service_account_lookup: bool,
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub service_account_max_token_expiration: Duration,
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub service_account_extend_token_expiration: bool,
}

/// What they may do, and what is admitted.
#[derive(Args)]
pub struct Authorization {
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    #[arg(long)]
    pub authorization_policy_file: Option<PathBuf>,
    #[arg(long)]
    pub authorization_config: Option<PathBuf>,
    #[arg(long)]
    pub authorization_webhook_config_file: Option<PathBuf>,
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    #[arg(long, default_value = "v1beta1")]
    pub authorization_webhook_version: String,
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allow_privileged: bool,
}

/// What is written down.
#[derive(Args)]
pub struct Audit {
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxage: u64,
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxsize: u64,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_compress: bool,
    #[arg(long, default_value = "json", value_parser = ["json", "legacy"])]
    pub audit_log_format: String,
    #[arg(long, default_value = "blocking", value_parser = ["batch", "blocking", "blocking-strict"])]
    pub audit_log_mode: String,
    #[arg(long, default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub audit_log_version: String,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_truncate_enabled: bool,
    #[arg(long, default_value_t = 102_400)]
    pub audit_log_truncate_max_event_size: usize,
    #[arg(long)]
    pub audit_webhook_config_file: Option<PathBuf>,
    #[arg(long, default_value = "batch", value_parser = ["batch", "blocking", "blocking-strict"])]
    pub audit_webhook_mode: String,
    #[arg(long, default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub audit_webhook_version: String,
    #[arg(long, default_value_t = 10_000)]
    pub audit_webhook_batch_buffer_size: usize,
    #[arg(long, default_value_t = 400)]
    pub audit_webhook_batch_max_size: usize,
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub audit_webhook_batch_max_wait: Duration,
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub audit_webhook_initial_backoff: Duration,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_truncate_enabled: bool,
    #[arg(long, default_value_t = 102_400)]
    pub audit_webhook_truncate_max_event_size: usize,
}

/// The store, the kubelets, other servers, and what is served.
#[derive(Args)]
pub struct Cluster {
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// Authorities of the etcd servers' certificates
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Certificate to present to the etcd servers
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub encryption_provider_config_automatic_reload: bool,
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub event_ttl: Duration,
    #[arg(long, value_delimiter = ',', value_parser = switch)]
    pub runtime_config: Vec<(String, bool)>,
    #[arg(long, value_delimiter = ',', value_parser = switch)]
    pub feature_gates: Vec<(String, bool)>,
    #[arg(long, default_value = "10.0.0.0/24", value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<String>,
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: (u16, u16),
    #[arg(long, default_value = "lease", value_parser = ["lease", "master-count", "none"])]
    pub endpoint_reconciler_type: String,
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub kubelet_preferred_address_types: Vec<String>,
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_aggregator_routing: bool,
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is no range of ports such as 30000-32767");
    let (first, last) = match text.split_once('+') {
        Some((first, more)) => {
            let first: u16 = first.parse().map_err(|_| wrong())?;
            let more: u16 = more.parse().map_err(|_| wrong())?;
            return Ok((first, first.saturating_add(more)));
        }
        None => text.split_once('-').ok_or_else(wrong)?,
    };
    Ok((first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `NAME=true`, `NAME=false`; `NAME` alone is true, as upstream's `--runtime-config` takes it.
fn switch(text: &str) -> Result<(String, bool), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
    match value.trim() {
        "true" | "1" | "" => Ok((name.trim().to_owned(), true)),
        "false" | "0" => Ok((name.trim().to_owned(), false)),
        other => Err(format!("{name}: {other:?} is neither true nor false")),
    }
}

/// `CERTIFICATE,KEY` or `CERTIFICATE,KEY:NAME,NAME`.
fn sni(text: &str) -> Result<SniCertificate, String> {
    let (files, names) = text.split_once(':').unwrap_or((text, ""));
    let (certificate, key) = files
        .split_once(',')
        .ok_or_else(|| "expected a certificate file, a comma and a key file".to_owned())?;
    Ok(SniCertificate {
        certificate: certificate.trim().into(),
        key: key.trim().into(),
        names: names.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_upstreams_forms_are_read() {
        assert_eq!(port_range("30000-32767"), Ok((30000, 32767)));
        assert_eq!(port_range("30000+10"), Ok((30000, 30010)));
        assert_eq!(switch("api/all"), Ok(("api/all".to_owned(), true)));
        assert_eq!(switch("batch/v1=false"), Ok(("batch/v1".to_owned(), false)));
        let found = sni("a.crt,a.key:*.example.com,x").unwrap();
        assert_eq!(found.names, ["*.example.com", "x"]);
    }
}
