//! IP addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Function, fail, host, library_type, text};
use crate::{EvalError, Host, Value};

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ip(IpAddr);

/// A network: an address and how many of its bits are the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr(IpAddr, u8);

library_type!(Ip, "net.IP");
library_type!(Cidr, "net.CIDR");

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "ip" => |a| match a {
            [Value::String(_)] => Ok(Ip(parse_ip(text(a, 0)?)?).into()),
            _ => Ok(Ip(cidr(a, 0)?.0).into()),
        },
        "isIP" => |a| Ok(Value::Bool(parse_ip(text(a, 0)?).is_ok())),
        "ip.isCanonical" => |a| {
            let given = text(a, 0)?;
            Ok(Value::Bool(parse_ip(given)?.to_string() == given))
        },
        "cidr" => |a| parse_cidr(text(a, 0)?).map(Value::from),
        "isCIDR" => |a| Ok(Value::Bool(parse_cidr(text(a, 0)?).is_ok())),
        "family" => |a| Ok(Value::Int(if ip(a, 0)?.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |a| Ok(Value::Bool(ip(a, 0)?.is_unspecified())),
        "isLoopback" => |a| Ok(Value::Bool(ip(a, 0)?.is_loopback())),
        "isLinkLocalMulticast" => |a| Ok(Value::Bool(link_local_multicast(ip(a, 0)?))),
        "isLinkLocalUnicast" => |a| Ok(Value::Bool(link_local_unicast(ip(a, 0)?))),
        "isGlobalUnicast" => |a| Ok(Value::Bool(global_unicast(ip(a, 0)?))),
        "containsIP" => |a| {
            let wanted = match &a[1] {
                Value::String(address) => parse_ip(address)?,
                _ => ip(a, 1)?,
            };
            Ok(Value::Bool(contains(cidr(a, 0)?, wanted)))
        },
        "containsCIDR" => |a| {
            let wanted = match &a[1] {
                Value::String(network) => parse_cidr(network)?,
                _ => cidr(a, 1)?,
            };
            let own = cidr(a, 0)?;
            Ok(Value::Bool(own.1 <= wanted.1 && contains(own, wanted.0)))
        },
        "masked" => |a| {
            let Cidr(address, bits) = cidr(a, 0)?;
            Ok(Cidr(mask(address, bits), bits).into())
        },
        "prefixLength" => |a| Ok(Value::Int(i64::from(cidr(a, 0)?.1))),
        _ => return None,
    })
}

fn ip(args: &[Value], at: usize) -> Result<IpAddr, EvalError> {
    host::<Ip>(args, at).map(|ip| ip.0)
}

fn cidr(args: &[Value], at: usize) -> Result<Cidr, EvalError> {
    host::<Cidr>(args, at).copied()
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    if text.contains('%') {
        return fail(format!("IP address {text:?} with zone value is not allowed"));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) => fail(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let wrong = || {
        EvalError::new(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): no '/'"
        ))
    };
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let address = parse_ip(address)?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let plain = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    match bits.parse::<u8>() {
        Ok(bits) if plain && bits <= width => Ok(Cidr(address, bits)),
        _ => fail(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): bad bits after slash: {bits:?}"
        )),
    }
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

fn contains(network: Cidr, address: IpAddr) -> bool {
    network.0.is_ipv4() == address.is_ipv4() && mask(network.0, network.1) == mask(address, network.1)
}

fn link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || broadcast
        || link_local_unicast(address))
}

/// The size by which costs of addresses and networks go: octets.
pub(crate) fn host_size(of: &dyn Host) -> u64 {
    let any = of.as_any();
    if let Some(Ip(address)) = any.downcast_ref::<Ip>() {
        return if address.is_ipv4() { 4 } else { 16 };
    }
    any.downcast_ref::<Cidr>().map_or(1, |cidr| u64::from(cidr.1).div_ceil(8))
}

/// The text of an address or network.
pub(super) fn text_of(value: &Value) -> Option<String> {
    let Value::Host(host) = value else { return None };
    let any = host.as_any();
    if let Some(Ip(address)) = any.downcast_ref::<Ip>() {
        return Some(address.to_string());
    }
    any.downcast_ref::<Cidr>().map(|Cidr(address, bits)| format!("{address}/{bits}"))
}
