//! Who is believed, what they may do and what is admitted: put together from the options.

use std::sync::Arc;

use base::TaskScope;

use crate::admission::{Admission, AdmissionChain, plugins};
use crate::authn::bootstrap_token::BootstrapTokens;
use crate::authn::{
    Anonymous, Authenticator, BearerTokens, Chain, ClientCertificate, ServiceAccountTokens,
    TokenAuthenticator, TokenFile,
};
use crate::authz::{
    AlwaysAllow, AlwaysDeny, Authorizer, NodeAuthorizer, PrivilegedGroup, Rbac, RoleEscalation, Union,
};
use crate::registry::Registry;
use crate::subresource::TokenIssuer;
use crate::{Error, Options};

/// The parts of a server that decide whether a request is served.
pub struct Security {
    /// Who asks.
    pub authn: Chain,
    /// Bearer tokens, for TokenReview as well.
    pub tokens: Arc<BearerTokens>,
    /// Whether they may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Who may still change or refuse a write.
    pub admission: AdmissionChain,
    /// Issues service-account tokens; None without a signing key.
    pub issuer: Option<Arc<dyn TokenIssuer>>,
}

impl Security {
    /// Makes the parts; `scope` owns their tasks.
    pub fn new(options: &Options, registry: &Arc<Registry>, scope: &TaskScope) -> Result<Self, Error> {
        refuse_missing(options)?;
        let accounts = Arc::new(ServiceAccountTokens::new(registry.clone(), options)?);
        let mut sorts: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
        if let Some(file) = &options.token_auth_file {
            sorts.push(Arc::new(TokenFile::read(file)?));
        }
        sorts.push(accounts.clone());
        if options.enable_bootstrap_token_auth {
            sorts.push(Arc::new(BootstrapTokens::new(registry.clone())));
        }
        let tokens = Arc::new(BearerTokens::new(sorts));
        let mut all: Vec<Arc<dyn Authenticator>> = vec![Arc::new(ClientCertificate), tokens.clone()];
        if options.anonymous_auth {
            all.push(Arc::new(Anonymous));
        }
        let rbac = Rbac::new(registry.clone(), scope);
        let authorizer = authorizer(options, registry, &rbac)?;
        let config = match &options.admission_control_config_file {
            Some(file) => plugins::PluginConfig::read(file)
                .map_err(|reason| Error::Flag { flag: "admission-control-config-file", reason })?,
            None => plugins::PluginConfig::default(),
        };
        let making = plugins::Making { authorizer: authorizer.clone(), config, dynamic: Vec::new() };
        let (enable, disable) = (&options.enable_admission_plugins, &options.disable_admission_plugins);
        let mut admitted: Vec<Arc<dyn Admission>> = plugins::enabled(enable, disable, making)
            .map_err(|reason| Error::Flag { flag: "enable-admission-plugins", reason })?;
        if options.authorization_mode.iter().any(|mode| mode == "RBAC") {
            admitted.push(Arc::new(RoleEscalation::new(rbac, authorizer.clone())));
        }
        Ok(Self {
            authn: Chain::new(all),
            tokens,
            authorizer,
            admission: AdmissionChain::new(admitted),
            issuer: accounts.can_issue().then_some(accounts as Arc<dyn TokenIssuer>),
        })
    }
}

/// What has been asked for and is not there must not be passed over.
fn refuse_missing(options: &Options) -> Result<(), Error> {
    let asked = [
        ("oidc-issuer-url", options.oidc.is_some()),
        ("authentication-config", options.authentication_config.is_some()),
        ("authorization-config", options.authorization_config.is_some()),
        ("authentication-token-webhook-config-file", options.token_webhook.is_some()),
        ("authorization-webhook-config-file", options.authorization_webhook.is_some()),
        ("audit-policy-file", options.audit.policy_file.is_some()),
        ("audit-webhook-config-file", options.audit.webhook_config_file.is_some()),
        ("encryption-provider-config", options.encryption_provider_config.is_some()),
        ("tls-sni-cert-key", !options.tls_sni_cert_key.is_empty()),
        ("tls-cipher-suites", !options.tls_cipher_suites.is_empty()),
        ("tls-min-version", !options.tls_min_version.is_empty()),
        ("runtime-config", !options.runtime_config.is_empty()),
    ];
    match asked.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Error::Flag { flag, reason: "not implemented yet".to_owned() }),
        None => Ok(()),
    }
}

fn authorizer(
    options: &Options,
    registry: &Arc<Registry>,
    rbac: &Arc<Rbac>,
) -> Result<Arc<dyn Authorizer>, Error> {
    let mut all: Vec<Arc<dyn Authorizer>> = vec![Arc::new(PrivilegedGroup)];
    for mode in &options.authorization_mode {
        all.push(match mode.as_str() {
            "AlwaysAllow" => Arc::new(AlwaysAllow),
            "AlwaysDeny" => Arc::new(AlwaysDeny),
            "RBAC" => rbac.clone(),
            "Node" => Arc::new(NodeAuthorizer::new(registry.clone())),
            other => {
                let reason = format!("{other} is not an authorization mode that is implemented");
                return Err(Error::Flag { flag: "authorization-mode", reason });
            }
        });
    }
    Ok(Arc::new(Union::new(all)))
}
