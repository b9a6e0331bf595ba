//! The server: made from options and a store, used in process or over the network.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::{SharedClock, TaskScope};
use http::{Request, Response};
use rustls::ServerConfig;
use schema::Catalog;
use store::Store;
use tokio::net::TcpListener;

use crate::Error;
use crate::core::Core;
use crate::flow::FlowControl;
use crate::health::Health;
use crate::http::{Body, handle, listener};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::proxy::KubeletClient;
use crate::registry::{Registry, ResourceTable};
use crate::security::Security;
use crate::service::Cidr;

/// An API server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
}

impl Server {
    /// Makes the server over `store` and its bootstrap objects. `scope` owns its tasks.
    pub async fn new(
        options: Options,
        store: Arc<dyn Store>,
        clock: SharedClock,
        scope: &TaskScope,
    ) -> Result<Self, Error> {
        let scope = scope.child("apiserver");
        let table = ResourceTable::builtin(Catalog::builtin());
        let table = crate::operation::apply_runtime_config(table, &options.runtime_config)?;
        let mut registry = Registry::new(store.clone(), table, clock.clone());
        registry.event_ttl_s = options.event_ttl_s;
        registry.encryption = crate::encryption::Encryption::new(&options, &store, clock, &scope).await?;
        let registry = Arc::new(registry);
        configure_addresses(&options, &registry)?;
        let security = Security::new(&options, &registry, &scope)?;
        let advertise = SocketAddr::new(advertise_address(&options), options.secure_port);
        let core = Core {
            authn: security.authn,
            tokens: security.tokens,
            authorizer: security.authorizer,
            admission: security.admission,
            webhooks: security.webhooks,
            flow: FlowControl::new(
                options.max_requests_inflight,
                options.max_mutating_requests_inflight,
                std::time::Duration::from_secs(options.request_timeout_s),
            ),
            health: Health::new(store),
            metrics: Metrics::default(),
            documents: crate::discovery::Documents::default(),
            aggregation: crate::aggregation::Aggregation::default(),
            openapi: openapi::spec::OpenApi::new(),
            audit: crate::audit::Auditor::new(&options, &scope)?,
            client_authorities: crate::tls::ClientAuthorities::new(&options)?,
            kubelet: KubeletClient::new(&options)?,
            issuer: security.issuer,
            extension: std::sync::OnceLock::new(),
            started: jiff::Timestamp::now(),
            advertise,
            frames: Default::default(),
            pieces: Default::default(),
            scope,
            registry,
            options,
        };
        let server = Self { core: Arc::new(core) };
        crate::bootstrap::run(&server.core).await?;
        crate::flow::run(&server.core);
        crate::bootstrap::keep_authentication_map(&server.core);
        crate::operation::run_identity(&server.core);
        crate::crd::run(&server.core, &server.core.scope).await?;
        crate::aggregation::run(&server.core, &server.core.scope)?;
        server.core.health.set_started();
        Ok(server)
    }

    /// The service for clients in this process.
    pub fn service(&self) -> ApiService {
        ApiService { core: self.core.clone() }
    }

    /// Lets `extension` answer the requests to `path` and below. Only the first call has an effect.
    pub fn extend(&self, path: &'static str, extension: Arc<dyn crate::Extension>) {
        _ = self.core.extension.set(crate::extension::Mounted { path, extension });
    }

    /// Serves connections until the scope ends. Without `tls` plain HTTP is served: for loopback in tests only.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Result<(), Error> {
        let scope = self.core.scope.clone();
        listener::serve(self.core.clone(), listener, tls, scope).await
    }

    /// The TLS configuration of the options: the serving certificate, and client certificates if there is a CA.
    pub fn tls(&self) -> Result<Arc<ServerConfig>, Error> {
        let options = &self.core.options;
        let service_ip = options
            .service_cluster_ip_range
            .first()
            .and_then(|text| text.parse::<Cidr>().ok())
            .map(|cidr| cidr.nth(0));
        let identity = crate::serving_cert::key_pair(options, self.core.advertise.ip(), service_ip)?;
        crate::tls::server_config(options, identity, self.core.client_authorities.any())
    }

    /// Keeps the status of admission policies, which upstream's controller manager does: it needs every kind's schema,
    /// which is here.
    pub fn check_policy_types(&self) {
        crate::admission::check_types(self.core.registry.clone(), &self.core.scope);
    }

    /// The objects, for other parts of the control plane's own process that belong to the API server.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.core.registry
    }
}

/// The API server as a service in this process. A request's `base::UserInfo` extension is its identity; without one
/// it must carry credentials. It is authorized and admitted like any other.
#[derive(Clone)]
pub struct ApiService {
    core: Arc<Core>,
}

impl tower::Service<Request<Body>> for ApiService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let core = self.core.clone();
        Box::pin(async move { Ok(handle(core, request).await) })
    }
}

/// The address that clients are told: as configured, else the one that is bound if others can reach it, else that of
/// the default route.
fn advertise_address(options: &Options) -> IpAddr {
    if let Some(address) = options.advertise_address {
        return address;
    }
    if !options.bind_address.is_unspecified() && !options.bind_address.is_loopback() {
        return options.bind_address;
    }
    default_route_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The local address of a packet to the outside. Connecting a datagram socket sends nothing.
fn default_route_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Sets the ranges of service addresses and ports, and marks what the stored services have.
fn configure_addresses(options: &Options, registry: &Registry) -> Result<(), Error> {
    let wrong = |reason: String| Error::Flag { flag: "service-cluster-ip-range", reason };
    let cidrs: Vec<Cidr> = options
        .service_cluster_ip_range
        .iter()
        .map(|text| text.parse().map_err(wrong))
        .collect::<Result<_, _>>()?;
    if cidrs.is_empty() || cidrs.len() > 2 {
        return Err(wrong("one range, or two of different families".to_owned()));
    }
    let services = registry
        .find_all("", "services", None)
        .map_err(|source| Error::Bootstrap { what: "service addresses".to_owned(), source })?;
    registry.addresses.configure(&cidrs, options.service_node_port_range, services.iter().map(|s| &**s));
    Ok(())
}
