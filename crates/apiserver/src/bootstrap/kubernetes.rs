//! The `kubernetes` service, and its endpoints: where this server is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schema::{Value, value};

use super::Maker;
use crate::core::Core;
use crate::{Error, Options};

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
const PORT: i64 = 443;

/// Makes the service and says that this server is behind it.
pub async fn run(core: &Core, maker: &Maker<'_>) -> Result<(), Error> {
    let target = i64::from(core.advertise.port());
    let address = first_address(&core.options)?;
    let service = value!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE,
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": (address.as_str()),
            "clusterIPs": [(address.as_str())],
            "ipFamilies": [(if address.contains(':') { "IPv6" } else { "IPv4" })],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": PORT, "targetPort": target}]
        }
    });
    maker.ensure("", "services", NAMESPACE, service).await?;
    if !core.options.reconcile_endpoints {
        return Ok(());
    }
    if core.advertise.ip().is_loopback() {
        tracing::warn!("no address but loopback: the endpoints of the service kubernetes are left out");
        return Ok(());
    }
    match core.options.endpoint_leases {
        true => super::endpoint_lease::start(core, core.advertise.ip()).await,
        false => write_endpoints(maker, &[core.advertise.ip()], core.advertise.port()).await,
    }
}

/// Writes the endpoints of the service: servers at `ips`, which are not empty, all at `port`.
pub(super) async fn write_endpoints(maker: &Maker<'_>, ips: &[IpAddr], port: u16) -> Result<(), Error> {
    let ports = value!([{"name": "https", "port": (i64::from(port)), "protocol": "TCP"}]);
    let addresses: Vec<Value> = ips.iter().map(|ip| value!({"ip": (ip.to_string())})).collect();
    let endpoints = value!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE,
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": addresses, "ports": (ports.clone())}]
    });
    maker.apply("", "endpoints", NAMESPACE, &endpoints, &|live, own| copy(live, own, &["subsets"])).await?;
    let one = |ip: &IpAddr| value!({"addresses": [(ip.to_string())], "conditions": {"ready": true}});
    let each: Vec<Value> = ips.iter().map(one).collect();
    let slice = value!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": (if ips.iter().any(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" }),
        "endpoints": each,
        "ports": ports
    });
    let fields = ["endpoints", "ports"];
    maker
        .apply("discovery.k8s.io", "endpointslices", NAMESPACE, &slice, &|live, own| copy(live, own, &fields))
        .await
}

/// The first address of the first service range.
fn first_address(options: &Options) -> Result<String, Error> {
    let range = options.service_cluster_ip_range.first().map(String::as_str).unwrap_or_default();
    let wrong = || Error::Flag {
        flag: "service-cluster-ip-range",
        reason: format!("{range:?} is no range of addresses"),
    };
    let (base, prefix) = range.split_once('/').ok_or_else(wrong)?;
    let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
    match base.parse::<IpAddr>().map_err(|_| wrong())? {
        IpAddr::V4(v4) if prefix < 32 => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ok(Ipv4Addr::from((u32::from(v4) & mask) + 1).to_string())
        }
        IpAddr::V6(v6) if prefix < 128 => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ok(Ipv6Addr::from((u128::from(v6) & mask) + 1).to_string())
        }
        _ => Err(wrong()),
    }
}

fn copy(live: &mut Value, own: &Value, fields: &[&str]) {
    for field in fields {
        if let Some(value) = own.get(field) {
            live.insert(*field, value.clone());
        }
    }
}
