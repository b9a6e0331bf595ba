//! `host-local`: gives out addresses of configured ranges, one file for each that is taken.
//!
//! The directory is laid out as upstream's plugin has it, so either can take over from the other. A file comes into
//! being whole, by a link, so a crash leaves no address taken by nobody.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::addr::{from_number, to_number};
use crate::config::{Ipam, NetConf, Range};
use crate::protocol::{Command, Request};
use crate::result::{Attachment, Dns, Ip, NetResult};
use crate::{Cidr, Error};

const DEFAULT_DIR: &str = "/var/lib/cni/networks";
const LOCK: &str = "lock";
const LAST_RESERVED: &str = "last_reserved_ip.";
const TEMPORARY: &str = ".new-";

pub(crate) fn run(request: &Request, conf: &NetConf) -> Result<Option<NetResult>, Error> {
    let ipam = conf.ipam.as_ref().ok_or_else(|| Error::config("IPAM config missing 'ipam' key"))?;
    if request.command == Command::Status {
        return Ok(None);
    }
    let store = Store::open(ipam, &conf.name)?;
    match request.command {
        Command::Add => add(&store, request, conf, ipam).map(Some),
        Command::Del => store.release(|holder| holder.is(&request.container, &request.ifname)).map(|()| None),
        Command::Check => {
            let found = store.find(|holder| holder.is(&request.container, &request.ifname))?;
            if found.is_empty() {
                let message =
                    format!("host-local: Failed to find address added by container {}", request.container);
                return Err(Error::failed(message));
            }
            Ok(None)
        }
        Command::Gc => {
            let valid =
                |holder: &Holder| conf.valid_attachments.iter().any(|valid| holder.is_attachment(valid));
            store.release(|holder| !valid(holder)).map(|()| None)
        }
        Command::Status | Command::Version => Ok(None),
    }
}

fn add(store: &Store, request: &Request, conf: &NetConf, ipam: &Ipam) -> Result<NetResult, Error> {
    let sets = range_sets(conf, ipam)?;
    let mut wanted = wanted_addresses(request, conf)?;
    let holder = Holder { container: request.container.clone(), ifname: request.ifname.clone() };
    let mut ips: Vec<Ip> = Vec::new();
    // The container gets all of its addresses or none; what it has from before stays.
    let undo = |ips: &[Ip]| ips.iter().try_for_each(|ip| store.free(&ip.address.ip.to_string()));
    for (index, set) in sets.iter().enumerate() {
        let here = wanted.iter().position(|ip| set.iter().any(|range| range.contains(*ip)));
        let asked = here.map(|at| wanted.remove(at));
        match store.reserve(index, set, asked, &holder) {
            Ok(ip) => ips.push(ip),
            Err(error) => {
                undo(&ips)?;
                return Err(error);
            }
        }
    }
    if let Some(ip) = wanted.first() {
        undo(&ips)?;
        return Err(Error::config(format!("requested IP {ip} is not in any of the ranges")));
    }
    let dns = ipam.resolv_conf.as_deref().map(read_resolv_conf).transpose()?.unwrap_or_default();
    Ok(NetResult { ips, routes: ipam.routes.clone(), dns, ..NetResult::default() })
}

/// The addresses that the runtime, the configuration or `CNI_ARGS` ask for.
fn wanted_addresses(request: &Request, conf: &NetConf) -> Result<Vec<IpAddr>, Error> {
    let texts = conf.runtime_config.ips.iter().chain(&conf.args.cni.ips).map(String::as_str);
    let texts = texts.chain(request.arg("IP").into_iter().flat_map(|list| list.split(',')));
    texts
        .map(|text| {
            let address = text.split_once('/').map_or(text, |(address, _)| address);
            address.parse().map_err(|_| Error::config(format!("invalid IP address: {text}")))
        })
        .collect()
}

/// A range with its ends known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    subnet: Cidr,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

