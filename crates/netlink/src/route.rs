//! Links, addresses, routes and neighbours.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use crate::message::{Attrs, Encoder};
use crate::socket::{CREATE, EXCL, Error, Protocol, REPLACE, Socket};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const NEWNEIGH: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_REACHABLE: u16 = 2;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, …; empty for hardware.
    pub kind: String,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Its largest packet.
    pub mtu: u32,
    /// The bridge that it is a port of, or zero.
    pub master: u32,
    /// The number of the other end, for a veth; zero if unknown.
    pub peer: u32,
    /// `IFF_…`.
    pub flags: u32,
}

impl Link {
    /// Whether it is set up.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// `02:00:…`.
    pub fn mac_text(&self) -> String {
        self.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }
}

/// How a bridge treats one of its ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortMode {
    /// A frame may leave through the port that it came in by.
    pub hairpin: bool,
    /// Frames do not pass between isolated ports.
    pub isolated: bool,
}

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix_len: u8,
    /// Whether the kernel makes a route to that network through the link.
    pub prefix_route: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpAddr,
    /// Bits of the destination that count; zero for the default route.
    pub prefix_len: u8,
    /// Through whom; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Through which link.
    pub link: u32,
    /// The address to send from.
    pub source: Option<IpAddr>,
}

/// A socket for links, addresses and routes of one namespace.
#[derive(Debug)]
pub struct RouteSocket(Socket);

fn link_header(family: i32, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

fn parse_link(message: &[u8]) -> Option<Link> {
    let header = message.get(..16)?;
    let attrs = Attrs(&message[16..]);
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Link {
        index: word(4),
        name: attrs.str(IFLA_IFNAME)?.to_owned(),
        kind: attrs.nested(IFLA_LINKINFO).str(IFLA_INFO_KIND).unwrap_or_default().to_owned(),
        mac: attrs.find(IFLA_ADDRESS).unwrap_or_default().to_vec(),
        mtu: attrs.u32(IFLA_MTU).unwrap_or_default(),
        master: attrs.u32(IFLA_MASTER).unwrap_or_default(),
        peer: attrs.u32(IFLA_LINK).unwrap_or_default(),
        flags: word(8),
    })
}

