//! Who is believed, what they may do and what is admitted: put together from the options.

use std::sync::Arc;

use base::TaskScope;

use crate::admission::{Admission, AdmissionChain, Dynamic, plugins};
use crate::authn::{self, BearerTokens, Chain, ServiceAccountTokens};
use crate::authz::{self, Authorizer, Rbac, RoleEscalation};
use crate::registry::Registry;
use crate::subresource::TokenIssuer;
use crate::webhook::{ClusterServices, WebhookClient};
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
    /// Calls webhooks of conversion, admission, authentication and authorization.
    pub webhooks: Arc<WebhookClient>,
    /// Issues service-account tokens; None without a signing key.
    pub issuer: Option<Arc<dyn TokenIssuer>>,
}

impl Security {
    /// Makes the parts; `scope` owns their tasks.
    pub fn new(options: &Options, registry: &Arc<Registry>, scope: &TaskScope) -> Result<Self, Error> {
        let accounts = Arc::new(ServiceAccountTokens::new(registry.clone(), options)?);
        let (authn, tokens) = authn::authenticators(options, registry, &accounts, scope)?;
        let rbac = Rbac::new(registry.clone(), scope);
        let authorization = authz::authorizers(options, registry, &rbac, scope)?;
        let authorizer = authorization.authorizer;
        let config = match &options.admission_control_config_file {
            Some(file) => plugins::PluginConfig::read(file)
                .map_err(|reason| Error::Flag { flag: "admission-control-config-file", reason })?,
            None => plugins::PluginConfig::default(),
        };
        let webhooks = WebhookClient::new(Arc::new(ClusterServices(registry.clone())), scope);
        let dynamic = Dynamic { registry, webhooks: &webhooks, authorizer: &authorizer, scope }.plugins();
        let making = plugins::Making { authorizer: authorizer.clone(), config, dynamic };
        let (enable, disable) = (&options.enable_admission_plugins, &options.disable_admission_plugins);
        let mut admitted: Vec<Arc<dyn Admission>> = plugins::enabled(enable, disable, making)
            .map_err(|reason| Error::Flag { flag: "enable-admission-plugins", reason })?;
        if authorization.rbac {
            admitted.push(Arc::new(RoleEscalation::new(rbac, authorizer.clone())));
        }
        Ok(Self {
            authn,
            tokens,
            authorizer,
            admission: AdmissionChain::new(admitted),
            webhooks,
            issuer: accounts.can_issue().then_some(accounts as Arc<dyn TokenIssuer>),
        })
    }
}
