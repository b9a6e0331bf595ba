//! The DNS specification as a table of questions.

use std::collections::HashMap;

use super::*;

#[derive(Default)]
struct Fake(HashMap<(&'static str, &'static str), ServiceView>);

impl View for Fake {
    fn is_ready(&self) -> bool {
        true
    }

    fn has_namespace(&self, name: &str) -> bool {
        name == "default"
    }

    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView> {
        self.0.iter().find(|(key, _)| **key == (namespace, name)).map(|(_, service)| service.clone())
    }

    fn service_of(&self, address: IpAddr) -> Option<(String, String)> {
        let found = self.0.iter().find(|(_, service)| service.addresses.contains(&address));
        found.map(|((namespace, name), _)| ((*namespace).to_owned(), (*name).to_owned()))
    }

    fn endpoint_of(&self, address: IpAddr) -> Option<(String, String, String)> {
        self.0.iter().find_map(|((namespace, name), service)| {
            let endpoint = service.endpoints.iter().find(|e| e.address == address && e.hostname.is_some())?;
            Some(((*namespace).to_owned(), (*name).to_owned(), endpoint.label()))
        })
    }
}

fn view() -> Fake {
    let port = |name: &str, number| Port { name: name.to_owned(), protocol: "tcp".to_owned(), number };
    let endpoint = |address: &str, hostname: Option<&str>| Endpoint {
        address: address.parse().unwrap(),
        hostname: hostname.map(str::to_owned),
        ports: vec![port("http", 8080)],
    };
    let web = ServiceView {
        addresses: vec!["10.96.0.7".parse().unwrap()],
        ports: vec![port("http", 80)],
        ..ServiceView::default()
    };
    let db = ServiceView {
        ports: vec![port("http", 8080)],
        endpoints: vec![endpoint("10.244.0.5", Some("db-0")), endpoint("10.244.0.6", None)],
        ..ServiceView::default()
    };
    let out = ServiceView { external: Some("example.org".to_owned()), ..ServiceView::default() };
    Fake(HashMap::from([(("default", "web"), web), (("default", "db"), db), (("default", "out"), out)]))
}

fn ask(name: &str, kind: RecordType) -> String {
    let zone = Zone::new("cluster.local").unwrap();
    let query = Query::query(Name::from_ascii(name).unwrap(), kind);
    match zone.answer(&query, &view()) {
        Answer::NotOurs => "not ours".to_owned(),
        Answer::Nothing { exists: true } => "nodata".to_owned(),
        Answer::Nothing { exists: false } => "nxdomain".to_owned(),
        Answer::Found { answers, additionals } => {
            let mut all: Vec<String> = answers.iter().map(|record| record.data.to_string()).collect();
            all.sort();
            let more =
                if additionals.is_empty() { String::new() } else { format!(" +{}", additionals.len()) };
            all.join(", ") + &more
        }
    }
}

#[test]
fn names_have_the_records_of_the_specification() {
    use RecordType::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
    for (name, kind, expected) in [
        ("web.default.svc.cluster.local.", A, "10.96.0.7"),
        ("WEB.Default.svc.cluster.LOCAL.", A, "10.96.0.7"),
        ("web.default.svc.cluster.local.", AAAA, "nodata"),
        ("web.other.svc.cluster.local.", A, "nxdomain"),
        ("default.svc.cluster.local.", A, "nodata"),
        ("other.svc.cluster.local.", A, "nxdomain"),
        ("svc.cluster.local.", A, "nodata"),
        ("cluster.local.", A, "nodata"),
        ("nonsense.cluster.local.", A, "nxdomain"),
        ("db.default.svc.cluster.local.", A, "10.244.0.5, 10.244.0.6"),
        ("db-0.db.default.svc.cluster.local.", A, "10.244.0.5"),
        ("10-244-0-6.db.default.svc.cluster.local.", A, "10.244.0.6"),
        ("db-1.db.default.svc.cluster.local.", A, "nxdomain"),
        ("a.web.default.svc.cluster.local.", A, "nxdomain"),
        ("_http._tcp.web.default.svc.cluster.local.", SRV, "0 100 80 web.default.svc.cluster.local. +1"),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "nxdomain"),
        ("_http._tcp.web.default.svc.cluster.local.", A, "nodata"),
        (
            "_http._tcp.db.default.svc.cluster.local.",
            SRV,
            "0 100 8080 10-244-0-6.db.default.svc.cluster.local., 0 100 8080 db-0.db.default.svc.cluster.local. +2",
        ),
        ("out.default.svc.cluster.local.", A, "example.org."),
        ("out.default.svc.cluster.local.", CNAME, "example.org."),
        ("10-244-0-9.default.pod.cluster.local.", A, "10.244.0.9"),
        ("10-244-0-9.other.pod.cluster.local.", A, "nxdomain"),
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("7.0.96.10.in-addr.arpa.", PTR, "web.default.svc.cluster.local."),
        ("5.0.244.10.in-addr.arpa.", PTR, "db-0.db.default.svc.cluster.local."),
        ("9.0.244.10.in-addr.arpa.", PTR, "not ours"),
        ("example.org.", A, "not ours"),
        ("cluster.local.", SOA, "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"),
    ] {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}