impl RouteSocket {
    /// Opens a socket in this thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Socket::open(Protocol::Route)?))
    }

    /// The link of that name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let answers = self.0.request(&format!("find link {name}"), GETLINK, 0, |message| {
            message.raw(&link_header(libc::AF_UNSPEC, 0, 0, 0));
            message.attr_str(IFLA_IFNAME, name);
        });
        match answers {
            Ok(answers) => Ok(answers.iter().find_map(|answer| parse_link(answer))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let answers = self
            .0
            .dump("list links", GETLINK, |message| message.raw(&link_header(libc::AF_UNSPEC, 0, 0, 0)))?;
        Ok(answers.iter().filter_map(|answer| parse_link(answer)).collect())
    }

    /// Makes a bridge, set up, with a fixed hardware address: the kernel's own choice changes with every port.
    pub fn add_bridge(&mut self, name: &str, mtu: Option<u32>, mac: [u8; 6]) -> Result<(), Error> {
        let up = libc::IFF_UP as u32;
        self.0.request(&format!("make bridge {name}"), NEWLINK, CREATE | EXCL, |message| {
            message.raw(&link_header(libc::AF_UNSPEC, 0, up, up));
            message.attr_str(IFLA_IFNAME, name);
            message.attr(IFLA_ADDRESS, &mac);
            mtu.into_iter().for_each(|mtu| message.attr_u32(IFLA_MTU, mtu));
            message.nest(IFLA_LINKINFO, |info| info.attr_str(IFLA_INFO_KIND, "bridge"));
        })?;
        Ok(())
    }

    /// Makes a pair of links: `name` here, set up and a port of `master`, and `peer` in another namespace.
    pub fn add_veth(
        &mut self,
        name: &str,
        master: u32,
        peer: &str,
        netns: &File,
        mtu: Option<u32>,
    ) -> Result<(), Error> {
        let up = libc::IFF_UP as u32;
        self.0.request(&format!("make veth {name}"), NEWLINK, CREATE | EXCL, |message| {
            message.raw(&link_header(libc::AF_UNSPEC, 0, up, up));
            message.attr_str(IFLA_IFNAME, name);
            if master != 0 {
                message.attr_u32(IFLA_MASTER, master);
            }
            mtu.into_iter().for_each(|mtu| message.attr_u32(IFLA_MTU, mtu));
            message.nest(IFLA_LINKINFO, |info| {
                info.attr_str(IFLA_INFO_KIND, "veth");
                info.nest(IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |other| {
                        other.raw(&link_header(libc::AF_UNSPEC, 0, 0, 0));
                        other.attr_str(IFLA_IFNAME, peer);
                        mtu.into_iter().for_each(|mtu| other.attr_u32(IFLA_MTU, mtu));
                        other.attr_u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                    });
                });
            });
        })?;
        Ok(())
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        self.set_flags(index, libc::IFF_UP as u32, libc::IFF_UP as u32)
    }

    /// Has a link take every frame.
    pub fn set_promiscuous(&mut self, index: u32) -> Result<(), Error> {
        self.set_flags(index, libc::IFF_PROMISC as u32, libc::IFF_PROMISC as u32)
    }

    fn set_flags(&mut self, index: u32, flags: u32, change: u32) -> Result<(), Error> {
        self.0.request(&format!("set flags of link {index}"), NEWLINK, 0, |message| {
            message.raw(&link_header(libc::AF_UNSPEC, index, flags, change));
        })?;
        Ok(())
    }

    /// Sets a link's hardware address.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<(), Error> {
        self.0.request(&format!("set address of link {index}"), NEWLINK, 0, |message| {
            message.raw(&link_header(libc::AF_UNSPEC, index, 0, 0));
            message.attr(IFLA_ADDRESS, &mac);
        })?;
        Ok(())
    }

    /// Says how the bridge treats its port `index`.
    pub fn set_port_mode(&mut self, index: u32, mode: PortMode) -> Result<(), Error> {
        self.0.request(&format!("set bridge port {index}"), SETLINK, 0, |message| {
            message.raw(&link_header(libc::AF_BRIDGE, index, 0, 0));
            message.nest(IFLA_PROTINFO, |port| {
                port.attr(IFLA_BRPORT_MODE, &[u8::from(mode.hairpin)]);
                port.attr(IFLA_BRPORT_ISOLATED, &[u8::from(mode.isolated)]);
            });
        })?;
        Ok(())
    }

    /// Removes a link, and the other end of a veth with it. False if there was none.
    pub fn delete_link(&mut self, name: &str) -> Result<bool, Error> {
        let done = self.0.request(&format!("remove link {name}"), DELLINK, 0, |message| {
            message.raw(&link_header(libc::AF_UNSPEC, 0, 0, 0));
            message.attr_str(IFLA_IFNAME, name);
        });
        match done {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts an address on a link, if it is not there.
    pub fn add_address(&mut self, link: u32, address: Address) -> Result<(), Error> {
        let flags = IFA_F_NODAD | if address.prefix_route { 0 } else { IFA_F_NOPREFIXROUTE };
        let done =
            self.0.request(&format!("add address {}", address.ip), NEWADDR, CREATE | REPLACE, |message| {
                let mut header = [family(address.ip), address.prefix_len, 0, 0, 0, 0, 0, 0];
                header[4..].copy_from_slice(&link.to_ne_bytes());
                message.raw(&header);
                message.attr(IFA_LOCAL, &octets(address.ip));
                message.attr(IFA_ADDRESS, &octets(address.ip));
                if let (IpAddr::V4(ip), 1..=30) = (address.ip, address.prefix_len) {
                    let broadcast = u32::from(ip) | (u32::MAX >> address.prefix_len);
                    message.attr(IFA_BROADCAST, &broadcast.to_be_bytes());
                }
                message.attr_u32(IFA_FLAGS, flags);
            });
        match done {
            Err(error) if error.is_exists() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The addresses of a link.
    pub fn addresses(&mut self, link: u32) -> Result<Vec<Address>, Error> {
        let answers = self.0.dump("list addresses", GETADDR, |message| message.raw(&[0; 8]))?;
        Ok(answers
            .iter()
            .filter_map(|answer| {
                let header = answer.get(..8)?;
                let attrs = Attrs(&answer[8..]);
                let ip = attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS)).and_then(parse_ip)?;
                let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
                let prefix_route = attrs.u32(IFA_FLAGS).unwrap_or_default() & IFA_F_NOPREFIXROUTE == 0;
                (index == link).then_some(Address { ip, prefix_len: header[1], prefix_route })
            })
            .collect())
    }

    /// Makes a route, or changes the one to the same destination.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        let what = format!("set route to {}/{}", route.destination, route.prefix_len);
        self.0.request(&what, NEWROUTE, CREATE | REPLACE, |message| encode_route(message, route))?;
        Ok(())
    }

    /// Removes a route. False if there was none.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool, Error> {
        let what = format!("remove route to {}/{}", route.destination, route.prefix_len);
        match self.0.request(&what, DELROUTE, 0, |message| encode_route(message, route)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The unicast routes of the main table, of IPv4 or of IPv6.
    pub fn routes(&mut self, ipv6: bool) -> Result<Vec<Route>, Error> {
        let wanted = (if ipv6 { libc::AF_INET6 } else { libc::AF_INET }) as u8;
        let answers = self.0.dump("list routes", GETROUTE, |message| {
            message.raw(&[wanted, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        })?;
        let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        Ok(answers
            .iter()
            .filter_map(|answer| {
                let header = answer.get(..12)?;
                let attrs = Attrs(&answer[12..]);
                let table = attrs.u32(RTA_TABLE).unwrap_or(u32::from(header[4]));
                if header[0] != wanted || table != u32::from(TABLE_MAIN) || header[7] != TYPE_UNICAST {
                    return None;
                }
                Some(Route {
                    destination: attrs.find(RTA_DST).and_then(parse_ip).unwrap_or(any),
                    prefix_len: header[1],
                    gateway: attrs.find(RTA_GATEWAY).and_then(parse_ip),
                    link: attrs.u32(RTA_OIF).unwrap_or_default(),
                    source: attrs.find(RTA_PREFSRC).and_then(parse_ip),
                })
            })
            .collect())
    }

    /// Tells the kernel the hardware address of a neighbour, whatever it believed before.
    pub fn set_neighbour(&mut self, link: u32, ip: IpAddr, mac: &[u8]) -> Result<(), Error> {
        self.0.request(&format!("set neighbour {ip}"), NEWNEIGH, CREATE | REPLACE, |message| {
            let mut header = [0; 12];
            header[0] = family(ip);
            header[4..8].copy_from_slice(&link.to_ne_bytes());
            header[8..10].copy_from_slice(&NUD_REACHABLE.to_ne_bytes());
            message.raw(&header);
            message.attr(NDA_DST, &octets(ip));
            message.attr(NDA_LLADDR, mac);
        })?;
        Ok(())
    }
}

fn encode_route(message: &mut Encoder, route: &Route) {
    let scope =
        if route.gateway.is_some() || route.destination.is_ipv6() { SCOPE_UNIVERSE } else { SCOPE_LINK };
    let mut header = [0; 12];
    header[0] = family(route.destination);
    header[1] = route.prefix_len;
    header[4] = TABLE_MAIN;
    header[5] = PROTOCOL_BOOT;
    header[6] = scope;
    header[7] = TYPE_UNICAST;
    message.raw(&header);
    if route.prefix_len > 0 {
        message.attr(RTA_DST, &octets(route.destination));
    }
    if let Some(gateway) = route.gateway {
        message.attr(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = route.source {
        message.attr(RTA_PREFSRC, &octets(source));
    }
    message.attr_u32(RTA_OIF, route.link);
}
