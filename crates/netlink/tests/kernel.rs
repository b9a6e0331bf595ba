//! What the kernel makes of our messages, as `ip` and `nft` tell it, in network namespaces of the test's own.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::fs::File;
use std::path::Path;

use netlink::nft::{
    BaseChain, Batch, ChainKind, CmpOp, DataType, Element, ElementData, Expr, Family, Hook, MetaKey, NatKind,
    PayloadBase, Reg, Reject, Rule, SetRef, SetSpec, Verdict, elements, key, table_names,
};
use netlink::route::{Address, PortMode, Route, RouteSocket};
use netlink::{conntrack, netns};
use testnet::{Netns, has_nft};

#[test]
fn links_addresses_and_routes() {
    let (Some(host), Some(pod)) = (Netns::new("rt-host"), Netns::new("rt-pod")) else { return };
    let pod_file = File::open(pod.path()).unwrap();
    netns::within(&host.path(), || {
        let mut socket = RouteSocket::open().unwrap();
        socket.add_bridge("br0", Some(1400), [2, 0, 0, 0, 0, 7]).unwrap();
        assert!(socket.add_bridge("br0", None, [2; 6]).unwrap_err().is_exists());
        let bridge = socket.link("br0").unwrap().unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.mtu, bridge.is_up()), ("bridge", 1400, true));
        assert_eq!(bridge.mac_text(), "02:00:00:00:00:07");
        socket.add_veth("veth7", bridge.index, "eth0", &pod_file, Some(1400)).unwrap();
        let veth = socket.link("veth7").unwrap().unwrap();
        assert_eq!(veth.master, bridge.index);
        socket.set_port_mode(veth.index, PortMode { hairpin: true, isolated: false }).unwrap();
        socket.set_promiscuous(bridge.index).unwrap();
        let address = Address { ip: "10.9.0.1".parse().unwrap(), prefix_len: 24, prefix_route: true };
        socket.add_address(bridge.index, address).unwrap();
        socket.add_address(bridge.index, address).unwrap();
        assert_eq!(socket.addresses(bridge.index).unwrap()[0], address);
        assert_eq!(socket.link("none").unwrap(), None);
    })
    .unwrap();
    let port = host.run("ip -d link show veth7");
    assert!(port.contains("hairpin on"), "{port}");

    netns::within(&pod.path(), || {
        let mut socket = RouteSocket::open().unwrap();
        let eth0 = socket.link("eth0").unwrap().unwrap();
        socket.set_up(1).unwrap();
        socket.set_up(eth0.index).unwrap();
        let gateway = "10.9.0.1".parse().unwrap();
        let own = Address { ip: "10.9.0.5".parse().unwrap(), prefix_len: 24, prefix_route: false };
        socket.add_address(eth0.index, own).unwrap();
        let v6 = Address { ip: "fd00::5".parse().unwrap(), prefix_len: 64, prefix_route: true };
        socket.add_address(eth0.index, v6).unwrap();
        let link =
            Route { destination: gateway, prefix_len: 32, gateway: None, link: eth0.index, source: None };
        let any = "0.0.0.0".parse().unwrap();
        let default = Route { destination: any, prefix_len: 0, gateway: Some(gateway), ..link.clone() };
        socket.replace_route(&link).unwrap();
        socket.replace_route(&default).unwrap();
        socket.replace_route(&default).unwrap();
        let mut routes = socket.routes(false).unwrap();
        routes.sort_by_key(|route| route.prefix_len);
        assert_eq!(routes, [default.clone(), link]);
        assert!(socket.delete_route(&default).unwrap());
        assert!(!socket.delete_route(&default).unwrap());
    })
    .unwrap();
    netns::within(&host.path(), || {
        let mut socket = RouteSocket::open().unwrap();
        let bridge = socket.link("br0").unwrap().unwrap();
        socket.set_neighbour(bridge.index, "10.9.0.5".parse().unwrap(), &[2, 0, 0, 0, 0, 9]).unwrap();
        let neighbour = host.run("ip neigh show 10.9.0.5");
        assert!(neighbour.contains("lladdr 02:00:00:00:00:09"), "{neighbour}");
        assert!(socket.delete_link("veth7").unwrap());
        assert!(!socket.delete_link("veth7").unwrap());
        assert_eq!(socket.links().unwrap().len(), 2);
    })
    .unwrap();
    assert!(netns::within(Path::new("/run/netns/corten-test-none"), || ()).is_err());
}

fn tcp() -> [Expr; 2] {
    [Expr::Meta(MetaKey::L4Proto, Reg(0)), Expr::Cmp(Reg(0), CmpOp::Equal, vec![6])]
}

fn ip(text: &str) -> Vec<u8> {
    text.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec()
}

