//! Which endpoints traffic goes to, as a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netlink::nft::{ElementData, Expr, Family, SetRef, Verdict, key};
use serde_json::{Value, json};

use super::*;

const NODE: &str = "me";

/// Conditions in a letter: ready, terminating but serving, or neither.
fn conditions(state: char) -> Value {
    match state {
        'r' => json!({"ready": true, "serving": true, "terminating": false}),
        't' => json!({"ready": false, "serving": true, "terminating": true}),
        _ => json!({"ready": false, "serving": false, "terminating": false}),
    }
}

/// Endpoints as words: a letter for the state, `l` if local, the last byte of the address, a zone after `@`.
fn slices(words: &str) -> Vec<Arc<EndpointSlice>> {
    let endpoint = |word: &str| {
        let (word, zone) = word.split_once('@').unwrap_or((word, ""));
        let state = word.chars().next().unwrap();
        let local = word.contains('l');
        let number = word.trim_start_matches(|c: char| c.is_alphabetic());
        let mut endpoint = json!({
            "addresses": [format!("10.244.0.{number}")], "conditions": conditions(state),
            "nodeName": if local { NODE } else { "other" }
        });
        if !zone.is_empty() {
            endpoint["hints"] = json!({"forZones": [{"name": zone}]});
        }
        endpoint
    };
    let endpoints: Vec<Value> = words.split_whitespace().map(endpoint).collect();
    let slice = json!({
        "metadata": {"name": "s", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}]
    });
    vec![Arc::new(serde_json::from_value(slice).unwrap())]
}

fn service(spec: &Value) -> Service {
    let mut full = json!({
        "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "type": "NodePort",
        "ports": [{"name": "p", "port": 80, "nodePort": 30080, "protocol": "TCP"}]
    });
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": full})).unwrap()
}

fn planned(spec: &Value, endpoints: &str) -> Fragment {
    let config = Config::new(NODE);
    let ports = ServicePort::read(&config, Some("here"), &service(spec), &slices(endpoints));
    plan(&config, Family::Ip, &ports)
}

/// The last bytes of the endpoints that are reached from a chain, in any number of steps; `drop` counts, too.
fn reached(fragment: &Fragment, chain: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Some(chain) = fragment.chains.get(chain) else { return found };
    for expr in chain.rules.iter().flat_map(|rule| &rule.exprs) {
        match expr {
            Expr::Load(_, value) if value.len() == 4 => drop(found.insert(value[3].to_string())),
            Expr::Map(SetRef::Own(own), ..) => {
                for element in &own.1 {
                    if let ElementData::Value(value) = &element.data {
                        found.insert(value[3].to_string());
                    }
                }
            }
            Expr::Verdict(Verdict::Goto(next)) => found.extend(reached(fragment, next)),
            Expr::Verdict(Verdict::Drop) => drop(found.insert("drop".to_owned())),
            _ => {}
        }
    }
    found
}

/// Where an element of a map, or of the one for services without endpoints, leads.
fn leads(fragment: &Fragment, (map, none): (&str, &str), key: &[u8]) -> String {
    let find = |map: &str| fragment.elements.get(&(map.to_owned(), key.to_vec())).map(|e| e.data.clone());
    match (find(map), find(none)) {
        (Some(ElementData::Verdict(Verdict::Goto(chain))), None) => {
            reached(fragment, &chain).into_iter().collect::<Vec<_>>().join(" ")
        }
        (None, Some(ElementData::Verdict(Verdict::Goto(chain)))) if chain == REJECT => "reject".to_owned(),
        (None, Some(ElementData::Verdict(Verdict::Drop))) => "drop".to_owned(),
        (None, None) => "nowhere".to_owned(),
        other => format!("{other:?}"),
    }
}

