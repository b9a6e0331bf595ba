//! `loopback`: sets up `lo` in the container.

use netlink::netns::within;
use netlink::route::RouteSocket;

use crate::config::NetConf;
use crate::protocol::{Command, Request};
use crate::result::{Interface, Ip, NetResult};
use crate::{Cidr, Error};

const LOOPBACK: &str = "lo";

pub(crate) fn run(request: &Request, conf: &NetConf) -> Result<Option<NetResult>, Error> {
    match request.command {
        Command::Add => add(request, conf).map(Some),
        Command::Check => check(request).map(|()| None),
        // It goes with the namespace.
        Command::Del | Command::Gc | Command::Status | Command::Version => Ok(None),
    }
}

fn add(request: &Request, conf: &NetConf) -> Result<NetResult, Error> {
    let netns = request.netns()?;
    let addresses = within(netns, || -> Result<_, netlink::Error> {
        let mut socket = RouteSocket::open()?;
        let index = socket.link(LOOPBACK)?.map_or(1, |link| link.index);
        socket.set_up(index)?;
        socket.addresses(index)
    })??;
    if let Some(result) = conf.prev_result()? {
        return Ok(result);
    }
    let sandbox = netns.display().to_string();
    let interface =
        Interface { name: LOOPBACK.to_owned(), mac: "00:00:00:00:00:00".to_owned(), mtu: None, sandbox };
    let ip = |address: netlink::route::Address| Ip {
        address: Cidr { ip: address.ip, prefix_len: address.prefix_len },
        gateway: None,
        interface: Some(0),
    };
    let ips = addresses.into_iter().map(ip).collect();
    Ok(NetResult { interfaces: vec![interface], ips, ..NetResult::default() })
}

fn check(request: &Request) -> Result<(), Error> {
    let link = within(request.netns()?, || RouteSocket::open()?.link(LOOPBACK))??;
    match link {
        Some(link) if link.is_up() => Ok(()),
        _ => Err(Error::failed("loopback interface is down")),
    }
}
