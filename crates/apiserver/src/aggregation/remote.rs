//! One group and version that another server serves.

use std::sync::Arc;

use base64::Engine;
use http::Uri;
use rustls::pki_types::pem::PemObject;
use schema::Value;

use crate::core::Core;
use crate::outbound::{Endpoint, HTTP1, OutboundError, TlsClient, Trust, client_config};
use crate::registry::meta;
use crate::webhook::{ClusterServices, ServiceResolver};

/// What an APIService says, and whether it can be had.
#[derive(Clone)]
pub struct Remote {
    /// Of the APIService.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Port of the service.
    pub port: u16,
    /// Order of the group among all.
    pub group_priority: i64,
    /// Order of the version in its group.
    pub version_priority: i64,
    /// Condition `Available`.
    pub available: bool,
    /// How it is spoken to; the error is what is wrong with its `caBundle`.
    pub tls: Result<TlsClient, String>,
    /// What the connection's settings are made from.
    pub source: Value,
}

impl Remote {
    /// From an APIService with a service.
    pub fn of(object: &Value, identity: Option<&Arc<pki::Reloading>>) -> Option<Self> {
        let text = |at: &str| object.str_at(at).unwrap_or_default().to_owned();
        let (namespace, service) = (text("spec.service.namespace"), text("spec.service.name"));
        if service.is_empty() {
            return None;
        }
        let condition =
            object.items_at("status.conditions").iter().find(|c| c.str_at("type") == Some("Available"));
        let port = object.int_at("spec.service.port").and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
        Some(Self {
            name: meta::name(object).to_owned(),
            group: text("spec.group"),
            version: text("spec.version"),
            tls: tls(object, &format!("{service}.{namespace}.svc"), identity),
            namespace,
            service,
            port,
            group_priority: object.int_at("spec.groupPriorityMinimum").unwrap_or(0),
            version_priority: object.int_at("spec.versionPriority").unwrap_or(0),
            available: condition.is_some_and(|c| c.str_at("status") == Some("True")),
            source: object["spec"].clone(),
        })
    }

    /// Where its server is now: endpoints of the service, or the service's address when none are known.
    pub fn address(&self, core: &Core) -> Result<(String, u16), String> {
        let resolver = ClusterServices(core.registry.clone());
        let found = resolver.resolve(&self.namespace, &self.service, self.port);
        if found.is_ok() || core.options.enable_aggregator_routing {
            return found;
        }
        let service = core.registry.find("", "services", &self.namespace, &self.service);
        let service = service.map_err(|e| e.message)?;
        match service.as_deref().and_then(|s| s.str_at("spec.clusterIP")) {
            Some(ip) if !ip.is_empty() && ip != "None" => Ok((ip.to_owned(), self.port)),
            _ => found,
        }
    }

    /// Its server at a path, asked as the aggregator itself.
    pub fn endpoint(&self, core: &Core, path: &str) -> Result<Endpoint, OutboundError> {
        let (host, port) = self.address(core).map_err(OutboundError::Config)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let url: Uri = format!("https://{host}:{port}{path}")
            .parse()
            .map_err(|e| OutboundError::Config(format!("{path}: {e}")))?;
        let tls = self.tls.clone().map_err(OutboundError::Config)?;
        let mut headers = http::HeaderMap::new();
        headers.insert("x-remote-user", http::HeaderValue::from_static("system:kube-aggregator"));
        headers.insert("x-remote-group", http::HeaderValue::from_static("system:masters"));
        Ok(Endpoint { url, tls, headers })
    }
}

fn tls(object: &Value, name: &str, identity: Option<&Arc<pki::Reloading>>) -> Result<TlsClient, String> {
    let bundle = object.str_at("spec.caBundle").unwrap_or_default();
    let authorities =
        base64::engine::general_purpose::STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
    if !authorities.is_empty()
        && rustls::pki_types::CertificateDer::pem_slice_iter(&authorities).flatten().next().is_none()
    {
        return Err("caBundle: no certificate in PEM form".to_owned());
    }
    let trust = Trust {
        authorities,
        anybody: object.bool_at("spec.insecureSkipTLSVerify") == Some(true),
        identity: None,
        identity_files: identity.cloned(),
    };
    Ok(TlsClient { config: client_config(&trust, HTTP1)?, server_name: Some(name.to_owned()) })
}
