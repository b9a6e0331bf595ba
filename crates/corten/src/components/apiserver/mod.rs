//! `corten kube-apiserver`.

mod features;
mod flags;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use apiserver::Options;
use apiserver::options::{
    AuditLogFormat, AuditMode, AuditOptions, AuthorizationWebhookOptions, OidcOptions, TokenWebhookOptions,
};
use base::{TaskScope, system_clock};
use tokio::net::TcpListener;

use crate::role::External;

pub use flags::Flags;
pub use upstream::TABLE;

/// How long the etcd that is named may take to give its state.
const ETCD_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Serves until `scope` ends.
pub async fn run(flags: Flags, scope: TaskScope) -> anyhow::Result<()> {
    let mut ignored = flags.ignored_upstream_flag.clone();
    ignored.sort();
    ignored.dedup();
    if !ignored.is_empty() {
        tracing::info!("flags that have no meaning here: --{}", ignored.join(", --"));
    }
    let address = SocketAddr::new(flags.serving.bind_address, flags.serving.secure_port);
    crate::settings::check_port(address, "--secure-port")?;
    let store = store(&flags, &scope).await?;
    let options = options(flags)?;
    let server = apiserver::Server::new(options, store, system_clock(), &scope).await?;
    let tls = server.tls()?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    // It goes on for a while after the signal that ends this function.
    let serving = scope.spawn_graceful(async move { server.serve(listener, Some(tls)).await });
    Ok(serving.await??)
}

/// The store inside, or an etcd that is named.
async fn store(flags: &Flags, scope: &TaskScope) -> anyhow::Result<Arc<dyn store::Store>> {
    let cluster = &flags.cluster;
    if cluster.etcd_servers.is_empty() {
        let config = store::Config::new(&flags.data_dir);
        return Ok(Arc::new(store::Embedded::open(&config, system_clock()).context("store")?));
    }
    let external = External {
        servers: cluster.etcd_servers.clone(),
        ca_file: cluster.etcd_cafile.clone(),
        cert_file: cluster.etcd_certfile.clone(),
        key_file: cluster.etcd_keyfile.clone(),
    };
    open_etcd(&external, &cluster.etcd_prefix, scope).await
}

/// A store over an etcd, with its state read.
pub async fn open_etcd(
    external: &External,
    prefix: &str,
    scope: &TaskScope,
) -> anyhow::Result<Arc<dyn store::Store>> {
    let identity = match (external.cert_file.clone(), external.key_file.clone()) {
        (Some(certificate), Some(key)) => Some(pki::KeyPairFiles { certificate, key }),
        (None, None) => None,
        _ => bail!("--etcd-certfile and --etcd-keyfile go together"),
    };
    // The server's keys begin with upstream's usual prefix already.
    let prefix = prefix.trim_end_matches('/');
    let config = etcd::RemoteConfig {
        endpoints: external.servers.clone(),
        authorities: external.ca_file.iter().cloned().collect(),
        identity,
        prefix: if prefix == "/registry" { String::new() } else { prefix.to_owned() },
        history: store::HistoryLimits::default(),
    };
    let remote = etcd::RemoteStore::open(&config, scope, ETCD_WAIT).await.context("--etcd-servers")?;
    Ok(Arc::new(remote))
}

