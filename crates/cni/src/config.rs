//! The network configuration that a plugin reads from standard input.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::result::{Attachment, Dns, NetResult, Route};
use crate::{Cidr, Error};

/// A configuration is at most this long. Upstream has no limit.
pub(crate) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// All fields of all plugins; each plugin reads its own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NetConf {
    pub(crate) cni_version: String,
    pub(crate) name: String,
    /// The whole configuration, for plugins that it is handed on to.
    #[serde(skip)]
    pub(crate) source: Value,
    pub(crate) ipam: Option<Ipam>,
    pub(crate) dns: Dns,
    pub(crate) prev_result: Option<Value>,
    pub(crate) runtime_config: RuntimeConfig,
    pub(crate) args: Args,
    #[serde(rename = "cni.dev/valid-attachments")]
    pub(crate) valid_attachments: Vec<Attachment>,
    #[serde(flatten)]
    pub(crate) bridge: BridgeConf,
    #[serde(flatten)]
    pub(crate) portmap: PortmapConf,
}

/// What the `bridge` plugin reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BridgeConf {
    #[serde(rename = "bridge")]
    pub(crate) name: Option<String>,
    pub(crate) is_gateway: bool,
    pub(crate) is_default_gateway: bool,
    pub(crate) force_address: bool,
    pub(crate) ip_masq: bool,
    pub(crate) mtu: u32,
    pub(crate) hairpin_mode: bool,
    pub(crate) promisc_mode: bool,
    pub(crate) port_isolation: bool,
    /// Ours: all traffic of a pod goes through the gateway, also to pods of the same bridge. See [`crate::bridge`].
    pub(crate) host_routed: bool,
    /// Ours: destinations that [`BridgeConf::ip_masq`] leaves alone beside the pod's own network.
    pub(crate) ip_masq_exempt: Vec<Cidr>,
    vlan: u32,
    vlan_trunk: Option<Value>,
    macspoofchk: bool,
    disable_container_interface: bool,
    enabledad: bool,
}

impl BridgeConf {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let unsupported = [
            ("vlan", self.vlan != 0),
            ("vlanTrunk", self.vlan_trunk.is_some()),
            ("macspoofchk", self.macspoofchk),
            ("disableContainerInterface", self.disable_container_interface),
            ("enabledad", self.enabledad),
        ];
        if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
            return Err(Error::unsupported(field));
        }
        if self.hairpin_mode && self.promisc_mode {
            return Err(Error::config("cannot set hairpin mode and promiscuous mode at the same time"));
        }
        Ok(())
    }
}

/// What the `portmap` plugin reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PortmapConf {
    snat: Option<bool>,
    conditions_v4: Option<Vec<String>>,
    conditions_v6: Option<Vec<String>>,
    external_set_mark_chain: Option<String>,
}

impl PortmapConf {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let unsupported = [
            ("snat: false", self.snat == Some(false)),
            ("conditionsV4", self.conditions_v4.as_ref().is_some_and(|list| !list.is_empty())),
            ("conditionsV6", self.conditions_v6.as_ref().is_some_and(|list| !list.is_empty())),
            ("externalSetMarkChain", self.external_set_mark_chain.is_some()),
        ];
        match unsupported.iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::unsupported(field)),
            None => Ok(()),
        }
    }
}

/// What the runtime adds for this container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RuntimeConfig {
    pub(crate) port_mappings: Vec<PortMapping>,
    pub(crate) ips: Vec<String>,
    pub(crate) ip_ranges: Vec<Vec<Range>>,
    pub(crate) mac: Option<String>,
}

/// A port of the host that leads to one of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PortMapping {
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
    pub(crate) protocol: String,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
}

/// The configuration's own arguments.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Args {
    pub(crate) cni: CniArgs,
}

/// Addresses that are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CniArgs {
    pub(crate) ips: Vec<String>,
}

/// What the address plugin reads; here that of `host-local`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ipam {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// One range, as older configurations have it.
    #[serde(flatten)]
    pub(crate) range: Range,
    /// One address is given of each of these.
    pub(crate) ranges: Vec<Vec<Range>>,
    pub(crate) routes: Vec<Route>,
    pub(crate) data_dir: Option<String>,
    pub(crate) resolv_conf: Option<String>,
}

/// Addresses to give out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Range {
    pub(crate) subnet: Option<Cidr>,
    pub(crate) range_start: Option<IpAddr>,
    pub(crate) range_end: Option<IpAddr>,
    pub(crate) gateway: Option<IpAddr>,
}

impl NetConf {
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Error> {
        let decoding =
            |error: serde_json::Error| Error::decoding(format!("error parsing configuration: {error}"));
        let source: Value = serde_json::from_slice(input).map_err(decoding)?;
        let mut conf: Self = serde_json::from_value(source.clone()).map_err(decoding)?;
        conf.source = source;
        let mut name = conf.name.bytes();
        let valid = name.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        // It becomes the name of a directory and of tables. Upstream has the same rule.
        if valid { Ok(conf) } else { Err(Error::config(format!("invalid network name: {:?}", conf.name))) }
    }

    /// What the plugins before this one made.
    pub(crate) fn prev_result(&self) -> Result<Option<NetResult>, Error> {
        let parse =
            |value| NetResult::from_json(value).map_err(|e| Error::decoding(format!("prevResult: {e}")));
        self.prev_result.clone().map(parse).transpose()
    }
}
