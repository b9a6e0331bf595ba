//! Everything that serving a request needs, in one shared value.

use std::sync::Arc;

use base::TaskScope;

use crate::admission::AdmissionChain;
use crate::authn::{BearerTokens, Chain};
use crate::authz::Authorizer;
use crate::flow::FlowControl;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::proxy::KubeletClient;
use crate::registry::Registry;

/// The API server's parts.
pub struct Core {
    /// Settings.
    pub options: Options,
    /// Objects.
    pub registry: Arc<Registry>,
    /// Who asks.
    pub authn: Chain,
    /// Bearer tokens, for TokenReview as well.
    pub tokens: Arc<BearerTokens>,
    /// Whether they may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Who may still change or refuse a write.
    pub admission: AdmissionChain,
    /// What is kept of requests; `None` without a policy.
    pub audit: Option<Arc<crate::audit::Auditor>>,
    /// Calls webhooks.
    pub webhooks: Arc<crate::webhook::WebhookClient>,
    /// How many at once.
    pub flow: FlowControl,
    /// Named checks.
    pub health: Health,
    /// Counters.
    pub metrics: Metrics,
    /// Discovery documents and OpenAPI, as of the resources served now.
    pub documents: crate::discovery::Documents,
    /// What other servers serve.
    pub aggregation: crate::aggregation::Aggregation,
    /// OpenAPI documents.
    pub openapi: openapi::spec::OpenApi,
    /// Who signs client certificates.
    pub client_authorities: crate::tls::ClientAuthorities,
    /// The way to kubelets.
    pub kubelet: KubeletClient,
    /// Issues service-account tokens; `None` without a signing key.
    pub issuer: Option<Arc<dyn crate::subresource::TokenIssuer>>,
    /// The address that clients are told.
    pub advertise: std::net::SocketAddr,
    /// Paths that the process around this server answers.
    pub extension: std::sync::OnceLock<crate::extension::Mounted>,
    /// When this server was made.
    pub started: jiff::Timestamp,
    /// Pieces of lists as they are sent.
    pub pieces: crate::api::pieces::Pieces,
    /// Watch events as they are sent.
    pub frames: crate::api::frames::Frames,
    /// Owner of every task; watches end with it.
    pub scope: TaskScope,
}