fn options(flags: Flags) -> anyhow::Result<Options> {
    let Flags { serving, authentication, accounts, authorization, audit, cluster, .. } = flags;
    if serving.tls_cert_file.is_some() != serving.tls_private_key_file.is_some() {
        bail!("--tls-cert-file and --tls-private-key-file go together");
    }
    features::check(&cluster.feature_gates)?;
    let oidc = oidc(&authentication)?;
    let token_webhook =
        authentication.authentication_token_webhook_config_file.map(|config_file| TokenWebhookOptions {
            config_file,
            cache_ttl: authentication.authentication_token_webhook_cache_ttl,
            version: authentication.authentication_token_webhook_version,
        });
    let authorization_mode = modes(&authorization)?;
    let authorization_webhook =
        authorization.authorization_webhook_config_file.map(|config_file| AuthorizationWebhookOptions {
            config_file,
            authorized_ttl: authorization.authorization_webhook_cache_authorized_ttl,
            unauthorized_ttl: authorization.authorization_webhook_cache_unauthorized_ttl,
            version: authorization.authorization_webhook_version,
        });
    Ok(Options {
        advertise_address: serving.advertise_address,
        bind_address: serving.bind_address,
        secure_port: serving.secure_port,
        cert_dir: serving.cert_dir,
        tls_cert_file: serving.tls_cert_file,
        tls_private_key_file: serving.tls_private_key_file,
        tls_cipher_suites: serving.tls_cipher_suites,
        tls_min_version: serving.tls_min_version,
        tls_sni_cert_key: serving.tls_sni_cert_key,
        external_hostname: serving.external_hostname,
        max_requests_inflight: serving.max_requests_inflight,
        max_mutating_requests_inflight: serving.max_mutating_requests_inflight,
        request_timeout_s: serving.request_timeout.as_secs(),
        min_request_timeout_s: serving.min_request_timeout,
        shutdown_delay_s: serving.shutdown_delay_duration.as_secs(),
        profiling: serving.profiling,
        client_ca_file: authentication.client_ca_file,
        token_auth_file: authentication.token_auth_file,
        anonymous_auth: authentication.anonymous_auth,
        enable_bootstrap_token_auth: authentication.enable_bootstrap_token_auth,
        authentication_config: authentication.authentication_config,
        requestheader_client_ca_file: authentication.requestheader_client_ca_file,
        requestheader_allowed_names: authentication.requestheader_allowed_names,
        requestheader_username_headers: authentication.requestheader_username_headers,
        requestheader_uid_headers: authentication.requestheader_uid_headers,
        requestheader_group_headers: authentication.requestheader_group_headers,
        requestheader_extra_headers_prefix: authentication.requestheader_extra_headers_prefix,
        oidc,
        token_webhook,
        api_audiences: accounts.api_audiences,
        service_account_issuer: accounts.service_account_issuer,
        service_account_key_file: accounts.service_account_key_file,
        service_account_signing_key_file: accounts.service_account_signing_key_file,
        service_account_lookup: accounts.service_account_lookup,
        service_account_jwks_uri: accounts.service_account_jwks_uri,
        service_account_max_token_expiration_s: accounts.service_account_max_token_expiration.as_secs(),
        service_account_extend_token_expiration: accounts.service_account_extend_token_expiration,
        authorization_mode,
        authorization_policy_file: authorization.authorization_policy_file,
        authorization_config: authorization.authorization_config,
        authorization_webhook,
        enable_admission_plugins: authorization.enable_admission_plugins,
        disable_admission_plugins: authorization.disable_admission_plugins,
        admission_control_config_file: authorization.admission_control_config_file,
        allow_privileged: authorization.allow_privileged,
        audit: audit_options(audit),
        encryption_provider_config: cluster.encryption_provider_config,
        encryption_provider_config_automatic_reload: cluster.encryption_provider_config_automatic_reload,
        etcd_servers: cluster.etcd_servers,
        etcd_prefix: cluster.etcd_prefix,
        event_ttl_s: i64::try_from(cluster.event_ttl.as_secs()).unwrap_or(i64::MAX),
        runtime_config: cluster.runtime_config,
        service_cluster_ip_range: cluster.service_cluster_ip_range,
        service_node_port_range: cluster.service_node_port_range,
        reconcile_endpoints: cluster.endpoint_reconciler_type != "none",
        endpoint_leases: cluster.endpoint_reconciler_type == "lease",
        kubelet_certificate_authority: cluster.kubelet_certificate_authority,
        kubelet_client_certificate: cluster.kubelet_client_certificate,
        kubelet_client_key: cluster.kubelet_client_key,
        kubelet_preferred_address_types: cluster.kubelet_preferred_address_types,
        proxy_client_cert_file: cluster.proxy_client_cert_file,
        proxy_client_key_file: cluster.proxy_client_key_file,
        enable_aggregator_routing: cluster.enable_aggregator_routing,
        flags: given(),
    })
}

