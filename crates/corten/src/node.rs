//! What a node of ours has beside its components: the runtime's configuration, the network, the cgroups.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use base::TaskScope;
use netlink::route::{Address, Route, RouteSocket};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::layout::Layout;
use crate::network::Block;
use crate::settings::Settings;

/// This very program, whatever becomes of its file: shims must be of the version that talks to them.
const RUNNING: &str = "/proc/self/exe";
/// Bits of a node's share of the cluster's pod addresses (upstream's `--node-cidr-mask-size-ipv4`).
pub const NODE_PREFIX: u8 = 24;

/// The configuration of the container runtime.
pub fn runtime_config(settings: &Settings, layout: &Layout) -> anyhow::Result<cri::Config> {
    let run = layout.run().join("cri");
    let mut config = cri::Config::new(Path::new(RUNNING), layout.cri_socket(), layout.cri(), run);
    config.registries = registries(&|key| std::env::var(key).ok());
    config.shim_cgroup = Some(format!("/{}/shims", settings.mark()));
    config.cni.conf_dir = layout.cni_conf();
    config.cni.bin_dirs = vec![layout.cni_bin()];
    config.default_cgroup_parent = format!("/{}", settings.mark());
    for (name, path) in [("runc", "/usr/sbin/runc"), ("runc", "/usr/bin/runc"), ("crun", "/usr/bin/crun")] {
        if Path::new(path).exists() {
            config.handlers.entry(name.to_owned()).or_insert_with(|| vec![path.to_owned()]);
        }
    }
    Ok(config)
}

/// How registries are reached: by the proxy that the environment names, as every program of the machine.
pub fn registries(env: &dyn Fn(&str) -> Option<String>) -> cri::RegistryConfig {
    let either = |name: &str| env(name).or_else(|| env(&name.to_uppercase())).filter(|v| !v.is_empty());
    let exceptions = either("no_proxy").unwrap_or_default();
    let names = exceptions.split(',').map(str::trim).filter(|name| !name.is_empty());
    cri::RegistryConfig {
        proxy: either("https_proxy"),
        no_proxy: names.map(|name| name.trim_start_matches("*.").to_owned()).collect(),
        ..cri::RegistryConfig::default()
    }
}

/// Makes the pods' bridge with its address, where cluster DNS listens, before there is a pod, and leads the services'
/// addresses there: without a route of their own the machine could not reach them when it has no default route. The
/// network plugin finds the bridge and leaves it as it is. `block` is the node's share of the pods' addresses.
pub fn make_bridge(settings: &Settings, block: Block) -> anyhow::Result<()> {
    let name = settings.bridge();
    let gateway = block.address(1);
    let mut routes = RouteSocket::open().context("netlink")?;
    if routes.link(&name).context("bridge")?.is_none() {
        let [a, b, c, d] = gateway.octets();
        routes
            .add_bridge(&name, None, [2, 0, a, b, c, d])
            .with_context(|| format!("make the bridge {name}"))?;
    }
    let link =
        routes.link(&name).context("bridge")?.with_context(|| format!("the bridge {name} went away"))?;
    let address = Address { ip: gateway.into(), prefix_len: block.prefix(), prefix_route: true };
    if !routes.addresses(link.index).context("bridge")?.contains(&address) {
        routes
            .add_address(link.index, address)
            .with_context(|| format!("give {name} the address {}", address.ip))?;
    }
    routes.set_up(link.index).with_context(|| format!("set {name} up"))?;
    let services = Route {
        destination: settings.service_block.address(0).into(),
        prefix_len: settings.service_block.prefix(),
        gateway: None,
        link: link.index,
        source: None,
    };
    routes.replace_route(&services).with_context(|| format!("route {} to {name}", settings.service_block))
}

/// Starts the container runtime in `scope`. It gives no pod a network before [`write_network`].
pub fn start_runtime(
    settings: &Settings,
    layout: &Layout,
    scope: &TaskScope,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    link_plugins(layout)?;
    let config = runtime_config(settings, layout)?;
    let own = scope.clone();
    Ok(scope.spawn_graceful(async move { cri::run(config, own).await.context("container runtime") }))
}

/// Writes the network configuration list of a node with this `block` of pod addresses.
pub fn write_network(settings: &Settings, layout: &Layout, block: Block) -> anyhow::Result<()> {
    let list = json!({
        "cniVersion": "1.0.0",
        "name": settings.mark(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": settings.bridge(),
                "isGateway": true,
                "hostRouted": true,
                "ipMasq": true,
                "ipMasqExempt": [settings.pod_block.to_string(), settings.service_block.to_string()],
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": layout.cni_state(),
                    "ranges": [[{"subnet": block.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    let text = serde_json::to_string_pretty(&list)? + "\n";
    Ok(pki::write_public(&layout.cni_conf().join("10-corten.conflist"), text.as_bytes())?)
}

/// The network plugins: links to this binary.
fn link_plugins(layout: &Layout) -> anyhow::Result<()> {
    std::fs::create_dir_all(layout.cni_bin())?;
    // The program that runs, also when its file is replaced or removed meanwhile.
    let executable = format!("/proc/{}/exe", std::process::id());
    let executable = Path::new(&executable);
    for plugin in crate::cli::PLUGINS {
        let link = layout.cni_bin().join(plugin);
        if std::fs::read_link(&link).ok().as_deref() != Some(executable) {
            let _ = std::fs::remove_file(&link);
            symlink(executable, &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    Ok(())
}

/// Removes the rules and the bridge, in the network namespace that we run in.
pub fn remove_network(settings: &Settings) -> anyhow::Result<()> {
    let mut proxy = proxy::Config::new(&settings.node_name);
    proxy.table = proxy_table(settings);
    proxy::cleanup(&proxy).context("remove the services' rules")?;
    cni::remove_network(&settings.mark(), &settings.bridge()).context("remove the pods' network")
}

/// The name of the proxy's tables.
pub fn proxy_table(settings: &Settings) -> String {
    match settings.mark().as_str() {
        crate::layout::DEFAULT_NAME => "kube-proxy".to_owned(),
        mark => format!("kube-proxy-{mark}"),
    }
}

/// Removes the cluster's cgroups, empty by now.
pub fn remove_cgroups(settings: &Settings) -> anyhow::Result<()> {
    let base = Path::new("/sys/fs/cgroup");
    let mark = settings.mark();
    let mut roots = vec![base.join(&mark)];
    for controller in std::fs::read_dir(base).into_iter().flatten().flatten() {
        roots.push(controller.path().join(&mark));
    }
    for root in roots.iter().filter(|root| root.is_dir()) {
        remove_tree(root).with_context(|| format!("remove the cgroup {}", root.display()))?;
    }
    Ok(())
}

/// Cgroups are removed from the leaves on; their files are the kernel's.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}
