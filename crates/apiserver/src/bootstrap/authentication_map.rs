//! `kube-system/extension-apiserver-authentication`: how aggregated servers learn whom to believe.
//!
//! Several API servers write it, so what others have put there stays: authorities and names are only added.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schema::{Value, value};

use super::Maker;
use crate::core::Core;
use crate::{Error, Options};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
/// The files of authorities are looked at this often.
const INTERVAL: Duration = Duration::from_secs(60);

/// Makes the map what it should be.
pub async fn ensure(core: &Core, maker: &Maker<'_>) -> Result<(), Error> {
    let present = core.registry.find("", "configmaps", NAMESPACE, NAME);
    let present = present.map_err(|source| Error::Bootstrap { what: NAME.to_owned(), source })?;
    let wanted = value!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": (data(&core.options, present.as_deref()))
    });
    if present.is_some_and(|present| present["data"] == wanted["data"]) {
        return Ok(());
    }
    let change = |live: &mut Value, own: &Value| {
        live.insert("data", own["data"].clone());
    };
    maker.apply("", "configmaps", NAMESPACE, &wanted, &change).await
}

/// Keeps it so, in a task of the server.
pub fn keep(core: &Arc<Core>) {
    let core = core.clone();
    core.scope.clone().spawn(async move {
        let Some(served) = core.registry.stored_resource("", "configmaps") else { return };
        let mut follower = core.registry.follow_one(&served, NAMESPACE, NAME);
        while !matches!(tokio::time::timeout(INTERVAL, follower.next()).await, Ok(None)) {
            if let Err(error) = ensure(&core, &Maker::new(&core.registry)).await {
                tracing::warn!(%error, "keep the authentication of aggregated servers");
            }
        }
    });
}

fn data(options: &Options, present: Option<&Value>) -> Value {
    let old = |key: &str| present.and_then(|p| p["data"].get(key)?.as_str()).unwrap_or_default().to_owned();
    let mut data = present.map_or_else(Value::map, |p| p["data"].clone());
    if data.is_null() {
        data = Value::map();
    }
    let mut bundle = |key: &str, path: Option<&Path>| {
        if let Some(text) = path.and_then(|path| std::fs::read_to_string(path).ok()) {
            data.insert(key, united(&old(key), &text));
        }
    };
    bundle("client-ca-file", options.client_ca_file.as_deref());
    bundle("requestheader-client-ca-file", options.requestheader_client_ca_file.as_deref());
    if options.requestheader_client_ca_file.is_none() {
        return data;
    }
    let mut list = |key: &str, own: &[String], always: bool| {
        let mut all: Vec<String> = serde_json::from_str(&old(key)).unwrap_or_default();
        for item in own {
            if !all.contains(item) {
                all.push(item.clone());
            }
        }
        if always || !all.is_empty() {
            data.insert(key, serde_json::to_string(&all).unwrap_or_default());
        }
    };
    list("requestheader-allowed-names", &options.requestheader_allowed_names, true);
    list("requestheader-username-headers", &options.requestheader_username_headers, true);
    list("requestheader-uid-headers", &options.requestheader_uid_headers, false);
    list("requestheader-group-headers", &options.requestheader_group_headers, true);
    list("requestheader-extra-headers-prefix", &options.requestheader_extra_headers_prefix, true);
    data
}

/// Both bundles; the same certificate once.
fn united(old: &str, own: &str) -> String {
    let parse = |text: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect()
    };
    let (before, own_certificates) = (parse(old), parse(own));
    let others: Vec<_> = before.iter().filter(|c| !own_certificates.contains(c)).collect();
    if others.is_empty() {
        return own.to_owned();
    }
    let pem = |der: &CertificateDer<'_>| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).map(|i| &text[i..(i + 64).min(text.len())]).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    let mut out: String = others.into_iter().map(pem).collect();
    out.push_str(own);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays() {
        let (one, _) = pki::Authority::generate("one").unwrap();
        let (two, _) = pki::Authority::generate("two").unwrap();
        let both = united(one.certificate_pem(), two.certificate_pem());
        assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
        let again = united(&both, two.certificate_pem());
        assert_eq!(again.matches("BEGIN CERTIFICATE").count(), 2, "{again}");
        assert_eq!(united("", one.certificate_pem()), one.certificate_pem());
    }
}