fn fill(batch: &mut Batch) {
    let (family, table) = (Family::Ip, "t");
    batch.reset_table(family, table);
    let service = |address: &str, port: u16| key([&ip(address)[..], &[6], &port.to_be_bytes()]);
    let services = SetSpec {
        name: "services".to_owned(),
        key: vec![DataType::Ipv4, DataType::Protocol, DataType::Port],
        data: vec![DataType::Verdict],
        timeout_ms: None,
    };
    let affinity = SetSpec {
        name: "affinity".to_owned(),
        key: vec![DataType::Ipv4],
        data: Vec::new(),
        timeout_ms: Some(10_000),
    };
    batch.add_set(family, table, &services);
    batch.add_set(family, table, &affinity);
    let nat = BaseChain { kind: ChainKind::Nat, hook: Hook::Prerouting, priority: -100 };
    let post = BaseChain { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 };
    batch.add_chain(family, table, "pre", Some(nat));
    batch.add_chain(family, table, "post", Some(post));
    batch.add_chain(family, table, "svc", None);
    batch.add_chain(family, table, "no", None);
    let many: Vec<Element> = (0..3000_u16)
        .map(|port| {
            Element::of_map(
                service("10.0.0.9", 1000 + port),
                ElementData::Verdict(Verdict::Goto("svc".to_owned())),
            )
        })
        .collect();
    batch.add_elements(family, table, "services", &many);
    let mut jump =
        Element::of_map(service("10.0.0.1", 80), ElementData::Verdict(Verdict::Goto("svc".to_owned())));
    jump.comment = "default/web".to_owned();
    batch.add_elements(family, table, "services", std::slice::from_ref(&jump));
    batch.delete_elements(family, table, "services", &many);
    let lookup = [
        Expr::Payload(PayloadBase::Network, 16, 4, Reg(0)),
        Expr::Meta(MetaKey::L4Proto, Reg(1)),
        Expr::Payload(PayloadBase::Transport, 2, 2, Reg(2)),
        Expr::VerdictMap(SetRef::Named("services".to_owned()), Reg(0)),
    ];
    batch.add_rule(family, table, "pre", &Rule::new(lookup));
    let random = SetSpec {
        name: String::new(),
        key: vec![DataType::Integer],
        data: vec![DataType::Ipv4, DataType::Port],
        timeout_ms: None,
    };
    let endpoint = |n: u32, address: &str| {
        Element::of_map(
            n.to_ne_bytes().to_vec(),
            ElementData::Value(key([&ip(address)[..], &8080_u16.to_be_bytes()])),
        )
    };
    let endpoints = vec![endpoint(0, "10.1.0.1"), endpoint(1, "10.1.0.2")];
    let mut rule = Rule::new(tcp());
    rule.exprs.extend([
        Expr::Random(2, Reg(0)),
        Expr::Map(SetRef::Own(Box::new((random, endpoints))), Reg(0), Reg(1)),
        Expr::Nat(NatKind::Destination, family, Reg(1), Some(Reg(2))),
    ]);
    rule.comment = "default/web:http".to_owned();
    batch.add_rule(family, table, "svc", &rule);
    let update = [
        Expr::Payload(PayloadBase::Network, 12, 4, Reg(0)),
        Expr::Update("affinity".to_owned(), Reg(0), 10_000),
        Expr::Counter,
    ];
    batch.add_rule(family, table, "svc", &Rule::new(update));
    let marked = [
        Expr::Meta(MetaKey::Mark, Reg(0)),
        Expr::Bitwise(Reg(0), 0x4000_u32.to_ne_bytes().to_vec(), vec![0; 4]),
        Expr::Cmp(Reg(0), CmpOp::NotEqual, vec![0; 4]),
        Expr::Masquerade,
    ];
    batch.add_rule(family, table, "post", &Rule::new(marked));
    let local = [
        Expr::FibDestinationType(Reg(0)),
        Expr::Cmp(Reg(0), CmpOp::Equal, 2_u32.to_ne_bytes().to_vec()),
        Expr::Verdict(Verdict::Jump("svc".to_owned())),
    ];
    batch.add_rule(family, table, "pre", &Rule::new(local));
    let mark = [
        Expr::Meta(MetaKey::Mark, Reg(0)),
        Expr::Bitwise(Reg(0), (!0x4000_u32).to_ne_bytes().to_vec(), 0x4000_u32.to_ne_bytes().to_vec()),
        Expr::SetMark(Reg(0)),
    ];
    batch.add_rule(family, table, "no", &Rule::new(mark));
    batch.add_rule(family, table, "no", &Rule::new([Expr::Reject(Reject::Icmp(3))]));
}

#[test]
fn tables_are_as_nft_would_write_them() {
    let Some(netns) = Netns::new("nft").filter(|_| has_nft()) else { return };
    netns::within(&netns.path(), || {
        let mut batch = Batch::new();
        fill(&mut batch);
        batch.commit().unwrap();
        assert_eq!(table_names(Family::Ip).unwrap(), ["t"]);
        let found = elements(Family::Ip, "t", "services").unwrap();
        assert_eq!((found.len(), found[0].comment.as_str()), (1, "default/web"));
        assert_eq!(found[0].data, ElementData::Verdict(Verdict::Goto("svc".to_owned())));
        assert_eq!(elements(Family::Ip, "none", "services").unwrap(), []);
    })
    .unwrap();
    let expected = r#"table ip t {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.0.0.1 . tcp . 80 comment "default/web" : goto svc }
	}

	set affinity {
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 10s
	}

	chain pre {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
		fib daddr type local jump svc
	}

	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 != 0x00000000 masquerade fully-random
	}

	chain svc {
		meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.1.0.1 . 8080, 1 : 10.1.0.2 . 8080 } comment "default/web:http"
		update @affinity { ip saddr timeout 10s } counter packets 0 bytes 0
	}

	chain no {
		meta mark set meta mark | 0x00004000
		reject
	}
}
"#;
    let found = netns.run("nft list ruleset");
    println!("{found}");
    assert_eq!(found, expected);
}

#[test]
fn a_refused_batch_changes_nothing_and_says_why() {
    let Some(netns) = Netns::new("refuse") else { return };
    netns::within(&netns.path(), || {
        let mut batch = Batch::new();
        fill(&mut batch);
        batch.delete_set(Family::Ip, "t", "nowhere");
        batch.add_chain(Family::Ip, "t", "late", None);
        let refused = batch.commit().unwrap_err();
        assert!(refused.is_not_found(), "{refused}");
        assert!(refused.to_string().starts_with("remove set t nowhere"), "{refused}");
        assert_eq!(table_names(Family::Ip).unwrap(), [""; 0]);
        assert_eq!(conntrack::forget(false, |_| true).unwrap(), 0);
    })
    .unwrap();
}
