//! The plugins as a runtime runs them, in network namespaces of the test's own: a host, its pods, and a machine outside.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testnet::Netns;

/// What a runtime does: plugin, command, container, configuration.
fn call(plugin: &str, command: &str, container: &str, netns: &str, conf: &Value) -> Result<Value, Value> {
    let env = HashMap::from([
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", container.to_owned()),
        ("CNI_NETNS", netns.to_owned()),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_PATH", "/nowhere".to_owned()),
    ]);
    let mut answer = Vec::new();
    let code =
        cni::main(plugin, &|name| env.get(name).cloned(), &mut conf.to_string().as_bytes(), &mut answer);
    let answer = serde_json::from_slice(&answer).unwrap_or_default();
    if code == 0 { Ok(answer) } else { Err(answer) }
}

fn conf(dir: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "test", "type": "bridge", "bridge": "cni-test", "isGateway": true,
        "ipMasq": true, "ipMasqExempt": ["10.77.0.0/16"], "hostRouted": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": dir, "ranges": [[{"subnet": "10.77.3.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]
        }
    })
}

fn address(result: &Value) -> IpAddr {
    result["ips"][0]["address"].as_str().unwrap().split_once('/').unwrap().0.parse().unwrap()
}

fn listen(netns: &Netns, address: &str) -> TcpListener {
    netns.within(|| TcpListener::bind(address).unwrap())
}

/// Answers one client, and gives the address that it was seen to have. The listener stays the caller's: to close one and
/// bind its address again can fail, since a child that another test starts holds a copy until it executes.
fn serve(listener: &TcpListener) -> std::thread::JoinHandle<SocketAddr> {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        let (mut client, from) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        from
    })
}

fn greet(netns: &Netns, to: impl Into<SocketAddr>) -> std::io::Result<()> {
    let to = to.into();
    netns.within(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        assert_eq!(text, "hello");
        Ok(())
    })
}

