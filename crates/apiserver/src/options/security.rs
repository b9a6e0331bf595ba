//! Settings of authentication, authorization, audit and TLS, under upstream's flag names.

use std::path::PathBuf;
use std::time::Duration;

/// `--oidc-*`: one issuer of OpenID Connect tokens.
#[derive(Debug, Clone)]
pub struct OidcOptions {
    /// `--oidc-issuer-url`.
    pub issuer_url: String,
    /// `--oidc-client-id`: the audience that tokens must have.
    pub client_id: String,
    /// `--oidc-ca-file`: authority of the issuer; unset: those of the system.
    pub ca_file: Option<PathBuf>,
    /// `--oidc-username-claim`.
    pub username_claim: String,
    /// `--oidc-username-prefix`; unset: the issuer and `#`, but for the claim `email`; `-` for none.
    pub username_prefix: Option<String>,
    /// `--oidc-groups-claim`; empty for no groups.
    pub groups_claim: String,
    /// `--oidc-groups-prefix`.
    pub groups_prefix: String,
    /// `--oidc-required-claim`: claims with the value that they must have.
    pub required_claims: Vec<(String, String)>,
    /// `--oidc-signing-algs`.
    pub signing_algs: Vec<String>,
}

/// `--authentication-token-webhook-*`.
#[derive(Debug, Clone)]
pub struct TokenWebhookOptions {
    /// A kubeconfig file that says where to ask.
    pub config_file: PathBuf,
    /// How long an answer is believed.
    pub cache_ttl: Duration,
    /// `v1` or `v1beta1`.
    pub version: String,
}

/// `--authorization-webhook-*`.
#[derive(Debug, Clone)]
pub struct AuthorizationWebhookOptions {
    /// A kubeconfig file that says where to ask.
    pub config_file: PathBuf,
    /// How long a yes is believed.
    pub authorized_ttl: Duration,
    /// How long a no is believed.
    pub unauthorized_ttl: Duration,
    /// `v1` or `v1beta1`.
    pub version: String,
}

/// `--tls-sni-cert-key`: a serving certificate for some names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniCertificate {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// Names, `*.` for one label; empty: those in the certificate.
    pub names: Vec<String>,
}

/// How the audit log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditLogFormat {
    /// One JSON document per line.
    #[default]
    Json,
    /// One line of text per event.
    Legacy,
}

/// Whether requests wait for their audit events (`--audit-log-mode`, `--audit-webhook-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditMode {
    /// Answers wait for the event.
    #[default]
    Blocking,
    /// As `Blocking`, and a request whose first event cannot be kept is refused.
    BlockingStrict,
    /// Events are buffered, and dropped when the buffer is full.
    Batch,
}

/// `--audit-*`.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// `--audit-policy-file`; without one nothing is audited.
    pub policy_file: Option<PathBuf>,
    /// `--audit-log-path`; `-` is standard output.
    pub log_path: Option<PathBuf>,
    /// `--audit-log-maxage`, in days; zero keeps all.
    pub log_max_age_days: u64,
    /// `--audit-log-maxbackup`; zero keeps all.
    pub log_max_backup: usize,
    /// `--audit-log-maxsize`, in megabytes; zero never rotates.
    pub log_max_size_mb: u64,
    /// `--audit-log-compress`.
    pub log_compress: bool,
    /// `--audit-log-format`.
    pub log_format: AuditLogFormat,
    /// `--audit-log-mode`.
    pub log_mode: AuditMode,
    /// `--audit-webhook-config-file`.
    pub webhook_config_file: Option<PathBuf>,
    /// `--audit-webhook-mode`.
    pub webhook_mode: AuditMode,
    /// `--audit-webhook-batch-buffer-size`, in events.
    pub webhook_buffer: usize,
    /// `--audit-webhook-batch-max-size`, in events.
    pub webhook_batch: usize,
    /// `--audit-webhook-batch-max-wait`.
    pub webhook_max_wait: Duration,
    /// `--audit-webhook-initial-backoff`.
    pub webhook_backoff: Duration,
    /// `--audit-log-truncate-enabled` or `--audit-webhook-truncate-enabled`: largest event, in bytes.
    pub truncate_event_bytes: Option<usize>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            policy_file: None,
            log_path: None,
            log_max_age_days: 0,
            log_max_backup: 0,
            log_max_size_mb: 0,
            log_compress: false,
            log_format: AuditLogFormat::Json,
            log_mode: AuditMode::Blocking,
            webhook_config_file: None,
            webhook_mode: AuditMode::Batch,
            webhook_buffer: 10_000,
            webhook_batch: 400,
            webhook_max_wait: Duration::from_secs(30),
            webhook_backoff: Duration::from_secs(10),
            truncate_event_bytes: None,
        }
    }
}
