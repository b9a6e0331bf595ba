//! The authenticators of a server, put together from its options.

use std::sync::Arc;

use base::TaskScope;

use super::bootstrap_token::BootstrapTokens;
use super::oidc::OidcTokens;
use super::webhook::WebhookTokens;
use super::{
    Anonymous, Authenticator, BearerTokens, Chain, ClientCertificate, RequestHeader, ServiceAccountTokens,
    TokenAuthenticator, TokenFile,
};
use crate::registry::Registry;
use crate::{Error, Options};

/// Who asks, and whose a token is; in upstream's order.
pub fn authenticators(
    options: &Options,
    registry: &Arc<Registry>,
    accounts: &Arc<ServiceAccountTokens>,
    scope: &TaskScope,
) -> Result<(Chain, Arc<BearerTokens>), Error> {
    let mut sorts: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    if let Some(file) = &options.token_auth_file {
        sorts.push(Arc::new(TokenFile::read(file)?));
    }
    sorts.push(accounts.clone());
    if options.enable_bootstrap_token_auth {
        sorts.push(Arc::new(BootstrapTokens::new(registry.clone())));
    }
    if let Some(flags) = OidcTokens::from_flags(options)? {
        sorts.push(flags);
    }
    let mut anonymous = options.anonymous_auth.then(Anonymous::default);
    if let Some(configured) = OidcTokens::from_file(options, scope)? {
        sorts.push(configured.tokens);
        anonymous = configured.anonymous.unwrap_or(anonymous);
    }
    if let Some(webhook) = &options.token_webhook {
        let own = accounts.audiences().to_vec();
        sorts.push(Arc::new(WebhookTokens::new(webhook, own)?));
    }
    let tokens = Arc::new(BearerTokens::new(sorts, accounts.audiences().to_vec()));
    let mut all: Vec<Arc<dyn Authenticator>> = Vec::new();
    if let Some(front_proxies) = RequestHeader::new(options) {
        all.push(Arc::new(front_proxies));
    }
    if options.client_ca_file.is_some() {
        all.push(Arc::new(ClientCertificate));
    }
    all.push(tokens.clone());
    Ok((Chain::new(all, anonymous), tokens))
}
