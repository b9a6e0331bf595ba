//! Secrets: what is wrong with a TLS pair is said, and taken all the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schema::Value;

use super::{Context, Generic, Strategy};

/// See the module.
pub struct Secrets(pub Generic);

impl Strategy for Secrets {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn warnings_on_create(&self, _: &Context<'_>, secret: &Value) -> Vec<String> {
        warnings(secret)
    }

    fn warnings_on_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<String> {
        warnings(new)
    }
}

/// In the words of Go's `tls.X509KeyPair`.
fn warnings(secret: &Value) -> Vec<String> {
    if secret.str_at("type") != Some("kubernetes.io/tls") {
        return Vec::new();
    }
    let bytes = |name: &str| {
        let text = secret["data"].get(name).and_then(Value::as_str).unwrap_or_default();
        STANDARD.decode(text).unwrap_or_default()
    };
    let (certificate, key) = (bytes("tls.crt"), bytes("tls.key"));
    if CertificateDer::from_pem_slice(&certificate).is_err() {
        return vec!["tls: failed to find any PEM data in certificate input".to_owned()];
    }
    if PrivateKeyDer::from_pem_slice(&key).is_err() {
        return vec!["tls: failed to find any PEM data in key input".to_owned()];
    }
    Vec::new()
}
