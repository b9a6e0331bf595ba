//! What a cluster is created with and keeps: written at the first start, read at every later one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::layout::{DEFAULT_NAME, Layout};
use crate::network::{Block, taken_blocks};
use crate::role::Role;

/// The format of a data directory. A directory of another format is refused.
pub const FORMAT: u32 = 1;
/// Upstream's default ports.
const SECURE_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10250;
/// kubeadm's and flannel's customary blocks; further clusters on a machine take the following ones.
const POD_BLOCK: [u8; 2] = [10, 244];
const SERVICE_BLOCK: [u8; 2] = [10, 96];
/// How many blocks after the customary ones are tried.
const BLOCK_TRIES: u8 = 11;

/// The lasting choices of a cluster.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Format of the data directory.
    pub format: u32,
    /// Name of the cluster, unique on the machine.
    pub name: String,
    /// Name of this machine's node.
    pub node_name: String,
    /// Port of the API server.
    pub secure_port: u16,
    /// Port of the kubelet.
    pub kubelet_port: u16,
    /// Addresses of pods.
    pub pod_block: Block,
    /// Virtual addresses of services.
    pub service_block: Block,
    /// Domain that cluster DNS serves.
    pub cluster_domain: String,
    /// What this machine is in the cluster.
    #[serde(default, skip_serializing_if = "Role::is_alone")]
    pub role: Role,
}

/// What a user may ask for; what is absent is chosen, or kept if the cluster exists.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--node-name`.
    pub node_name: Option<String>,
    /// `--secure-port`.
    pub secure_port: Option<u16>,
    /// `--kubelet-port`.
    pub kubelet_port: Option<u16>,
    /// `--cluster-cidr`.
    pub pod_block: Option<Block>,
    /// `--service-cidr`.
    pub service_block: Option<Block>,
    /// `--cluster-domain`.
    pub cluster_domain: Option<String>,
}

impl Settings {
    /// The settings of the cluster in `layout`; None if there is none yet.
    pub fn read(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let path = layout.settings();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let unusable = || format!("{} is no cluster description", path.display());
        let Format { format } = serde_json::from_str(&text).with_context(unusable)?;
        if format != FORMAT {
            bail!(
                "the data directory {} has format {format}, this version of corten reads format {FORMAT}",
                layout.data().display()
            );
        }
        serde_json::from_str(&text).with_context(unusable).map(Some)
    }

    /// The settings of the cluster in `layout`, made from `wishes` and written at the first start.
    pub fn read_or_create(layout: &Layout, name: &str, wishes: &Wishes) -> anyhow::Result<Self> {
        if let Some(settings) = Self::read(layout)? {
            settings.agree(name, wishes)?;
            return Ok(settings);
        }
        let settings = Self::choose(name, wishes)?;
        settings.write(layout)?;
        Ok(settings)
    }

    /// Writes them to `layout`, all or nothing.
    pub fn write(&self, layout: &Layout) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(pki::write_public(&layout.settings(), text.as_bytes())?)
    }

    /// The settings of a new cluster on this machine, not written yet.
    pub fn choose(name: &str, wishes: &Wishes) -> anyhow::Result<Self> {
        check_name(name)?;
        let taken = taken_blocks();
        let ports_may_move = name != DEFAULT_NAME;
        Ok(Self {
            format: FORMAT,
            name: name.to_owned(),
            node_name: wishes.node_name.clone().map_or_else(crate::identity::host_name, Ok)?,
            secure_port: port(wishes.secure_port, SECURE_PORT, ports_may_move)?,
            kubelet_port: port(wishes.kubelet_port, KUBELET_PORT, ports_may_move)?,
            pod_block: block(wishes.pod_block, POD_BLOCK, &taken)?,
            service_block: block(wishes.service_block, SERVICE_BLOCK, &taken)?,
            cluster_domain: wishes.cluster_domain.clone().unwrap_or_else(|| "cluster.local".to_owned()),
            role: Role::Alone,
        })
    }

    /// An existing cluster keeps its choices; a wish for others is an error, not ignored.
    fn agree(&self, name: &str, wishes: &Wishes) -> anyhow::Result<()> {
        let differs = |what: &str, wish: String, have: String| -> anyhow::Result<()> {
            if wish == have {
                return Ok(());
            }
            bail!("the cluster exists with {what} {have}, which cannot become {wish}")
        };
        differs("the name", name.to_owned(), self.name.clone())?;
        let wished = [
            ("node name", wishes.node_name.clone(), self.node_name.clone()),
            ("secure port", wishes.secure_port.map(|p| p.to_string()), self.secure_port.to_string()),
            ("kubelet port", wishes.kubelet_port.map(|p| p.to_string()), self.kubelet_port.to_string()),
            ("cluster CIDR", wishes.pod_block.map(|b| b.to_string()), self.pod_block.to_string()),
            ("service CIDR", wishes.service_block.map(|b| b.to_string()), self.service_block.to_string()),
            ("cluster domain", wishes.cluster_domain.clone(), self.cluster_domain.clone()),
        ];
        for (what, wish, have) in wished {
            if let Some(wish) = wish {
                differs(&format!("the {what}"), wish, have)?;
            }
        }
        Ok(())
    }

    /// The part of a name that marks what several clusters on one machine must not share: cgroups, tables, links.
    pub fn mark(&self) -> String {
        match self.name.as_str() {
            DEFAULT_NAME => DEFAULT_NAME.to_owned(),
            other => format!("{DEFAULT_NAME}-{other}"),
        }
    }

    /// The name of the bridge, at most 15 bytes as the kernel asks.
    pub fn bridge(&self) -> String {
        if self.name == DEFAULT_NAME {
            return "corten0".to_owned();
        }
        let hash = self
            .name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
        format!("ct{hash:08x}")
    }

    /// The first address of the pods: the bridge's own, at which cluster DNS listens.
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_block.address(1)
    }

    /// The address of the `kubernetes` service.
    pub fn kubernetes_address(&self) -> Ipv4Addr {
        self.service_block.address(1)
    }

    /// The address of the `kube-dns` service.
    pub fn dns_address(&self) -> Ipv4Addr {
        self.service_block.address(10)
    }

    /// The machine's address as others see it; the bridge's when the machine has no way out.
    pub fn node_address(&self) -> Ipv4Addr {
        outgoing_address().unwrap_or_else(|| self.gateway())
    }
}

