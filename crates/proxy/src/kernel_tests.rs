//! What the kernel makes of the plans: `nft` as the oracle for rules, and traffic between network namespaces.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use testnet::{Netns, has_nft};

use crate::run::Proxy;
use crate::{Config, cleanup};

/// What `nft` prints of it; None where that is not installed.
fn nft(netns: &Netns, command: &str) -> Option<String> {
    has_nft().then(|| netns.run(&format!("nft {command}")))
}

fn service(name: &str, cluster_ip: &str, spec: Value) -> Service {
    let mut full = json!({
        "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
        "ports": [{"name": "p", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    });
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name}, "spec": full})).unwrap()
}

/// A slice for port 8080 of addresses, each on a node, with conditions.
fn slice(service: &str, protocol: &str, endpoints: &[(&str, &str, Value)]) -> Vec<Arc<EndpointSlice>> {
    let endpoint = |(ip, node, conditions): &(&str, &str, Value)| json!({"addresses": [ip], "nodeName": node, "conditions": conditions});
    let slice = json!({
        "metadata": {"namespace": "ns", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "p", "port": 8080, "protocol": protocol}]
    });
    vec![Arc::new(serde_json::from_value(slice).unwrap())]
}

fn ready() -> Value {
    json!({"ready": true})
}

fn proxy(netns: &Netns, table: &str) -> Proxy {
    Proxy::new(Config {
        table: table.to_owned(),
        netns: Some(netns.path()),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        ..Config::new("me")
    })
}

#[test]
fn a_service_is_a_few_elements_and_chains() {
    let Some(netns) = Netns::new("list") else { return };
    let mut proxy = proxy(&netns, "kube-proxy");
    proxy.work(true).act().unwrap();
    let Some(empty) = nft(&netns, "list ruleset") else { return };
    let web = service(
        "web",
        "10.96.0.7",
        json!({"type": "NodePort", "ports": [
            {"name": "p", "port": 80, "nodePort": 30080, "protocol": "TCP"}
        ]}),
    );
    let endpoints = [("10.244.0.2", "me", ready()), ("10.244.1.2", "other", ready())];
    proxy.update("ns/web", Some(&web), &slice("web", "TCP", &endpoints));
    let none = service("none", "10.96.0.8", json!({}));
    proxy.update("ns/none", Some(&none), &[]);
    proxy.work(false).act().unwrap();
    let listed = nft(&netns, "list ruleset").unwrap();
    println!("{listed}");
    let expected = [
        "elements = { 10.96.0.7 . tcp . 80 comment \"ns/web:p\" : goto internal-XXXXXXXX-ns/web/tcp/p }",
        "elements = { tcp . 30080 comment \"ns/web:p\" : goto external-XXXXXXXX-ns/web/tcp/p }",
        "elements = { 10.96.0.8 . tcp . 80 comment \"ns/none:p\" : goto reject-chain }",
        "elements = { 10.244.0.2 . 10.244.0.2 }",
        "chain service-XXXXXXXX-ns/web/tcp/p {",
        "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.1.2 . 8080 }",
        "ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
        "goto service-XXXXXXXX-ns/web/tcp/p",
        "ip daddr . meta l4proto . th dport vmap @service-ips",
        "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports",
        "ip saddr . ip daddr @hairpin-connections masquerade fully-random",
        "meta mark & 0x00004000 != 0x00004000 return",
        "ip daddr 10.96.0.0/16 drop",
    ];
    let found = without_hashes(&listed);
    for line in expected {
        assert!(found.contains(line), "{line}");
    }
    proxy.update("ns/web", None, &[]);
    proxy.update("ns/none", None, &[]);
    proxy.work(false).act().unwrap();
    assert_eq!(nft(&netns, "list ruleset").unwrap(), empty);
    let config = Config { netns: Some(netns.path()), ..Config::new("me") };
    cleanup(&config).unwrap();
    cleanup(&config).unwrap();
    assert_eq!(nft(&netns, "list ruleset").unwrap(), "");
}

/// Names hold hashes of eight digits.
fn without_hashes(listed: &str) -> String {
    let mut out = String::new();
    for word in listed.split_inclusive(['-', ' ']) {
        let core = word.trim_end_matches(['-', ' ']);
        let is_hash =
            core.len() == 8 && core.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_lowercase());
        out.push_str(&if is_hash { word.replace(core, "XXXXXXXX") } else { word.to_owned() });
    }
    out
}

