//! The `/etc/hosts` that the kubelet keeps for a pod, and the pod's host name.

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::pod::spec;

const MANAGED: &str = "# Kubernetes-managed hosts file.\n";
const MANAGED_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";
const MAX_HOSTNAME: usize = 63;

/// The pod's host name, and its domain if it has one.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = spec::spec(pod);
    if let Some(name) = spec.hostname_override.as_deref().filter(|h| !h.is_empty()) {
        return (name.to_owned(), None);
    }
    let named = spec.hostname.as_deref().filter(|h| !h.is_empty());
    let mut host = named.unwrap_or_else(|| spec::name(pod)).to_owned();
    host.truncate(MAX_HOSTNAME);
    let host = host.trim_end_matches(['-', '.']).to_owned();
    let domain = spec
        .subdomain
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(|subdomain| format!("{subdomain}.{}.svc.{cluster_domain}", spec::namespace(pod)));
    (host, domain)
}

/// The name that the sandbox gets: the full one with `setHostnameAsFQDN`.
pub fn sandbox_hostname(pod: &Pod, cluster_domain: &str) -> String {
    match (hostname(pod, cluster_domain), spec::spec(pod).set_hostname_as_fqdn) {
        ((host, Some(domain)), Some(true)) => format!("{host}.{domain}"),
        ((host, _), _) => host,
    }
}

/// The file for a pod with a network of its own.
pub fn managed(ips: &[String], host: &str, domain: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut text = MANAGED.to_owned();
    text.push_str("127.0.0.1\tlocalhost\n");
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str("fe00::0\tip6-localnet\n");
    text.push_str("fe00::0\tip6-mcastprefix\n");
    text.push_str("fe00::1\tip6-allnodes\n");
    text.push_str("fe00::2\tip6-allrouters\n");
    for ip in ips {
        match domain {
            Some(domain) => text.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n")),
            None => text.push_str(&format!("{ip}\t{host}\n")),
        }
    }
    text + &alias_lines(aliases)
}

/// The file for a pod with the node's network, from the node's own.
pub fn of_node(node_file: &str, aliases: &[HostAlias]) -> String {
    format!("{MANAGED_HOST_NETWORK}{node_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = "\n# Entries added by HostAliases.\n".to_owned();
    for alias in aliases {
        text.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let of = |spec: serde_json::Value| {
            let long = "x".repeat(62) + "-yz";
            let pod = serde_json::json!({"metadata": {"name": long, "namespace": "n"}, "spec": spec});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            (hostname(&pod, "cluster.local"), sandbox_hostname(&pod, "cluster.local"))
        };
        let ((host, domain), _) = of(serde_json::json!({"containers": []}));
        assert_eq!((host.as_str(), domain), ("x".repeat(62).as_str(), None));
        let ((host, domain), full) = of(
            serde_json::json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
        );
        assert_eq!((host.as_str(), domain.as_deref()), ("h", Some("s.n.svc.cluster.local")));
        assert_eq!(full, "h.s.n.svc.cluster.local");
    }

    #[test]
    fn entries() {
        let aliases =
            [HostAlias { ip: "1.2.3.4".to_owned(), hostnames: Some(vec!["a".to_owned(), "b".to_owned()]) }];
        let text = managed(&["10.0.0.1".to_owned()], "h", Some("d"), &aliases);
        assert!(text.starts_with(MANAGED) && text.contains("\n10.0.0.1\th.d\th\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
        assert_eq!(of_node("127.0.0.1 me\n", &[]), format!("{MANAGED_HOST_NETWORK}127.0.0.1 me\n"));
    }
}
