//! Where a webhook is.

use schema::Value;

/// The port of a service that a webhook does not name.
const DEFAULT_PORT: u16 = 443;

/// A service as a webhook names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceTarget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its port, which is not the port of its endpoints.
    pub port: u16,
}

/// `WebhookClientConfig` of admission, conversion and their siblings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is asked for; of a service `https://NAME.NAMESPACE.svc:PORT/PATH`.
    pub url: String,
    /// The service behind the URL's host, if it is one.
    pub service: Option<ServiceTarget>,
    /// PEM certificates that alone are trusted; empty: those of the system.
    pub ca_bundle: Vec<u8>,
}

impl Target {
    /// From `clientConfig` of a configuration. The error is what is wrong with it.
    pub fn from_value(config: &Value) -> Result<Self, String> {
        let ca_bundle = match config.str_at("caBundle") {
            Some(text) if !text.is_empty() => {
                use base64::Engine;
                let decoded = base64::engine::general_purpose::STANDARD.decode(text);
                decoded.map_err(|e| format!("caBundle: {e}"))?
            }
            _ => Vec::new(),
        };
        if let Some(url) = config.str_at("url").filter(|url| !url.is_empty()) {
            return Ok(Self { url: url.to_owned(), service: None, ca_bundle });
        }
        let service = &config["service"];
        let (Some(namespace), Some(name)) = (service.str_at("namespace"), service.str_at("name")) else {
            return Err("webhook configuration must have either service or URL".to_owned());
        };
        let port = service.int_at("port").and_then(|p| u16::try_from(p).ok()).unwrap_or(DEFAULT_PORT);
        let path = service.str_at("path").unwrap_or_default();
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        Ok(Self {
            url: format!("https://{name}.{namespace}.svc:{port}{slash}{path}"),
            service: Some(ServiceTarget { namespace: namespace.to_owned(), name: name.to_owned(), port }),
            ca_bundle,
        })
    }
}