/// Names of clusters become parts of names of cgroups, tables and files.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || name.len() > 40
        || !name.chars().all(fits)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        bail!("{name:?} is no name for a cluster: use up to 40 lowercase letters, digits and dashes");
    }
    Ok(())
}

fn port(wish: Option<u16>, usual: u16, may_move: bool) -> anyhow::Result<u16> {
    if let Some(port) = wish {
        return Ok(port);
    }
    if !may_move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, usual)).is_ok() {
        return Ok(usual);
    }
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("find a free port")?;
    Ok(free.local_addr().context("find a free port")?.port())
}

fn block(wish: Option<Block>, usual: [u8; 2], taken: &[Block]) -> anyhow::Result<Block> {
    if let Some(block) = wish {
        return Ok(block);
    }
    let candidates =
        (0..BLOCK_TRIES).map(|step| Block::new(Ipv4Addr::new(usual[0], usual[1] + step, 0, 0), 16));
    let free = candidates.into_iter().find(|block| !taken.iter().any(|other| other.overlaps(*block)));
    free.with_context(|| {
        format!("no free block of addresses from {}.{}.0.0/16 on; name one", usual[0], usual[1])
    })
}

/// The source address of the default route: connecting a datagram socket chooses it and sends nothing.
pub fn outgoing_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() && !address.is_loopback() => Some(address),
        _ => None,
    }
}

/// Says in one sentence that an address is taken, if it is.
pub fn check_port(address: SocketAddr, flag: &str) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("port {} is taken by another process; choose another with {flag}", address.port())
        }
        Err(error) => Err(error).with_context(|| format!("listen on {address}")),
    }
}

/// True if `path` looks like a data directory of ours.
pub fn is_data_dir(path: &Path) -> bool {
    path.join("cluster.json").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        (folder, layout)
    }

    #[test]
    fn choices_last_and_other_wishes_are_refused() {
        let (_folder, layout) = layout();
        let wishes =
            Wishes { node_name: Some("n1".to_owned()), secure_port: Some(7443), ..Wishes::default() };
        let made = Settings::read_or_create(&layout, "one", &wishes).unwrap();
        assert_eq!(Settings::read_or_create(&layout, "one", &Wishes::default()).unwrap(), made);
        let other = Wishes { secure_port: Some(7444), ..Wishes::default() };
        let error = Settings::read_or_create(&layout, "one", &other).unwrap_err().to_string();
        assert_eq!(error, "the cluster exists with the secure port 7443, which cannot become 7444");
        assert!(Settings::read_or_create(&layout, "two", &Wishes::default()).is_err());
    }

    #[test]
    fn another_format_is_refused_in_one_sentence() {
        let (folder, layout) = layout();
        std::fs::write(layout.settings(), r#"{"format": 99, "future": true}"#).unwrap();
        let error = Settings::read(&layout).unwrap_err().to_string();
        let path = folder.path().display();
        let expected =
            format!("the data directory {path} has format 99, this version of corten reads format {FORMAT}");
        assert_eq!(error, expected);
    }

    #[test]
    fn names_that_could_not_name_a_cgroup_are_refused() {
        for name in ["", "A", "a/b", "-a", "a-", &"a".repeat(41)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("edge-1").is_ok());
    }
}
