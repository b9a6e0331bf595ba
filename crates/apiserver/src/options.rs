//! The server's settings, under upstream's flag names.

mod security;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

pub use security::{
    AuditLogFormat, AuditMode, AuditOptions, AuthorizationWebhookOptions, OidcOptions, SniCertificate,
    TokenWebhookOptions,
};

/// What `corten kube-apiserver` takes; every field is one flag of upstream's kube-apiserver.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--advertise-address`: the address clients reach this server at; unset: the bind address, or that of the
    /// default route's interface.
    pub advertise_address: Option<IpAddr>,
    /// `--bind-address`.
    pub bind_address: IpAddr,
    /// `--secure-port`.
    pub secure_port: u16,
    /// `--cert-dir`: where a self-signed serving certificate is made when none is given.
    pub cert_dir: PathBuf,
    /// `--tls-cert-file`.
    pub tls_cert_file: Option<PathBuf>,
    /// `--tls-private-key-file`.
    pub tls_private_key_file: Option<PathBuf>,
    /// `--client-ca-file`: authorities of client certificates.
    pub client_ca_file: Option<PathBuf>,
    /// `--token-auth-file`.
    pub token_auth_file: Option<PathBuf>,
    /// `--anonymous-auth`.
    pub anonymous_auth: bool,
    /// `--enable-bootstrap-token-auth`.
    pub enable_bootstrap_token_auth: bool,
    /// `--api-audiences`; empty: the issuer.
    pub api_audiences: Vec<String>,
    /// `--service-account-issuer`; the first one issues.
    pub service_account_issuer: Vec<String>,
    /// `--service-account-key-file`: keys that verify tokens.
    pub service_account_key_file: Vec<PathBuf>,
    /// `--service-account-signing-key-file`.
    pub service_account_signing_key_file: Option<PathBuf>,
    /// `--service-account-max-token-expiration`, in seconds; zero for no limit.
    pub service_account_max_token_expiration_s: u64,
    /// `--service-account-extend-token-expiration`.
    pub service_account_extend_token_expiration: bool,
    /// `--service-account-lookup`.
    pub service_account_lookup: bool,
    /// `--service-account-jwks-uri`.
    pub service_account_jwks_uri: Option<String>,
    /// `--service-cluster-ip-range`: one range, or two of different families.
    pub service_cluster_ip_range: Vec<String>,
    /// `--service-node-port-range`: first and last.
    pub service_node_port_range: (u16, u16),
    /// `--authorization-mode`, in order.
    pub authorization_mode: Vec<String>,
    /// `--authorization-policy-file`, for the mode ABAC.
    pub authorization_policy_file: Option<PathBuf>,
    /// `--enable-admission-plugins`.
    pub enable_admission_plugins: Vec<String>,
    /// `--disable-admission-plugins`.
    pub disable_admission_plugins: Vec<String>,
    /// `--admission-control-config-file`: what plugins are told.
    pub admission_control_config_file: Option<PathBuf>,
    /// `--allow-privileged`.
    pub allow_privileged: bool,
    /// `--kubelet-certificate-authority`.
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// `--kubelet-client-certificate`.
    pub kubelet_client_certificate: Option<PathBuf>,
    /// `--kubelet-client-key`.
    pub kubelet_client_key: Option<PathBuf>,
    /// `--kubelet-preferred-address-types`, in order.
    pub kubelet_preferred_address_types: Vec<String>,
    /// `--etcd-servers`; empty: the embedded store.
    pub etcd_servers: Vec<String>,
    /// `--etcd-prefix`.
    pub etcd_prefix: String,
    /// `--requestheader-client-ca-file`.
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// `--requestheader-allowed-names`.
    pub requestheader_allowed_names: Vec<String>,
    /// `--requestheader-username-headers`.
    pub requestheader_username_headers: Vec<String>,
    /// `--requestheader-group-headers`.
    pub requestheader_group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`.
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// `--requestheader-uid-headers`.
    pub requestheader_uid_headers: Vec<String>,
    /// `--proxy-client-cert-file`.
    pub proxy_client_cert_file: Option<PathBuf>,
    /// `--proxy-client-key-file`.
    pub proxy_client_key_file: Option<PathBuf>,
    /// `--enable-aggregator-routing`: aggregated servers are reached by their endpoints, not by the service address.
    pub enable_aggregator_routing: bool,
    /// `--oidc-*`; `None` without an issuer.
    pub oidc: Option<OidcOptions>,
    /// `--authentication-config`.
    pub authentication_config: Option<PathBuf>,
    /// `--authorization-config`; replaces `authorization_mode`.
    pub authorization_config: Option<PathBuf>,
    /// `--authentication-token-webhook-*`; `None` without a configuration file.
    pub token_webhook: Option<TokenWebhookOptions>,
    /// `--authorization-webhook-*`; `None` without a configuration file.
    pub authorization_webhook: Option<AuthorizationWebhookOptions>,
    /// `--audit-*`.
    pub audit: AuditOptions,
    /// `--encryption-provider-config`.
    pub encryption_provider_config: Option<PathBuf>,
    /// `--encryption-provider-config-automatic-reload`.
    pub encryption_provider_config_automatic_reload: bool,
    /// `--tls-min-version`: `VersionTLS12` or `VersionTLS13`; empty: the former.
    pub tls_min_version: String,
    /// `--tls-cipher-suites`, by Go's names; empty: all that are supported.
    pub tls_cipher_suites: Vec<String>,
    /// `--tls-sni-cert-key`: further serving certificates.
    pub tls_sni_cert_key: Vec<SniCertificate>,
    /// `--runtime-config`: `GROUP/VERSION` or `api/all`, `api/ga`, `api/beta`, `api/alpha`, and whether it is served.
    pub runtime_config: Vec<(String, bool)>,
    /// Flags as given on the command line, for `/flagz`.
    pub flags: Vec<(String, String)>,
    /// `--max-requests-inflight`: reads at once.
    pub max_requests_inflight: usize,
    /// `--max-mutating-requests-inflight`: writes at once.
    pub max_mutating_requests_inflight: usize,
    /// `--request-timeout`, in seconds.
    pub request_timeout_s: u64,
    /// `--min-request-timeout`: least duration of a watch, in seconds; the server chooses up to twice as much.
    pub min_request_timeout_s: u64,
    /// `--shutdown-delay-duration`, in seconds.
    pub shutdown_delay_s: u64,
    /// `--event-ttl`, in seconds.
    pub event_ttl_s: i64,
    /// `--external-hostname`.
    pub external_hostname: Option<String>,
    /// `--endpoint-reconciler-type` is not `none`: keep the endpoints of the `kubernetes` service.
    pub reconcile_endpoints: bool,
    /// `--endpoint-reconciler-type` is `lease`: the endpoints are all servers that keep a lease in the store; otherwise
    /// this server alone.
    pub endpoint_leases: bool,
    /// `--profiling`.
    pub profiling: bool,
}

impl Default for Options {
    fn default() -> Self {
        let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Self {
            advertise_address: None,
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            secure_port: 6443,
            cert_dir: "/var/run/kubernetes".into(),
            tls_cert_file: None,
            tls_private_key_file: None,
            client_ca_file: None,
            token_auth_file: None,
            anonymous_auth: true,
            enable_bootstrap_token_auth: false,
            api_audiences: Vec::new(),
            service_account_issuer: strings(&["https://kubernetes.default.svc.cluster.local"]),
            service_account_key_file: Vec::new(),
            service_account_signing_key_file: None,
            service_account_max_token_expiration_s: 0,
            service_account_extend_token_expiration: true,
            service_account_lookup: true,
            service_account_jwks_uri: None,
            service_cluster_ip_range: strings(&["10.96.0.0/16"]),
            service_node_port_range: (30000, 32767),
            authorization_policy_file: None,
            authorization_mode: strings(&["Node", "RBAC"]),
            enable_admission_plugins: strings(&["NodeRestriction"]),
            disable_admission_plugins: Vec::new(),
            admission_control_config_file: None,
            allow_privileged: true,
            kubelet_certificate_authority: None,
            kubelet_client_certificate: None,
            kubelet_client_key: None,
            kubelet_preferred_address_types: strings(&[
                "Hostname",
                "InternalDNS",
                "InternalIP",
                "ExternalDNS",
                "ExternalIP",
            ]),
            etcd_servers: Vec::new(),
            etcd_prefix: "/registry".to_owned(),
            requestheader_client_ca_file: None,
            requestheader_allowed_names: Vec::new(),
            requestheader_username_headers: Vec::new(),
            requestheader_group_headers: Vec::new(),
            requestheader_extra_headers_prefix: Vec::new(),
            requestheader_uid_headers: Vec::new(),
            proxy_client_cert_file: None,
            proxy_client_key_file: None,
            enable_aggregator_routing: false,
            oidc: None,
            authentication_config: None,
            authorization_config: None,
            token_webhook: None,
            authorization_webhook: None,
            audit: AuditOptions::default(),
            encryption_provider_config: None,
            encryption_provider_config_automatic_reload: false,
            tls_min_version: String::new(),
            tls_cipher_suites: Vec::new(),
            tls_sni_cert_key: Vec::new(),
            runtime_config: Vec::new(),
            flags: Vec::new(),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            request_timeout_s: 60,
            min_request_timeout_s: 1800,
            shutdown_delay_s: 0,
            event_ttl_s: 3600,
            external_hostname: None,
            reconcile_endpoints: true,
            endpoint_leases: false,
            profiling: true,
        }
    }
}
