//! Ports on loopback for servers that tests start and that cannot choose a port themselves.
//!
//! Asking the kernel for a port and closing the socket is not enough: another test, or anybody's outgoing connection,
//! may get the same one before the server has it, and a child that is just being started holds a copy of the closed
//! socket. So ports come from below those that the kernel gives out, none is bound to find out whether it is free,
//! and each belongs to the process that asked until that ends.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that Linux gives out (32768 and up) and below node ports (30000 and up).
const PORTS: Range<u16> = 20_000..29_000;

/// What makes a port ours: a name that one socket of this network namespace can have.
static RESERVATIONS: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
static ASKED: AtomicU16 = AtomicU16::new(0);

/// A TCP port of 127.0.0.1 at which nobody listens and that no other caller is given while this process lives.
///
/// # Panics
/// If there is none left.
pub fn reserve_port() -> u16 {
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes begin in different places, so that they seldom try the same port.
    let begin = std::process::id().wrapping_mul(61) % count;
    for _ in 0..count {
        let asked = u32::from(ASKED.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((begin + asked) % count).unwrap_or(0);
        let port = PORTS.start + offset;
        let Some(reservation) = reservation(port) else { continue };
        if is_silent(port) {
            RESERVATIONS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(reservation);
            return port;
        }
    }
    panic!("no free port from {} to {}", PORTS.start, PORTS.end);
}

fn reservation(port: u16) -> Option<UnixDatagram> {
    let name = format!("corten-test-port-{port}");
    UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(name).ok()?).ok()
}

fn is_silent(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn no_port_is_given_twice_or_while_somebody_has_it() {
        let taken: Vec<TcpListener> = (0..20)
            .filter_map(|i| {
                let next =
                    u32::from(ASKED.load(Ordering::Relaxed)) + std::process::id().wrapping_mul(61) + 2 * i;
                let count = u32::from(PORTS.end - PORTS.start);
                TcpListener::bind((Ipv4Addr::LOCALHOST, PORTS.start + u16::try_from(next % count).unwrap()))
                    .ok()
            })
            .collect();
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..50).map(|_| reserve_port()).collect::<Vec<u16>>()))
            .collect();
        let given: Vec<u16> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let distinct: BTreeSet<u16> = given.iter().copied().collect();
        assert_eq!(distinct.len(), 200);
        for listener in &taken {
            assert!(!distinct.contains(&listener.local_addr().unwrap().port()));
        }
        for port in &given {
            assert!(reservation(*port).is_none(), "another process could be given {port}");
        }
    }
}
