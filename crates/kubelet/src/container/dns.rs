//! The resolver configuration of pods (upstream `pkg/kubelet/network/dns`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use proto::cri::v1::DnsConfig;

use crate::pod::spec;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// The pod's resolver configuration. `host` is the node's, `cluster_dns` the cluster's servers.
pub fn dns_config(pod: &Pod, host: &DnsConfig, cluster_dns: &[IpAddr], domain: &str) -> DnsConfig {
    let spec = spec::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else if cluster_first && !cluster_dns.is_empty() {
        cluster(pod, host, cluster_dns, domain)
    } else {
        host.clone()
    };
    for own in spec.dns_config.iter() {
        extend(&mut config.servers, own.nameservers.iter().flatten());
        extend(&mut config.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|o| o.split(':').next() != Some(&name));
            config
                .options
                .push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    config.servers.truncate(MAX_NAMESERVERS);
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.iter().map(|s| s.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS + 1 {
        config.searches.pop();
    }
    config
}

fn cluster(pod: &Pod, host: &DnsConfig, cluster_dns: &[IpAddr], domain: &str) -> DnsConfig {
    let mut searches = Vec::new();
    if !domain.is_empty() {
        let own = format!("{}.svc.{domain}", spec::namespace(pod));
        extend(&mut searches, [&own, &format!("svc.{domain}"), &domain.to_owned()]);
    }
    extend(&mut searches, &host.searches);
    DnsConfig {
        servers: cluster_dns.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn extend<'a>(list: &mut Vec<String>, more: impl IntoIterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// Reads a `resolv.conf`.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines().map(|l| l.trim()).filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            // The last list counts, and `.` alone says: none.
            Some("search") => {
                let clean =
                    |s: &str| if s == "." { s.to_owned() } else { s.trim_end_matches('.').to_owned() };
                config.searches = words.map(clean).filter(|s| s != ".").collect();
            }
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let host = parse_resolv_conf("# c\nnameserver 9.9.9.9\nsearch corp.example. lan\noptions rotate\n");
        assert_eq!(host.searches, ["corp.example", "lan"]);
        let dns = ["10.96.0.10".parse().unwrap()];
        let of = |spec: serde_json::Value| {
            let pod = serde_json::json!({"metadata": {"namespace": "ns"}, "spec": spec});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let c = dns_config(&pod, &host, &dns, "cluster.local");
            format!("{} | {} | {}", c.servers.join(" "), c.searches.join(" "), c.options.join(" "))
        };
        let cluster =
            "10.96.0.10 | ns.svc.cluster.local svc.cluster.local cluster.local corp.example lan | ndots:5";
        let node = "9.9.9.9 | corp.example lan | rotate";
        let json = |text: &str| serde_json::from_str(text).unwrap();
        assert_eq!(of(json(r#"{"containers":[]}"#)), cluster);
        assert_eq!(of(json(r#"{"containers":[],"hostNetwork":true}"#)), node);
        assert_eq!(
            of(json(r#"{"containers":[],"hostNetwork":true,"dnsPolicy":"ClusterFirstWithHostNet"}"#)),
            cluster
        );
        assert_eq!(of(json(r#"{"containers":[],"dnsPolicy":"Default"}"#)), node);
        assert_eq!(
            of(json(
                r#"{"containers":[],"dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1"],"searches":["a"],
                "options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}}"#
            )),
            "1.1.1.1 | a | ndots:2 edns0"
        );
    }
}
