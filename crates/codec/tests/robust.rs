//! Damaged input is an error, never a panic, and what still decodes encodes again.

use codec::{json, protobuf, yaml};
use schema::{Catalog, GroupVersionKind, Schema, Value, value};

/// A small generator with a fixed seed: failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn deployment() -> (Schema, Value) {
    let kind = GroupVersionKind::new("apps", "v1", "Deployment");
    let schema = Catalog::builtin().kind(&kind).expect("a known kind").clone();
    let object = value!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "wéb", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": {"a": "b", "c": "\u{1F600}"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/"}}, "args": ["--x", "multi\nline", "\t"]}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]}}}});
    (schema, object)
}

fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"{}[]\",:\\0-\x80\n"[random.below(12)]),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[test]
fn damaged_bodies() {
    let (schema, object) = deployment();
    let text = json::encode(&object);
    let lines = yaml::encode(&object);
    let wire = protobuf::encode(&json::conform(&object, &schema).unwrap().value, &schema).unwrap();
    let mut random = Random(7);
    for _ in 0..3_000 {
        if let Ok(decoded) = json::decode(&damage(&text, &mut random), &schema) {
            assert_eq!(json::conform(&decoded.value, &schema).unwrap().value, decoded.value);
        }
        if let Ok(value) = protobuf::decode(&damage(&wire, &mut random), &schema) {
            json::conform(&value, &schema).unwrap();
        }
        let _ = json::parse(&damage(&text, &mut random));
    }
    for _ in 0..300 {
        let _ = yaml::decode(&damage(&lines, &mut random), &schema);
    }
}

#[test]
fn all_three_encodings_agree() {
    let (schema, object) = deployment();
    let normal = json::conform(&object, &schema).unwrap().value;
    assert_eq!(json::decode(&json::encode(&normal), &schema).unwrap().value, normal);
    assert_eq!(yaml::decode(&yaml::encode(&normal), &schema).unwrap().value, normal);
    assert_eq!(protobuf::decode(&protobuf::encode(&normal, &schema).unwrap(), &schema).unwrap(), normal);
}

#[test]
fn deep_nesting_is_refused() {
    let deep = "{\"a\":".repeat(100_000);
    assert!(json::parse(deep.as_bytes()).is_err());
    assert!(yaml::parse("[".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn the_deepest_body_fits_a_worker_threads_stack() {
    const STACK_BYTES: usize = 2 << 20;
    let worker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        let kind = GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let schema = Catalog::builtin().kind(&kind).expect("a known kind");
        let levels = codec::DEPTH_MAX - 10;
        let schemas = format!("{}{{}}{}", "{\"not\":".repeat(levels), "}".repeat(levels));
        let body =
            format!("{{\"spec\":{{\"versions\":[{{\"schema\":{{\"openAPIV3Schema\":{schemas}}}}}]}}}}");
        let value = json::decode(body.as_bytes(), schema).unwrap().value;
        let wire = protobuf::encode(&value, schema).unwrap();
        assert_eq!(protobuf::decode(&wire, schema).unwrap(), value);
        let flat = format!("{}1{}", "[".repeat(90), "]".repeat(90));
        assert_eq!(yaml::parse(flat.as_bytes()), json::parse(flat.as_bytes()));
    });
    worker.unwrap().join().unwrap();
}
