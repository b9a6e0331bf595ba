//! The plugin's gRPC service on its unix socket.

use std::collections::HashMap;
use std::os::linux::net::SocketAddrExt;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use proto::kms::v2::key_management_service_client::KeyManagementServiceClient;
use proto::kms::v2::{
    DecryptRequest, EncryptRequest, EncryptResponse, EncryptedObject, StatusRequest, StatusResponse,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::registry::meta::new_uid;

/// Pauses while nobody listens on the socket: the first, and the longest.
const CONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What a plugin adds to what it encrypted, to get it back for decryption.
pub type Annotations = HashMap<String, Bytes>;

/// A client of one plugin. Nothing is connected before the first call, and a broken connection is made anew.
pub struct Service {
    client: KeyManagementServiceClient<Channel>,
    timeout: Duration,
}

/// An error as gRPC's clients in Go print it.
fn said(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// Whether nobody listened.
fn is_unconnected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<tonic::ConnectError>().is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The path of `unix:///path`, or the name of an abstract socket, `unix:///@name`, with its `@`.
pub fn socket(endpoint: &str) -> Result<String, String> {
    let (scheme, rest) = endpoint.split_once(':').unwrap_or(("", endpoint));
    if scheme != "unix" {
        return Err(format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported"));
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
        None => rest,
    };
    Ok(if path.starts_with("/@") { &path[1..] } else { path }.to_owned())
}

async fn connect(socket: String) -> std::io::Result<TokioIo<UnixStream>> {
    let stream = match socket.strip_prefix('@') {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)?
        }
        None => UnixStream::connect(socket).await?,
    };
    Ok(TokioIo::new(stream))
}

impl Service {
    /// A client of the plugin on `socket`, each of whose calls may take `timeout`.
    pub fn new(socket: &str, timeout: Duration) -> Self {
        let socket = socket.to_owned();
        let dial = tower::service_fn(move |_: Uri| connect(socket.clone()));
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(dial);
        Self { client: KeyManagementServiceClient::new(channel), timeout }
    }

    /// Calls, and waits for a plugin that does not listen yet.
    async fn call<T, F, Fut>(&self, request: F) -> Result<T, String>
    where
        F: Fn(KeyManagementServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut last = None;
        let mut pause = CONNECT_PAUSE.0;
        let ready = async {
            loop {
                match request(self.client.clone()).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) if status.code() == Code::Unavailable && is_unconnected(&status) => {
                        last = Some(said(&status));
                    }
                    Err(status) => return Err(said(&status)),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(CONNECT_PAUSE.1);
            }
        };
        match tokio::time::timeout(self.timeout, ready).await {
            Ok(outcome) => outcome,
            Err(_) => {
                tracing::debug!(last, "a KMS plugin did not answer in time");
                Err(said(&Status::deadline_exceeded("context deadline exceeded")))
            }
        }
    }

    /// Whether it is well, and the id of its current key.
    pub async fn status(&self) -> Result<StatusResponse, String> {
        self.call(|mut client| async move { client.status(StatusRequest {}).await }).await
    }

    /// Encrypts the source of data keys.
    pub async fn encrypt(&self, plaintext: &[u8]) -> Result<EncryptResponse, String> {
        let request = EncryptRequest { plaintext: Bytes::copy_from_slice(plaintext), uid: new_uid() };
        self.call(|mut client| {
            let request = request.clone();
            async move { client.encrypt(request).await }
        })
        .await
    }

    /// Decrypts the source of data keys of a stored value.
    pub async fn decrypt(&self, object: &EncryptedObject) -> Result<Bytes, String> {
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source.clone(),
            uid: new_uid(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let answer = self
            .call(|mut client| {
                let request = request.clone();
                async move { client.decrypt(request).await }
            })
            .await?;
        Ok(answer.plaintext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_unix_sockets() {
        assert_eq!(socket("unix:///run/kms.sock").unwrap(), "/run/kms.sock");
        assert_eq!(socket("unix:/run/kms.sock").unwrap(), "/run/kms.sock");
        assert_eq!(socket("unix:///@kms").unwrap(), "@kms");
        let error = socket("tcp://localhost:1").unwrap_err();
        assert_eq!(error, "unsupported scheme \"tcp\" for KMS provider, only unix is supported");
    }
}