/// The lines and elements of a table, whatever their order.
fn sorted(netns: &Netns, table: &str) -> Option<Vec<String>> {
    let listed = nft(netns, &format!("list table ip {table}"))?;
    let mut parts: Vec<String> =
        listed.split(['\n', ',', '{', '}', '=']).map(|part| part.trim().to_owned()).collect();
    parts.retain(|part| !part.is_empty() && !part.starts_with("table "));
    parts.sort();
    Some(parts)
}

#[test]
fn changes_lead_where_a_new_start_would() {
    let Some(netns) = Netns::new("diff") else { return };
    let mut rng = Lcg(7);
    let mut grown = proxy(&netns, "grown");
    grown.work(true).act().unwrap();
    let mut now = BTreeMap::new();
    for step in 0..40 {
        for _ in 0..1 + rng.below(3) {
            let name = format!("s{}", rng.below(6));
            let (service, slices) = (random_service(&mut rng, &name), random_slices(&mut rng, &name));
            grown.update(&format!("ns/{name}"), service.as_ref(), &slices);
            now.insert(name, (service, slices));
        }
        grown.work(false).act().unwrap();
        if step % 8 != 7 {
            continue;
        }
        let mut fresh = proxy(&netns, "fresh");
        for (name, (service, slices)) in &now {
            fresh.update(&format!("ns/{name}"), service.as_ref(), slices);
        }
        fresh.work(true).act().unwrap();
        let Some(expected) = sorted(&netns, "fresh") else { return };
        assert_eq!(sorted(&netns, "grown").unwrap(), expected, "step {step}");
        // Starting anew over what is there changes nothing.
        grown.work(true).act().unwrap();
        assert_eq!(sorted(&netns, "grown").unwrap(), expected, "step {step}");
    }
}

/// Enough of a random generator to replay by its seed.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }
}

fn random_service(rng: &mut Lcg, name: &str) -> Option<Service> {
    if rng.below(5) == 0 {
        return None;
    }
    let mut spec = json!({"ports": [{"name": "p", "port": 80 + rng.below(2), "protocol": "TCP"}]});
    if rng.flip() {
        spec["type"] = json!("LoadBalancer");
        spec["ports"][0]["nodePort"] = json!(30_000 + rng.below(3));
        spec["externalIPs"] = json!([format!("192.168.9.{}", rng.below(2))]);
    }
    if rng.flip() {
        spec["externalTrafficPolicy"] = json!("Local");
    }
    if rng.flip() {
        spec["internalTrafficPolicy"] = json!("Local");
    }
    if rng.flip() {
        spec["sessionAffinity"] = json!("ClientIP");
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10 + rng.below(2)}});
    }
    spec["loadBalancerSourceRanges"] = json!(["10.0.0.0/8"]);
    let mut made = service(name, &format!("10.96.1.{}", &name[1..]), spec);
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "192.168.8.1", "ipMode": "VIP"}]}});
    made.status = Some(serde_json::from_value(ingress).unwrap());
    Some(made)
}

fn random_slices(rng: &mut Lcg, name: &str) -> Vec<Arc<EndpointSlice>> {
    let mut endpoints = Vec::new();
    for n in 0..rng.below(4) {
        let ip = format!("10.244.0.{}", n + rng.below(2));
        let node = if rng.flip() { "me" } else { "other" };
        let is_ready = rng.below(3) != 0;
        endpoints.push((ip, node, json!({"ready": is_ready, "serving": true, "terminating": !is_ready})));
    }
    let endpoints: Vec<_> = endpoints.iter().map(|(ip, node, c)| (ip.as_str(), *node, c.clone())).collect();
    slice(name, "TCP", &endpoints)
}

/// A node with two pods behind a bridge, all through the gateway, and a machine outside.
struct Lab {
    host: Netns,
    pods: Vec<Netns>,
    outside: Netns,
}

const POD_IPS: [&str; 2] = ["10.244.0.2", "10.244.0.3"];

impl Lab {
    fn new(what: &str) -> Option<Self> {
        Self::with_bridge_filter(what, false)
    }