impl Bounds {
    /// Fills in what the configuration leaves out: all of the subnet but its first and last address; the first of the
    /// rest is the gateway's.
    fn of(range: &Range) -> Result<Self, Error> {
        let subnet =
            range.subnet.ok_or_else(|| Error::config("missing field subnet in IPAM configuration"))?;
        if Cidr::bits(subnet.ip) - subnet.prefix_len < 2 {
            return Err(Error::config(format!("Network {subnet} too small to allocate from")));
        }
        if subnet.ip != subnet.network() {
            let message = format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix_len,
                subnet.network()
            );
            return Err(Error::config(message));
        }
        let ipv4 = subnet.ip.is_ipv4();
        let default_first = from_number(to_number(subnet.ip) + 1, ipv4);
        let default_last = if ipv4 { from_number(to_number(subnet.last()) - 1, true) } else { subnet.last() };
        let bounds = Self {
            subnet,
            first: range.range_start.unwrap_or(default_first),
            last: range.range_end.unwrap_or(default_last),
            gateway: range.gateway.unwrap_or(default_first),
        };
        for (what, ip) in [("rangeStart", bounds.first), ("rangeEnd", bounds.last)] {
            if !subnet.contains(ip) {
                return Err(Error::config(format!("{what} {ip} not in network {subnet}")));
            }
        }
        if to_number(bounds.first) > to_number(bounds.last) {
            let message = format!("rangeStart {} is after rangeEnd {}", bounds.first, bounds.last);
            return Err(Error::config(message));
        }
        Ok(bounds)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.subnet.contains(ip) && (to_number(self.first)..=to_number(self.last)).contains(&to_number(ip))
    }

    fn to_ip(self, ip: IpAddr) -> Ip {
        let address = Cidr { ip, prefix_len: self.subnet.prefix_len };
        Ip { address, gateway: Some(self.gateway), interface: None }
    }
}

fn range_sets(conf: &NetConf, ipam: &Ipam) -> Result<Vec<Vec<Bounds>>, Error> {
    let single = ipam.range.subnet.is_some().then(|| vec![ipam.range.clone()]);
    let sets: Vec<Vec<Range>> = conf
        .runtime_config
        .ip_ranges
        .iter()
        .cloned()
        .chain(single)
        .chain(ipam.ranges.iter().cloned())
        .collect();
    if sets.is_empty() {
        return Err(Error::config("no IP ranges specified"));
    }
    let bounds: Vec<Vec<Bounds>> =
        sets.iter().map(|set| set.iter().map(Bounds::of).collect()).collect::<Result<_, _>>()?;
    let all: Vec<Bounds> = bounds.iter().flatten().copied().collect();
    for (at, one) in all.iter().enumerate() {
        if let Some(other) =
            all[at + 1..].iter().find(|other| other.contains(one.first) || one.contains(other.first))
        {
            return Err(Error::config(format!(
                "range {}-{} overlaps with {}-{}",
                one.first, one.last, other.first, other.last
            )));
        }
    }
    Ok(bounds)
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    container: String,
    ifname: String,
}

impl Holder {
    fn is(&self, container: &str, ifname: &str) -> bool {
        self.container == container && (self.ifname == ifname || self.ifname.is_empty())
    }

    fn is_attachment(&self, attachment: &Attachment) -> bool {
        self.is(&attachment.container, &attachment.ifname)
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines().map(|line| line.trim().to_owned());
        Self { container: lines.next().unwrap_or_default(), ifname: lines.next().unwrap_or_default() }
    }
}