/// Names and values of the flags on this process' command line, for `/flagz`.
fn given() -> Vec<(String, String)> {
    let flags = std::env::args().skip(1).filter_map(|arg| {
        let (name, value) = arg.strip_prefix("--")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    flags.collect()
}

fn modes(flags: &flags::Authorization) -> anyhow::Result<Vec<String>> {
    if flags.authorization_config.is_some() {
        if !flags.authorization_mode.is_empty() || flags.authorization_webhook_config_file.is_some() {
            bail!(
                "--authorization-config can not be specified when --authorization-mode or \
                 --authorization-webhook-* flags are defined"
            );
        }
        return Ok(Vec::new());
    }
    let modes = match flags.authorization_mode.is_empty() {
        true => vec!["AlwaysAllow".to_owned()],
        false => flags.authorization_mode.clone(),
    };
    let asks = modes.iter().any(|mode| mode == "Webhook");
    let policies = modes.iter().any(|mode| mode == "ABAC");
    if policies != flags.authorization_policy_file.is_some() {
        bail!(match policies {
            true => "authorization-mode ABAC's authorization policy file not passed",
            false => "cannot specify --authorization-policy-file without mode ABAC",
        });
    }
    match (asks, flags.authorization_webhook_config_file.is_some()) {
        (true, false) => bail!("authorization-mode Webhook's authorization config file not passed"),
        (false, true) => {
            bail!("cannot specify --authorization-webhook-config-file without mode Webhook")
        }
        _ => Ok(modes),
    }
}

fn oidc(flags: &flags::Authentication) -> anyhow::Result<Option<OidcOptions>> {
    let Some(issuer_url) = flags.oidc_issuer_url.clone().filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    if flags.oidc_client_id.is_empty() {
        bail!("--oidc-issuer-url and --oidc-client-id must be specified together");
    }
    if flags.authentication_config.is_some() {
        bail!("authentication-config file and oidc-* flags are mutually exclusive");
    }
    Ok(Some(OidcOptions {
        issuer_url,
        client_id: flags.oidc_client_id.clone(),
        ca_file: flags.oidc_ca_file.clone(),
        username_claim: flags.oidc_username_claim.clone(),
        username_prefix: flags.oidc_username_prefix.clone(),
        groups_claim: flags.oidc_groups_claim.clone(),
        groups_prefix: flags.oidc_groups_prefix.clone(),
        required_claims: flags.oidc_required_claim.clone(),
        signing_algs: flags.oidc_signing_algs.clone(),
    }))
}

fn audit_options(flags: flags::Audit) -> AuditOptions {
    let mode = |text: &str| match text {
        "batch" => AuditMode::Batch,
        "blocking-strict" => AuditMode::BlockingStrict,
        _ => AuditMode::Blocking,
    };
    let truncate = [
        flags.audit_log_truncate_enabled.then_some(flags.audit_log_truncate_max_event_size),
        flags.audit_webhook_truncate_enabled.then_some(flags.audit_webhook_truncate_max_event_size),
    ];
    AuditOptions {
        policy_file: flags.audit_policy_file,
        log_path: flags.audit_log_path,
        log_max_age_days: flags.audit_log_maxage,
        log_max_backup: flags.audit_log_maxbackup,
        log_max_size_mb: flags.audit_log_maxsize,
        log_compress: flags.audit_log_compress,
        log_format: match flags.audit_log_format.as_str() {
            "legacy" => AuditLogFormat::Legacy,
            _ => AuditLogFormat::Json,
        },
        log_mode: mode(&flags.audit_log_mode),
        webhook_config_file: flags.audit_webhook_config_file,
        webhook_mode: mode(&flags.audit_webhook_mode),
        webhook_buffer: flags.audit_webhook_batch_buffer_size,
        webhook_batch: flags.audit_webhook_batch_max_size,
        webhook_max_wait: flags.audit_webhook_batch_max_wait,
        webhook_backoff: flags.audit_webhook_initial_backoff,
        truncate_event_bytes: truncate.into_iter().flatten().min(),
    }
}