    /// With or without `br_netfilter`; where the module is not loaded it is always without.
    fn with_bridge_filter(what: &str, filter: bool) -> Option<Self> {
        let host = Netns::new(&format!("{what}h"))?;
        host.within(|| {
            let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            if std::path::Path::new(switch).exists() {
                std::fs::write(switch, if filter { "1" } else { "0" }).unwrap();
            }
        });
        let outside = Netns::new(&format!("{what}o"))?;
        host.ip("link add br0 type bridge");
        host.ip("addr add 10.244.0.1/24 dev br0");
        host.ip("link set br0 up");
        host.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let mut pods = Vec::new();
        for (n, ip) in POD_IPS.iter().enumerate() {
            let pod = Netns::new(&format!("{what}{n}"))?;
            host.ip(&format!("link add v{n} type veth peer name eth0 netns {}", pod.name()));
            host.ip(&format!("link set v{n} master br0 up"));
            // With `br_netfilter` what is led to another pod of the bridge does not go up to IP any more.
            host.ip(&format!("link set v{n} type bridge_slave hairpin on"));
            pod.ip(&format!("addr add {ip}/32 dev eth0"));
            pod.ip("link set eth0 up");
            pod.ip("route add 10.244.0.1 dev eth0");
            pod.ip("route add default via 10.244.0.1");
            pods.push(pod);
        }
        host.ip(&format!("link add up0 type veth peer name up0 netns {}", outside.name()));
        host.ip("addr add 192.168.79.1/24 dev up0");
        outside.ip("addr add 192.168.79.2/24 dev up0");
        host.ip("link set up0 up");
        outside.ip("link set up0 up");
        host.ip("route add default via 192.168.79.2");
        outside.ip("route add default via 192.168.79.1");
        Some(Self { host, pods, outside })
    }

    /// Both pods answer every client at port 8080 with their number and the client's address.
    fn serve(&self) -> Servers {
        let stop = Arc::new(AtomicBool::new(false));
        for (n, (pod, ip)) in self.pods.iter().zip(POD_IPS).enumerate() {
            let tcp = pod.within(|| TcpListener::bind((ip, 8080)).unwrap());
            let udp = pod.within(|| UdpSocket::bind((ip, 8080)).unwrap());
            let stopped = stop.clone();
            std::thread::spawn(move || {
                for client in tcp.incoming() {
                    let mut client = client.unwrap();
                    let from = client.peer_addr().unwrap().ip();
                    let _ = write!(client, "{n} {from}");
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            udp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let stopped = stop.clone();
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let mut buffer = [0; 16];
                    if let Ok((_, from)) = udp.recv_from(&mut buffer) {
                        let _ = udp.send_to(format!("{n} {}", from.ip()).as_bytes(), from);
                    }
                }
            });
        }
        Servers(stop)
    }
}

struct Servers(Arc<AtomicBool>);