/// The directory of a network, locked.
struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    fn open(ipam: &Ipam, network: &str) -> Result<Self, Error> {
        let dir = Path::new(ipam.data_dir.as_deref().unwrap_or(DEFAULT_DIR)).join(network);
        let fail = |error: std::io::Error| Error::io(&format!("open {}", dir.display()), &error);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir).map_err(fail)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(dir.join(LOCK)).map_err(fail)?;
        lock.lock().map_err(fail)?;
        Ok(Self { dir, _lock: lock })
    }

    fn fail(&self, operation: &str, name: &str) -> impl FnOnce(std::io::Error) -> Error {
        let what = format!("{operation} {}", self.dir.join(name).display());
        move |error| Error::io(&what, &error)
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let read = || -> std::io::Result<Vec<String>> {
            fs::read_dir(&self.dir)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        read().map_err(self.fail("list", ""))
    }

    fn holder(&self, name: &str) -> Holder {
        // An address whose file cannot be read is taken by nobody that could be asked for.
        Holder::parse(&fs::read_to_string(self.dir.join(name)).unwrap_or_default())
    }

    fn find(&self, matches: impl Fn(&Holder) -> bool) -> Result<Vec<IpAddr>, Error> {
        let addresses = self.names()?.into_iter().filter_map(|name| name.parse().ok());
        Ok(addresses.filter(|ip: &IpAddr| matches(&self.holder(&ip.to_string()))).collect())
    }

    fn release(&self, matches: impl Fn(&Holder) -> bool) -> Result<(), Error> {
        for name in self.names()? {
            let leftover = name.starts_with(TEMPORARY);
            if leftover || (name.parse::<IpAddr>().is_ok() && matches(&self.holder(&name))) {
                self.free(&name)?;
            }
        }
        Ok(())
    }

    fn free(&self, name: &str) -> Result<(), Error> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.fail("remove", name)(error)),
            _ => Ok(()),
        }
    }

    fn reserve(
        &self,
        set: usize,
        ranges: &[Bounds],
        asked: Option<IpAddr>,
        holder: &Holder,
    ) -> Result<Ip, Error> {
        let taken: HashSet<IpAddr> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        for ip in
            ranges.iter().flat_map(|_| &taken).filter(|ip| ranges.iter().any(|range| range.contains(**ip)))
        {
            if self.holder(&ip.to_string()) == *holder {
                let message = format!(
                    "{ip} has been allocated to {}, duplicate allocation is not allowed",
                    holder.container
                );
                return Err(Error::failed(message));
            }
        }
        if let Some(ip) = asked {
            return self.reserve_asked(ranges, ip, &taken, holder);
        }
        let last_file = format!("{LAST_RESERVED}{set}");
        let last =
            fs::read_to_string(self.dir.join(&last_file)).ok().and_then(|text| text.trim().parse().ok());
        for (range, ip) in candidates(ranges, last) {
            if ip != range.gateway && !taken.contains(&ip) && self.take(ip, holder)? {
                fs::write(self.dir.join(&last_file), ip.to_string())
                    .map_err(self.fail("write", &last_file))?;
                return Ok(range.to_ip(ip));
            }
        }
        let all: Vec<String> = ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
        Err(Error::failed(format!("no IP addresses available in range set: {}", all.join(","))))
    }

    fn reserve_asked(
        &self,
        ranges: &[Bounds],
        ip: IpAddr,
        taken: &HashSet<IpAddr>,
        holder: &Holder,
    ) -> Result<Ip, Error> {
        let range = ranges.iter().find(|range| range.contains(ip));
        let range = range.ok_or_else(|| Error::config(format!("requested IP {ip} is not in the range")))?;
        if ip == range.gateway {
            return Err(Error::failed(format!("requested ip {ip} is subnet's gateway")));
        }
        if taken.contains(&ip) || !self.take(ip, holder)? {
            return Err(Error::failed(format!("requested IP address {ip} is not available in range set")));
        }
        Ok(range.to_ip(ip))
    }

    /// False if the address is taken.
    fn take(&self, ip: IpAddr, holder: &Holder) -> Result<bool, Error> {
        let temporary = format!("{TEMPORARY}{}", std::process::id());
        let path = self.dir.join(&temporary);
        let write = || {
            let mut file = File::create(&path)?;
            // The line break is upstream's.
            write!(file, "{}\r\n{}", holder.container, holder.ifname)
        };
        write().map_err(self.fail("write", &temporary))?;
        let linked = fs::hard_link(&path, self.dir.join(ip.to_string()));
        fs::remove_file(&path).map_err(self.fail("remove", &temporary))?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.fail("make", &ip.to_string())(error)),
        }
    }
}

/// The addresses of the ranges, beginning after the one given out last, so that one is not used again at once.
fn candidates(ranges: &[Bounds], last: Option<IpAddr>) -> impl Iterator<Item = (Bounds, IpAddr)> {
    let ranges = ranges.to_vec();
    let start =
        last.and_then(|last| ranges.iter().position(|range| range.contains(last)).map(|at| (at, last)));
    let (at, after) = start.map_or((0, None), |(at, last)| (at, Some(to_number(last))));
    let span = |range: Bounds, first: u128, last: u128| {
        let ipv4 = range.first.is_ipv4();
        (first..=last).map(move |number| (range, from_number(number, ipv4)))
    };
    let whole = move |range: Bounds| span(range, to_number(range.first), to_number(range.last));
    let current = ranges.get(at).copied();
    let rest = current.into_iter().flat_map(move |range| {
        let first = after.map_or(to_number(range.first), |after| after + 1);
        span(range, first, to_number(range.last))
    });
    let others: Vec<Bounds> =
        ranges.iter().cycle().skip(at + 1).take(ranges.len().saturating_sub(1)).copied().collect();
    let begin = current.into_iter().flat_map(move |range| {
        let last = after.unwrap_or(to_number(range.first).wrapping_sub(1));
        span(range, to_number(range.first), last.min(to_number(range.last)))
    });
    rest.chain(others.into_iter().flat_map(whole)).chain(begin)
}

fn read_resolv_conf(path: &str) -> Result<Dns, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(&format!("read {path}"), &error))?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    Ok(dns)
}
