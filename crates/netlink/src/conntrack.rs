//! Tracked connections: forgetting those that would go on to an endpoint that is gone.

use std::net::IpAddr;

use crate::message::Attrs;
use crate::socket::{Error, Protocol, Socket};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const PROTO_NUMBER: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

/// One side of a tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// From where.
    pub source: (IpAddr, u16),
    /// Where to.
    pub destination: (IpAddr, u16),
    /// `IPPROTO_…`.
    pub protocol: u8,
}

/// A tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// As the client sent it.
    pub original: Tuple,
    /// As its answers come; after a translation the source here is the real endpoint.
    pub reply: Tuple,
}

/// Forgets the connections for which `stale` holds; gives how many. What ends by itself meanwhile is no error.
pub fn forget(ipv6: bool, stale: impl Fn(&Connection) -> bool) -> Result<usize, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let family = (if ipv6 { libc::AF_INET6 } else { libc::AF_INET }) as u8;
    let all = socket.dump("list tracked connections", GET, |message| message.raw(&[family, 0, 0, 0]))?;
    let mut forgotten = 0;
    for message in &all {
        let attrs = Attrs(message.get(4..).unwrap_or_default());
        let Some(connection) = parse(&attrs).filter(|connection| stale(connection)) else { continue };
        let done = socket.request("forget a tracked connection", DELETE, 0, |request| {
            request.raw(&[family, 0, 0, 0]);
            // The kernel's own words for it, so nothing can be lost in between.
            for (kind, nested) in [(TUPLE_ORIGINAL, 0x8000), (ID, 0), (ZONE, 0)] {
                if let Some(value) = attrs.find(kind) {
                    request.attr(kind | nested, value);
                }
            }
        });
        match done {
            Ok(_) => forgotten += 1,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        debug_assert!(connection.original.protocol != 0);
    }
    Ok(forgotten)
}

fn parse(attrs: &Attrs<'_>) -> Option<Connection> {
    Some(Connection {
        original: parse_tuple(&attrs.nested(TUPLE_ORIGINAL))?,
        reply: parse_tuple(&attrs.nested(TUPLE_REPLY))?,
    })
}

fn parse_tuple(attrs: &Attrs<'_>) -> Option<Tuple> {
    let (ip, proto) = (attrs.nested(TUPLE_IP), attrs.nested(TUPLE_PROTO));
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        if let Some(bytes) = ip.find(v4) {
            return Some(<[u8; 4]>::try_from(bytes).ok()?.into());
        }
        Some(<[u8; 16]>::try_from(ip.find(v6)?).ok()?.into())
    };
    let port = |kind| proto.find(kind).and_then(|p| p.try_into().ok()).map_or(0, u16::from_be_bytes);
    Some(Tuple {
        source: (address(IP_V4_SRC, IP_V6_SRC)?, port(PROTO_SRC_PORT)),
        destination: (address(IP_V4_DST, IP_V6_DST)?, port(PROTO_DST_PORT)),
        protocol: *proto.find(PROTO_NUMBER)?.first()?,
    })
}
