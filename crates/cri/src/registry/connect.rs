//! Connections to registries: TCP, TLS, and through an HTTP proxy.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{RegistryConfig, RegistryError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer of a proxy to CONNECT.
const MAX_PROXY_ANSWER: usize = 8 << 10;
/// Where distributions keep the certificates they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Opens connections for the HTTP client.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    proxy: Option<Arc<Proxy>>,
}

struct Proxy {
    address: String,
    exceptions: Vec<String>,
}

impl Connector {
    /// A connector that trusts the system's and the configuration's authorities, or, if not `verify`, anybody.
    pub fn new(config: &RegistryConfig, verify: bool) -> Result<Self, RegistryError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| RegistryError::Config(e.to_string()))?;
        let tls = if verify {
            builder.with_root_certificates(roots(config)?).with_no_client_auth()
        } else {
            let verifier = Arc::new(TrustAnybody(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        };
        let proxy = config.proxy.as_deref().map(|url| {
            let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
            Arc::new(Proxy { address, exceptions: config.no_proxy.clone() })
        });
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), proxy })
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let host = uri.host().ok_or_else(|| io::Error::other("the URL has no host"))?.to_owned();
        let secure = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = self.dial(&host, port).await?;
        tcp.set_nodelay(true)?;
        if !secure {
            return Ok(TokioIo::new(Stream::Plain(tcp)));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(io::Error::other)?;
        let tls = self.tls.connect(name, tcp).await?;
        Ok(TokioIo::new(Stream::Tls(Box::new(tls))))
    }

    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        match self.proxy.as_ref().filter(|proxy| !proxy.excepts(host)) {
            Some(proxy) => through_proxy(&proxy.address, &format!("{host}:{port}")).await,
            None => TcpStream::connect(format!("{host}:{port}")).await,
        }
    }
}

impl Proxy {
    fn excepts(&self, host: &str) -> bool {
        super::endpoint::is_loopback(host)
            || self.exceptions.iter().any(|e| {
                let e = e.trim_start_matches('.');
                e == "*" || host == e || host.strip_suffix(e).is_some_and(|rest| rest.ends_with('.'))
            })
    }
}

async fn through_proxy(proxy: &str, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_PROXY_ANSWER {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        answer.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    if line.split(' ').nth(1) == Some("200") {
        return Ok(stream);
    }
    Err(io::Error::other(format!("proxy {proxy} refused: {line}")))
}

fn roots(config: &RegistryConfig) -> Result<RootCertStore, RegistryError> {
    let mut store = RootCertStore::empty();
    if let Some(bundle) = SYSTEM_BUNDLES.iter().find(|path| std::path::Path::new(path).exists()) {
        let found = CertificateDer::pem_file_iter(bundle)
            .map_err(|e| RegistryError::Config(format!("read {bundle}: {e}")))?;
        // One certificate of a bundle that does not parse is no reason to trust none of the others.
        store.add_parsable_certificates(found.filter_map(Result::ok));
    }
    for path in &config.ca_files {
        let bad = |e: &dyn std::fmt::Display| RegistryError::Config(format!("read {}: {e}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
            store.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
        }
    }
    Ok(store)
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(uri))
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 30 seconds"))?
        })
    }
}

/// A connection to a registry.
pub enum Stream {
    /// Plain HTTP.
    Plain(TcpStream),
    /// HTTPS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// For registries configured as insecure: any certificate will do.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