impl Drop for Servers {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask(from: &Netns, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.within(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

fn refused(from: &Netns, to: &str) {
    let error = ask(from, to).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{} {to}: {error}", from.name());
}

#[test]
fn clients_everywhere_reach_a_service() {
    for (what, filter) in [("tcp", false), ("tcpf", true)] {
        let Some(lab) = Lab::with_bridge_filter(what, filter) else { return };
        reach_a_service(&lab);
    }
}

fn reach_a_service(lab: &Lab) {
    let _servers = lab.serve();
    let mut proxy = proxy(&lab.host, "kube-proxy");
    let mut web = service(
        "web",
        "10.96.0.7",
        json!({
            "type": "NodePort", "externalIPs": ["203.0.113.7"],
            "ports": [{"name": "p", "port": 80, "nodePort": 30080, "protocol": "TCP"}]
        }),
    );
    let second = [(POD_IPS[1], "me", ready())];
    proxy.update("ns/web", Some(&web), &slice("web", "TCP", &second));
    proxy.work(true).act().unwrap();
    let [first_pod, second_pod] = &lab.pods[..] else { panic!() };
    assert_eq!(ask(first_pod, "10.96.0.7:80").unwrap(), "1 10.244.0.2", "a pod's address is kept");
    // Led to itself it must see another address, or it would answer itself.
    assert_eq!(ask(second_pod, "10.96.0.7:80").unwrap(), "1 10.244.0.1");
    assert_eq!(ask(&lab.host, "10.96.0.7:80").unwrap(), "1 10.244.0.1");
    assert_eq!(
        ask(&lab.outside, "10.96.0.7:80").unwrap(),
        "1 10.244.0.1",
        "routed to the cluster's addresses"
    );
    assert_eq!(ask(&lab.outside, "192.168.79.1:30080").unwrap(), "1 10.244.0.1");
    assert_eq!(ask(&lab.host, "192.168.79.1:30080").unwrap(), "1 10.244.0.1");
    assert_eq!(ask(first_pod, "192.168.79.1:30080").unwrap(), "1 10.244.0.1");
    assert_eq!(ask(&lab.outside, "203.0.113.7:80").unwrap(), "1 10.244.0.1");
    for client in [first_pod, &lab.host] {
        refused(client, "10.96.0.7:81");
    }

    // Local: the client's address is kept.
    web.spec.as_mut().unwrap().external_traffic_policy = Some("Local".to_owned());
    proxy.update("ns/web", Some(&web), &slice("web", "TCP", &second));
    proxy.work(false).act().unwrap();
    assert_eq!(ask(&lab.outside, "192.168.79.1:30080").unwrap(), "1 192.168.79.2");

    // Both, then none.
    let both = [(POD_IPS[0], "me", ready()), (POD_IPS[1], "me", ready())];
    proxy.update("ns/web", Some(&web), &slice("web", "TCP", &both));
    proxy.work(false).act().unwrap();
    let answers: std::collections::BTreeSet<String> =
        (0..40).map(|_| ask(&lab.outside, "192.168.79.1:30080").unwrap()).collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    proxy.update("ns/web", Some(&web), &[]);
    proxy.work(false).act().unwrap();
    for client in [first_pod, &lab.host] {
        refused(client, "10.96.0.7:80");
        refused(client, "192.168.79.1:30080");
    }
    refused(&lab.outside, "192.168.79.1:30080");
}

#[test]
fn clients_stay_with_their_endpoint() {
    let Some(lab) = Lab::new("aff") else { return };
    let _servers = lab.serve();
    let mut proxy = proxy(&lab.host, "kube-proxy");
    let web = service("web", "10.96.0.7", json!({"sessionAffinity": "ClientIP"}));
    let both = [(POD_IPS[0], "me", ready()), (POD_IPS[1], "me", ready())];
    proxy.update("ns/web", Some(&web), &slice("web", "TCP", &both));
    proxy.work(true).act().unwrap();
    let first = ask(&lab.outside, "10.96.0.7:80").unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&lab.outside, "10.96.0.7:80").unwrap(), first);
    }
    let number: usize = first.split_once(' ').unwrap().0.parse().unwrap();
    let other = [(POD_IPS[1 - number], "me", ready())];
    proxy.update("ns/web", Some(&web), &slice("web", "TCP", &other));
    proxy.work(false).act().unwrap();
    assert_ne!(ask(&lab.outside, "10.96.0.7:80").unwrap(), first);
}

#[test]
fn udp_clients_move_on_with_the_endpoints() {
    let Some(lab) = Lab::new("udp") else { return };
    let _servers = lab.serve();
    let mut proxy = proxy(&lab.host, "kube-proxy");
    let dns = service("dns", "10.96.0.10", json!({"ports": [{"name": "p", "port": 53, "protocol": "UDP"}]}));
    // One socket, as a resolver has: its flow is tracked as long as it keeps asking.
    let socket = lab.outside.within(|| UdpSocket::bind("192.168.79.2:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let ask = || -> std::io::Result<String> {
        // What was refused before is told at the next use of the socket.
        let _ = socket.take_error();
        socket.send_to(b"?", "10.96.0.10:53")?;
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    for n in [0, 1, 0] {
        let endpoint = [(POD_IPS[n], "me", ready())];
        proxy.update("ns/dns", Some(&dns), &slice("dns", "UDP", &endpoint));
        proxy.work(true).act().unwrap();
        assert_eq!(ask().unwrap(), format!("{n} 10.244.0.1"));
    }
}

#[test]
fn two_proxies_share_a_machine() {
    let Some(lab) = Lab::new("two") else { return };
    let _servers = lab.serve();
    let (mut one, mut two) = (proxy(&lab.host, "one"), proxy(&lab.host, "two"));
    let endpoint = |n: usize| slice("web", "TCP", &[(POD_IPS[n], "me", ready())]);
    one.update("ns/web", Some(&service("web", "10.97.0.7", json!({}))), &endpoint(0));
    two.update("ns/web", Some(&service("web", "10.98.0.7", json!({}))), &endpoint(1));
    one.work(true).act().unwrap();
    two.work(true).act().unwrap();
    assert_eq!(ask(&lab.outside, "10.97.0.7:80").unwrap(), "0 10.244.0.1");
    assert_eq!(ask(&lab.outside, "10.98.0.7:80").unwrap(), "1 10.244.0.1");
    cleanup(&Config { table: "one".to_owned(), netns: Some(lab.host.path()), ..Config::new("me") }).unwrap();
    assert_eq!(ask(&lab.outside, "10.98.0.7:80").unwrap(), "1 10.244.0.1");
}