fn outcome(spec: &Value, endpoints: &str) -> (String, String) {
    let fragment = planned(spec, endpoints);
    let port = 80_u16.to_be_bytes();
    let internal = key([&[10, 96, 0, 7][..], &[6], &port]);
    let external = key([&[6][..], &30080_u16.to_be_bytes()]);
    (
        leads(&fragment, (SERVICE_IPS, NO_ENDPOINT_IPS), &internal),
        leads(&fragment, (NODE_PORTS, NO_ENDPOINT_NODE_PORTS), &external),
    )
}

#[test]
fn traffic_goes_where_the_policies_say() {
    let cluster = json!({});
    let local = json!({"externalTrafficPolicy": "Local"});
    let inside = json!({"internalTrafficPolicy": "Local"});
    for (spec, endpoints, internal, external) in [
        (&cluster, "r1 rl2", "1 2", "1 2"),
        (&cluster, "r1 t2 n3", "1", "1"),
        // On their way out they serve as long as nobody else does.
        (&cluster, "t1 n2", "1", "1"),
        (&cluster, "n1", "reject", "reject"),
        (&cluster, "", "reject", "reject"),
        (&local, "r1 rl2", "1 2", "1 2"),
        (&local, "r1", "1", "1 drop"),
        (&local, "r1 tl2", "1", "1 2"),
        (&local, "n1", "reject", "reject"),
        (&inside, "r1 rl2", "2", "1 2"),
        (&inside, "r1", "drop", "1"),
        (&inside, "", "reject", "reject"),
        // Hints count if all have them and one is for here.
        (&cluster, "r1@here r2@there", "1", "1"),
        (&cluster, "r1@here r2", "1 2", "1 2"),
        (&cluster, "r1@there r2@there", "1 2", "1 2"),
        (&cluster, "n1@here r2@there", "2", "2"),
    ] {
        let found = outcome(spec, endpoints);
        assert_eq!(found, (internal.to_owned(), external.to_owned()), "{spec} {endpoints}");
    }
}

#[test]
fn services_that_are_not_ours_have_no_rules() {
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"type": "ExternalName", "externalName": "example.org", "clusterIP": null, "clusterIPs": null}),
        json!({"clusterIP": "", "clusterIPs": []}),
    ] {
        assert_eq!(planned(&spec, "r1"), Fragment::default(), "{spec}");
    }
    let mut other = service(&json!({}));
    other.metadata.labels =
        Some([("service.kubernetes.io/service-proxy-name".to_owned(), "x".to_owned())].into());
    assert_eq!(ServicePort::read(&Config::new(NODE), None, &other, &slices("r1")), []);
}

#[test]
fn affinity_remembers_each_client_per_endpoint() {
    let spec =
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}});
    let fragment = planned(&spec, "r1 rl2");
    assert_eq!(fragment.sets.values().map(|set| set.timeout_ms).collect::<Vec<_>>(), [Some(7000); 2]);
    let other = planned(&json!({"sessionAffinity": "ClientIP"}), "r1 rl2");
    assert!(
        fragment.sets.keys().all(|name| !other.sets.contains_key(name)),
        "a set of another make has another name"
    );
}

#[test]
fn the_same_element_of_two_services_stays_until_both_are_gone() {
    let mut ruleset = crate::Ruleset::new(Family::Ip, "t");
    let hairpin = |fragment: &Fragment| fragment.elements.keys().filter(|(set, _)| set == HAIRPIN).count();
    let fragment = planned(&json!({}), "rl2");
    assert_eq!(hairpin(&fragment), 1);
    let mut shared = Fragment::default();
    shared.elements.extend(fragment.elements.into_iter().filter(|((set, _), _)| set == HAIRPIN));
    ruleset.set("one", shared.clone());
    assert!(!ruleset.take_changes().is_empty());
    ruleset.set("two", shared);
    assert!(ruleset.take_changes().is_empty());
    ruleset.set("one", Fragment::default());
    assert!(ruleset.take_changes().is_empty());
    ruleset.set("two", Fragment::default());
    assert!(!ruleset.take_changes().is_empty());
}
