//! How kubelets are spoken to: with the server's own client certificate.

use std::sync::Arc;

use pki::{KeyPairFiles, Reloading};
use rustls::ClientConfig;

use crate::outbound::{Trust, client_config};
use crate::{Error, Options};

/// TLS configurations of connections that the server makes.
pub struct KubeletClient {
    /// To kubelets.
    pub kubelet: Arc<ClientConfig>,
    /// To pods and services behind a proxy, whose certificates nobody can know.
    pub anyone: Arc<ClientConfig>,
}

impl KubeletClient {
    /// From the `--kubelet-*` flags. Without an authority the kubelet's certificate is not verified, as upstream.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let identity = match (&options.kubelet_client_certificate, &options.kubelet_client_key) {
            (Some(certificate), Some(key)) => {
                Some(KeyPairFiles { certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        };
        let anyone = unverified(None)?;
        let kubelet = match &options.kubelet_certificate_authority {
            Some(authority) => pki::client_config(std::slice::from_ref(authority), identity, Vec::new())?,
            None => match identity {
                Some(files) => unverified(Some(Arc::new(Reloading::new(files)?)))?,
                None => anyone.clone(),
            },
        };
        Ok(Self { kubelet, anyone })
    }
}

/// Takes any certificate, and shows `identity`.
fn unverified(identity: Option<Arc<Reloading>>) -> Result<Arc<ClientConfig>, Error> {
    let trust = Trust { anybody: true, identity_files: identity, ..Trust::default() };
    client_config(&trust, &[]).map_err(|reason| Error::Flag { flag: "kubelet-client-certificate", reason })
}
