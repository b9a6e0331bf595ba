//! Checks of addresses and ranges.

use std::net::IpAddr;

use crate::Cursor;
use crate::field::Errors;
use crate::names::Messages;

/// An IP address of either family.
pub fn ip(text: &str) -> Messages {
    match text.parse::<IpAddr>() {
        Ok(_) => Messages::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// The address and prefix length of a range, `10.9.8.0/24`.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let plain = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok()?;
    (plain && bits <= max).then_some((ip, bits))
}

/// A range of addresses of either family.
pub fn cidr(text: &str) -> Messages {
    match parse_cidr(text) {
        Some(_) => Messages::new(),
        None => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()],
    }
}

/// The address with the bits after the prefix cleared.
pub fn network_of(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    }
}

/// True when the texts are two addresses of different families.
pub fn is_dual_stack(ips: &[&str]) -> bool {
    let families: Vec<Option<bool>> =
        ips.iter().map(|ip| ip.parse::<IpAddr>().ok().map(|ip| ip.is_ipv4())).collect();
    families.contains(&Some(true)) && families.contains(&Some(false))
}

/// Endpoints and external addresses may not be unspecified, loopback or link-local (`ValidateNonSpecialIP`).
pub fn not_special(c: &Cursor<'_>, out: &mut Errors) {
    let text = c.text();
    let Ok(ip) = text.parse::<IpAddr>() else {
        return c.invalid(out, "must be a valid IP address");
    };
    if ip.is_unspecified() {
        c.invalid(out, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        c.invalid(out, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        c.invalid(out, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        c.invalid(out, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(cidr("10.0.0.0/8"), Messages::new());
        for wrong in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/08", "::/129", "x"] {
            assert_ne!(cidr(wrong), Messages::new(), "{wrong}");
        }
        let (ip, bits) = parse_cidr("10.1.2.3/16").unwrap();
        assert_eq!(network_of(ip, bits).to_string(), "10.1.0.0");
        assert!(is_dual_stack(&["10.0.0.1", "::1"]));
        assert!(!is_dual_stack(&["10.0.0.1", "10.0.0.2"]));
    }
}