#[test]
fn pods_reach_each_other_and_the_world_and_leave_no_trace() {
    let (Some(host), Some(pod), Some(other), Some(outside)) =
        (Netns::new("host"), Netns::new("pod"), Netns::new("other"), Netns::new("outside"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(dir.path());
    host.ip(&format!("link add up0 type veth peer name up0 netns {}", outside.name()));
    for (netns, address) in [(&host, "192.168.77.1/24"), (&outside, "192.168.77.2/24")] {
        netns.ip(&format!("addr add {address} dev up0"));
        netns.ip("link set up0 up");
    }
    let before = host.ip("-o link");

    let bridge =
        |command: &str, id: &str, netns: &str| host.within(|| call("bridge", command, id, netns, &conf));
    let path = |netns: &Netns| netns.path().display().to_string();
    let one = bridge("ADD", "pod-one", &path(&pod)).unwrap();
    let two = bridge("ADD", "pod-two", &path(&other)).unwrap();
    assert_eq!((address(&one), address(&two)), ("10.77.3.2".parse().unwrap(), "10.77.3.3".parse().unwrap()));
    assert_eq!(one["ips"][0], json!({"address": "10.77.3.2/24", "gateway": "10.77.3.1", "interface": 2}));
    assert_eq!(one["interfaces"][2]["sandbox"], json!(path(&pod)));
    let mut check = conf.clone();
    check["prevResult"] = one.clone();
    host.within(|| call("bridge", "CHECK", "pod-one", &path(&pod), &check)).unwrap();

    let server = serve(&listen(&other, "10.77.3.3:80"));
    greet(&pod, (address(&two), 80)).unwrap();
    assert_eq!(server.join().unwrap().ip(), address(&one), "pods see each other's addresses");
    let route = pod.ip("route get 10.77.3.3");
    assert!(route.contains("via 10.77.3.1"), "{route}");
    let server = serve(&listen(&pod, "10.77.3.2:80"));
    greet(&host, (address(&one), 80)).unwrap();
    assert_eq!(server.join().unwrap().ip().to_string(), "10.77.3.1");
    let server = serve(&listen(&outside, "192.168.77.2:80"));
    greet(&pod, ([192, 168, 77, 2], 80)).unwrap();
    assert_eq!(server.join().unwrap().ip().to_string(), "192.168.77.1", "the world sees the host");

    bridge("DEL", "pod-one", &path(&pod)).unwrap();
    bridge("DEL", "pod-one", &path(&pod)).unwrap();
    assert!(!pod.ip("-o link").contains("eth0"));
    // The namespace went first.
    let gone = path(&other);
    drop(other);
    bridge("DEL", "pod-two", &gone).unwrap();
    bridge("DEL", "pod-two", "").unwrap();
    let addresses = std::fs::read_dir(dir.path().join("test")).unwrap();
    let addresses: Vec<_> = addresses
        .map(|e| e.unwrap().file_name())
        .filter(|n| n.to_string_lossy().starts_with("10."))
        .collect();
    assert!(addresses.is_empty(), "{addresses:?}");
    host.within(|| cni::remove_network("test", "cni-test")).unwrap();
    host.within(|| cni::remove_network("test", "cni-test")).unwrap();
    assert_eq!(host.ip("-o link").lines().count(), before.lines().count());
    host.within(|| assert_eq!(netlink::nft::table_names(netlink::nft::Family::Ip).unwrap(), [""; 0]));
}

#[test]
fn ports_of_the_host_lead_to_the_pod() {
    let (Some(host), Some(pod), Some(outside)) =
        (Netns::new("phost"), Netns::new("ppod"), Netns::new("pout"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    host.ip(&format!("link add up0 type veth peer name up0 netns {}", outside.name()));
    for (netns, address) in [(&host, "192.168.78.1/24"), (&outside, "192.168.78.2/24")] {
        netns.ip(&format!("addr add {address} dev up0"));
        netns.ip("link set up0 up");
    }
    let path = pod.path().display().to_string();
    let mut conf = conf(dir.path());
    conf["prevResult"] = host.within(|| call("bridge", "ADD", "pod", &path, &conf)).unwrap();
    conf["runtimeConfig"] = json!({"portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8081, "containerPort": 80, "protocol": "TCP", "hostIP": "192.168.78.1"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}
    ]});
    let result = host.within(|| call("portmap", "ADD", "pod", &path, &conf)).unwrap();
    assert_eq!(result["ips"], conf["prevResult"]["ips"]);
    // A retry after a crash finds its own rules.
    host.within(|| call("portmap", "ADD", "pod", &path, &conf)).unwrap();

    let listener = listen(&pod, "10.77.3.2:80");
    for (from, to, seen) in [
        (&outside, "192.168.78.1:8080", "192.168.78.2"),
        (&outside, "192.168.78.1:8081", "192.168.78.2"),
        (&host, "192.168.78.1:8080", "10.77.3.1"),
        (&host, "127.0.0.1:8080", "10.77.3.1"),
        (&pod, "192.168.78.1:8080", "10.77.3.1"),
    ] {
        let server = serve(&listener);
        greet(from, to.parse::<SocketAddr>().unwrap())
            .unwrap_or_else(|error| panic!("{} {to}: {error}", from.name()));
        let client = server.join().unwrap().ip().to_string();
        // Seen from the host itself the source may be any of its own addresses.
        let own = from.name() == host.name() && ["192.168.78.1", "127.0.0.1"].contains(&client.as_str());
        assert!(client == seen || own, "{to} came from {client}");
    }
    outside.ip("route add default via 192.168.78.1");
    let server = pod.within(|| UdpSocket::bind("10.77.3.2:53").unwrap());
    let client = outside.within(|| UdpSocket::bind("192.168.78.2:0").unwrap());
    client.send_to(b"ask", "192.168.78.1:5353").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from.ip().to_string(), "192.168.78.2");

    conf.as_object_mut().unwrap().remove("runtimeConfig");
    host.within(|| call("portmap", "DEL", "pod", "", &conf)).unwrap();
    host.within(|| call("portmap", "DEL", "pod", "", &conf)).unwrap();
    assert!(greet(&outside, ([192, 168, 78, 1], 8080)).is_err());
    host.within(|| {
        for set in ["ports", "address-ports"] {
            let left = netlink::nft::elements(netlink::nft::Family::Ip, "cni-hostport-test", set).unwrap();
            assert_eq!(left, []);
        }
    });
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    let (Some(host), Some(pod)) = (Netns::new("fhost"), Netns::new("fpod")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut conf = conf(dir.path());
    // The bridge has another address already.
    host.ip("link add cni-test type bridge");
    host.ip("addr add 10.99.0.1/24 dev cni-test");
    let path = pod.path().display().to_string();
    let refused = host.within(|| call("bridge", "ADD", "pod", &path, &conf)).unwrap_err();
    assert!(refused["msg"].as_str().unwrap().contains("different from 10.77.3.1"), "{refused}");
    assert!(!pod.ip("-o link").contains("eth0"));
    assert!(!dir.path().join("test/10.77.3.2").exists());
    conf["vlan"] = json!(7);
    let refused = host.within(|| call("bridge", "ADD", "pod", &path, &conf)).unwrap_err();
    assert_eq!((&refused["code"], &refused["cniVersion"]), (&json!(2), &json!("1.0.0")));
    conf["vlan"] = json!(0);
    conf["ipam"]["type"] = json!("dhcp");
    let refused = host.within(|| call("bridge", "ADD", "pod", &path, &conf)).unwrap_err();
    assert!(refused["msg"].as_str().unwrap().contains("failed to find plugin \"dhcp\""), "{refused}");
}

#[test]
fn loopback_is_set_up() {
    let Some(pod) = Netns::new("lo") else { return };
    pod.ip("link set lo down");
    let path = pod.path().display().to_string();
    let conf = json!({"cniVersion": "0.4.0", "name": "lo", "type": "loopback"});
    call("loopback", "CHECK", "pod", &path, &conf).unwrap_err();
    let result = call("loopback", "ADD", "pod", &path, &conf).unwrap();
    assert_eq!(result["ips"][0], json!({"address": "127.0.0.1/8", "interface": 0, "version": "4"}));
    call("loopback", "CHECK", "pod", &path, &conf).unwrap();
    call("loopback", "DEL", "pod", "", &conf).unwrap();
}

#[test]
fn addresses_are_given_out_one_by_one_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let conf = |range: Value| {
        json!({"cniVersion": "0.3.1", "name": "net", "ipam": {
            "type": "host-local", "dataDir": dir.path(), "ranges": range, "routes": [{"dst": "0.0.0.0/0"}]
        }})
    };
    let range = json!([[{"subnet": "10.1.2.0/29"}], [{"subnet": "fd00:1::/64", "rangeStart": "fd00:1::10", "rangeEnd": "fd00:1::20"}]]);
    let add = |id: &str| call("host-local", "ADD", id, "/ns", &conf(range.clone()));
    let given = |result: Value| -> Vec<String> {
        result["ips"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ip| ip["address"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = add("a").unwrap();
    assert_eq!(first["ips"][0]["version"], "4");
    assert_eq!(first["routes"], json!([{"dst": "0.0.0.0/0"}]));
    assert_eq!(given(first), ["10.1.2.2/29", "fd00:1::10/64"]);
    assert!(add("a").unwrap_err()["msg"].as_str().unwrap().contains("duplicate allocation"));
    assert_eq!(given(add("b").unwrap()), ["10.1.2.3/29", "fd00:1::11/64"]);
    call("host-local", "DEL", "b", "", &conf(range.clone())).unwrap();
    // An address rests before it is used again.
    let next: Vec<String> =
        ["c", "d", "e", "f"].iter().map(|id| given(add(id).unwrap())[0].clone()).collect();
    assert_eq!(next, ["10.1.2.4/29", "10.1.2.5/29", "10.1.2.6/29", "10.1.2.3/29"]);
    let full = add("g").unwrap_err();
    assert!(
        full["msg"]
            .as_str()
            .unwrap()
            .starts_with("no IP addresses available in range set: 10.1.2.1-10.1.2.6")
    );
    assert!(!dir.path().join("net/fd00:1::16").exists(), "all or none");

    let mut gc = conf(range.clone());
    gc["cniVersion"] = json!("1.1.0");
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "a", "ifname": "eth0"}]);
    call("host-local", "GC", "", "", &gc).unwrap();
    let mut asked = conf(range);
    asked["runtimeConfig"] = json!({"ips": ["10.1.2.5/29"]});
    assert_eq!(given(call("host-local", "ADD", "h", "/ns", &asked).unwrap())[0], "10.1.2.5/29");
    let taken = call("host-local", "ADD", "i", "/ns", &asked).unwrap_err();
    assert!(taken["msg"].as_str().unwrap().contains("is not available"));
    let kept = std::fs::read_to_string(dir.path().join("net/10.1.2.2")).unwrap();
    assert_eq!(kept, "a\r\neth0");
    let other = json!({"cniVersion": "1.0.0", "name": "many", "ipam": {
        "type": "host-local", "dataDir": dir.path(), "subnet": "10.4.0.0/16"
    }});
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let conf = other.clone();
            std::thread::spawn(move || {
                let add = |n| call("host-local", "ADD", &format!("c{thread}-{n}"), "/ns", &conf).unwrap();
                (0..20).map(|n| address(&add(n))).collect::<Vec<_>>()
            })
        })
        .collect();
    let all: std::collections::HashSet<IpAddr> =
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert_eq!(all.len(), 160);
}

