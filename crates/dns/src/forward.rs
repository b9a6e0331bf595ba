//! Asking upstream servers: messages are passed on as they are, so that nothing of them is lost.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::Error;

/// How long one upstream may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer by UDP.
const MAX_UDP: usize = 65535;
const DNS_PORT: u16 = 53;
/// Bytes of a message's header.
const HEADER: usize = 12;

/// The name servers of a resolv.conf; addresses of the loopback are left out when `skip_loopback`, since cluster DNS
/// may itself be the loopback's.
pub fn read_resolv_conf(path: &Path, skip_loopback: bool) -> Result<Vec<SocketAddr>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let parsed = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    Ok(parsed
        .filter(|ip| !(skip_loopback && ip.is_loopback()))
        .map(|ip| SocketAddr::new(ip, DNS_PORT))
        .collect())
}

/// Asks `servers` in order; the first answer counts. None if nobody answers.
pub async fn ask(servers: &[SocketAddr], message: &[u8], tcp: bool) -> Option<Vec<u8>> {
    for server in servers {
        let asked = async {
            match tcp {
                true => ask_tcp(*server, message).await,
                false => ask_udp(*server, message).await,
            }
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "upstream failed"),
            Err(_) => tracing::debug!(%server, "upstream does not answer"),
        }
    }
    None
}

/// A socket of its own port and an id of its own per question, so that an answer cannot be guessed.
async fn ask_udp(server: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let (theirs, question) = message.split_at_checked(2).ok_or(std::io::ErrorKind::InvalidInput)?;
    let ours = fastrand::u16(..).to_be_bytes();
    socket.send(&[&ours, question].concat()).await?;
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything but the answer to this question is not for us.
        if buffer[..length].starts_with(&ours) && is_about(&buffer[..length], message) {
            buffer.truncate(length);
            buffer[..2].copy_from_slice(theirs);
            return Ok(buffer);
        }
    }
}

/// Whether an answer repeats the question, in whatever case. Some servers leave it out of refusals.
fn is_about(answer: &[u8], message: &[u8]) -> bool {
    let question = |bytes: &[u8]| -> Option<Vec<u8>> {
        let mut at = HEADER;
        while *bytes.get(at)? != 0 {
            at += 1 + usize::from(bytes[at]);
        }
        Some(bytes.get(HEADER..at + 5)?.to_ascii_lowercase())
    };
    let has_none = answer.get(4..6) == Some(&[0, 0]);
    answer.len() >= HEADER && (has_none || question(answer) == question(message))
}

async fn ask_tcp(server: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
