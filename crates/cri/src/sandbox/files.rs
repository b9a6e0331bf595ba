//! Files that containers of a pod see: its name, its hosts, its name servers; and its shared memory.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use proto::cri::v1::{DnsConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};

use super::Sandbox;
use crate::disk;
use crate::error::{Error, Result};
use crate::snapshots::is_mounted;

pub const HOSTNAME: &str = "hostname";
pub const HOSTS: &str = "hosts";
pub const RESOLV_CONF: &str = "resolv.conf";
const SHM_OPTIONS: &str = "mode=1777,size=65536k";
/// What a pod's /etc/hosts says if the kubelet mounts no other over it.
const DEFAULT_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The pod's host name: that of the machine if it shares its network and names no other.
pub fn hostname(config: &PodSandboxConfig, options: &NamespaceOption) -> String {
    if config.hostname.is_empty() && options.network() == NamespaceMode::Node {
        return fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    }
    config.hostname.clone()
}

/// Writes the files and mounts the shared memory. Blocks.
pub fn write_all(sandbox: &Sandbox, config: &PodSandboxConfig, options: &NamespaceOption) -> Result<()> {
    let host_network = options.network() == NamespaceMode::Node;
    let write = |name: &str, text: &str| {
        let path = sandbox.state_dir.join(name);
        fs::write(&path, text).and_then(|()| readable(&path)).map_err(Error::io("write", &path))
    };
    write(HOSTNAME, &format!("{}\n", hostname(config, options)))?;
    let hosts = host_network.then(|| fs::read_to_string("/etc/hosts").ok()).flatten();
    write(HOSTS, hosts.as_deref().unwrap_or(DEFAULT_HOSTS))?;
    let resolv_conf = match &config.dns_config {
        Some(dns) => resolv_conf(dns),
        None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    write(RESOLV_CONF, &resolv_conf)?;
    if options.ipc() != NamespaceMode::Node {
        mount_shm(&sandbox.shm_dir())?;
    }
    Ok(())
}

/// Containers may run as anybody.
fn readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn mount_shm(path: &Path) -> Result<()> {
    disk::make_private_dir(path)?;
    if is_mounted(path)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), path, Some("tmpfs"), flags, Some(SHM_OPTIONS))
        .map_err(Error::errno(format!("mount {}", path.display())))
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_written_as_resolvers_read_them() {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let dns = DnsConfig {
            servers: own(&["10.96.0.10", "fd00::10"]),
            searches: own(&["default.svc.cluster.local", "cluster.local"]),
            options: own(&["ndots:5"]),
        };
        let expect = "search default.svc.cluster.local cluster.local\nnameserver 10.96.0.10\n\
                      nameserver fd00::10\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), expect);
        assert_eq!(resolv_conf(&DnsConfig::default()), "");
    }
}
