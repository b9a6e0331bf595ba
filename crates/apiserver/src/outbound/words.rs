//! What failed, in the words of Go's standard library: users read them in Status messages.

use std::io;

use rustls::{CertificateError, Error, OtherError};

/// `host:port`, brackets around IPv6.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A failed connection.
pub fn dial(host: &str, port: u16, error: &io::Error) -> String {
    let address = address(host, port);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("dial tcp {address}: connect: network is unreachable"),
        io::ErrorKind::TimedOut => format!("dial tcp {address}: connect: connection timed out"),
        _ if host.parse::<std::net::IpAddr>().is_err() && error.raw_os_error().is_none() => {
            format!("dial tcp: lookup {host}: no such host")
        }
        _ => format!("dial tcp {address}: connect: {error}"),
    }
}

/// A failed handshake with who should be `expected`.
pub fn handshake(expected: &str, error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => tls(error, expected),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

fn tls(error: &Error, host: &str) -> String {
    let x509 = |why: String| format!("tls: failed to verify certificate: x509: {why}");
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                x509("certificate signed by unknown authority".to_owned())
            }
            CertificateError::Expired
            | CertificateError::NotValidYet
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYetContext { .. } => {
                x509("certificate has expired or is not yet valid".to_owned())
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                x509(format!("certificate is not valid for {host}"))
            }
            CertificateError::Other(OtherError(other)) => x509(other.to_string()),
            other => x509(format!("{other:?}")),
        },
        other => format!("tls: {other}"),
    }
}
