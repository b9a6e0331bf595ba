//! Which URLs to try for a registry, and in which order.

use std::net::IpAddr;

use super::RegistryConfig;
use crate::images::reference::{DEFAULT_DOMAIN, Reference};

/// Where Docker Hub really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// A base URL to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host[:port][/prefix]`, without `/v2`.
    pub base: String,
    /// Check its certificate.
    pub verify: bool,
    /// This is the registry itself, which the credentials are for.
    pub origin: bool,
    /// A mirror is told which registry is meant (`?ns=`).
    pub namespace: Option<String>,
}

impl RegistryConfig {
    /// The endpoints for an image: mirrors first, then the registry itself.
    pub(super) fn endpoints(&self, image: &Reference) -> Vec<Endpoint> {
        let domain = image.domain.as_str();
        let mirrors = self.mirrors.get(domain).or_else(|| self.mirrors.get("*"));
        let mut found: Vec<Endpoint> =
            mirrors.into_iter().flatten().map(|url| self.mirror(url, domain)).collect();
        let host = if domain == DEFAULT_DOMAIN { DOCKER_HUB } else { domain };
        let insecure = self.insecure.iter().any(|i| i == domain);
        let origin = |scheme: &str| Endpoint {
            base: format!("{scheme}://{host}"),
            verify: !insecure,
            origin: true,
            namespace: None,
        };
        found.push(origin("https"));
        if insecure || is_loopback(domain) {
            found.push(origin("http"));
        }
        found
    }

    fn mirror(&self, url: &str, domain: &str) -> Endpoint {
        let base = url.trim_end_matches('/').trim_end_matches("/v2").to_owned();
        let host = base.split_once("://").map_or(base.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host);
        let verify = !self.insecure.iter().any(|i| i == host);
        Endpoint { verify, origin: false, namespace: Some(domain.to_owned()), base }
    }
}

/// True for `localhost` and loopback addresses, with or without a port.
pub fn is_loopback(domain: &str) -> bool {
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => domain,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(config: &RegistryConfig, image: &str) -> Vec<(String, bool)> {
        let image = Reference::parse(image).unwrap();
        config.endpoints(&image).into_iter().map(|e| (e.base, e.verify)).collect()
    }

    #[test]
    fn plain_http_is_for_loopback_and_configured_registries() {
        let mut config = RegistryConfig { insecure: vec!["reg:5000".to_owned()], ..Default::default() };
        assert_eq!(bases(&config, "busybox"), [("https://registry-1.docker.io".to_owned(), true)]);
        assert_eq!(bases(&config, "example.com/a"), [("https://example.com".to_owned(), true)]);
        let local = bases(&config, "127.0.0.1:5000/a");
        assert_eq!(local[1], ("http://127.0.0.1:5000".to_owned(), true));
        let insecure = bases(&config, "reg:5000/a");
        assert_eq!(insecure[0], ("https://reg:5000".to_owned(), false));
        assert_eq!(insecure[1].0, "http://reg:5000");
        config.mirrors.insert("*".to_owned(), vec!["http://m:80/v2/".to_owned()]);
        assert_eq!(bases(&config, "busybox")[0].0, "http://m:80");
    }

    #[test]
    fn loopback_is_recognized() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example.com", "10.0.0.1:5000", "128.0.0.1"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