#[test]
fn wrong_calls_are_told_so() {
    let conf = |version: &str| json!({"cniVersion": version, "name": "net", "ipam": {"type": "host-local"}});
    let version = call("bridge", "VERSION", "", "", &json!({"cniVersion": "1.0.0"})).unwrap();
    assert_eq!(version["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    let cases = [
        ("bridge", "ADD", "id", "", conf("1.0.0"), 4, "required env variables [CNI_NETNS] missing"),
        ("bridge", "ADD", "../id", "/ns", conf("1.0.0"), 4, "invalid container ID: ../id"),
        ("bridge", "FETCH", "id", "/ns", conf("1.0.0"), 4, "unknown CNI_COMMAND: FETCH"),
        (
            "bridge",
            "ADD",
            "id",
            "/ns",
            conf("0.2.0"),
            1,
            "version \"0.2.0\" is not one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
        ("bridge", "GC", "", "", conf("1.0.0"), 1, "config version \"1.0.0\" does not allow GC"),
        ("portmap", "ADD", "id", "/ns", conf("1.0.0"), 7, "must be called as chained plugin"),
        (
            "ptp",
            "ADD",
            "id",
            "/ns",
            conf("1.0.0"),
            7,
            "there is no plugin \"ptp\" here: bridge, host-local, portmap, loopback",
        ),
        (
            "bridge",
            "ADD",
            "id",
            "/ns",
            json!({"cniVersion": "1.0.0", "name": "../x"}),
            7,
            "invalid network name: \"../x\"",
        ),
    ];
    for (plugin, command, id, netns, conf, code, message) in cases {
        let refused = call(plugin, command, id, netns, &conf).unwrap_err();
        assert_eq!(
            (refused["code"].as_i64(), refused["msg"].as_str()),
            (Some(code), Some(message)),
            "{refused}"
        );
    }
}
