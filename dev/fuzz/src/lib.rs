//! What reads bytes of strangers, as functions of bytes: none may panic, and what is accepted must hold.
//!
//! `tests/short.rs` feeds them damaged samples in every test run; `cargo fuzz run TARGET` in this folder looks for more
//! with coverage (it needs a nightly compiler).

use apiserver::selectors::{FieldSelector, LabelSelector};
use cel::{Bindings, CostBudget, Env, Type};
use codec::{json, protobuf, yaml};
use merge::{FieldManager, Set};
use schema::{Catalog, GroupVersionKind, Schema, Value};

/// Cost that an expression may have: enough to reach every function, little enough to end soon.
const EXPRESSION_COST: u64 = 10_000;

/// A target with its name and samples that it accepts.
pub struct Target {
    /// As `cargo fuzz` names it.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Where damage begins.
    pub samples: &'static [&'static [u8]],
}

const DEPLOYMENT: &[u8] = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"a":"b"}},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"E","value":"1"}],"ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1500m","memory":"1Gi"}}}],"tolerations":[{"key":"k","operator":"Exists"}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}}]}}}}"#;

/// A document and a patch, parted by a zero byte.
const JSON_PATCH: &[u8] = b"{\"a\":[1,{\"b\":2}],\"c\":\"d\"}\0[{\"op\":\"test\",\"path\":\"/c\",\"value\":\"d\"},{\"op\":\"add\",\"path\":\"/a/-\",\"value\":3},{\"op\":\"move\",\"from\":\"/a/0\",\"path\":\"/e\"},{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/f\"},{\"op\":\"remove\",\"path\":\"/c\"}]";
const MERGE_PATCH: &[u8] =
    b"{\"a\":{\"b\":1,\"c\":[1]},\"d\":null}\0{\"a\":{\"b\":null,\"e\":{\"f\":null}},\"d\":[2]}";
const STRATEGIC_PATCH: &[u8] = b"{\"metadata\":{\"finalizers\":[\"a\",\"b\"]},\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}\0{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"a\"]},\"spec\":{\"strategy\":{\"$retainKeys\":[\"type\"],\"type\":\"Recreate\"},\"template\":{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"d\"},{\"name\":\"c\"}],\"containers\":[{\"name\":\"c\",\"$patch\":\"delete\"},{\"name\":\"d\",\"image\":\"j\"}]}}}}";
const APPLY: &[u8] = b"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"w\",\"labels\":{\"a\":\"b\"}},\"spec\":{\"replicas\":1,\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"ports\":[{\"containerPort\":80,\"protocol\":\"TCP\"}]}]}}}}\0{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"w\",\"labels\":{\"c\":\"d\"}},\"spec\":{\"replicas\":2,\"template\":{\"spec\":{\"containers\":[{\"name\":\"e\",\"image\":\"j\"},{\"name\":\"c\",\"image\":\"k\"}]}}}}";

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "json", run: json_body, samples: &[DEPLOYMENT] },
    Target { name: "protobuf", run: protobuf_body, samples: &[DEPLOYMENT] },
    Target { name: "yaml", run: yaml_body, samples: &[b"apiVersion: apps/v1\nkind: Deployment\nmetadata: &m {name: web}\nspec:\n  replicas: 3\n  template:\n    metadata: *m\n    spec:\n      containers:\n      - name: c\n        args: ['a', \"b\n\"]\n        command:\n        - |-\n          text\n"] },
    Target { name: "json_patch", run: json_patch, samples: &[JSON_PATCH] },
    Target { name: "merge_patch", run: merge_patch, samples: &[MERGE_PATCH] },
    Target { name: "strategic_merge_patch", run: strategic_merge_patch, samples: &[STRATEGIC_PATCH] },
    Target { name: "apply", run: apply, samples: &[APPLY] },
    Target { name: "selectors", run: selectors, samples: &[b"a=b,c!=d,e in (f, g),h notin (i),!j,k,l>1,m<2", b"metadata.name=a,spec.nodeName!=b\\,c,d==e"] },
    Target { name: "expression", run: expression, samples: &[
        b"self.all(x, x.startsWith('a') && size(x) < 3) || has(self[0].b) ? timestamp('2024-01-01T00:00:00Z') + duration('1h') : timestamp(0)",
        b"self.map(i, i.matches('^[a-z]+$'), url(i).getHost()).exists_one(k, quantity(k).isGreaterThan(quantity('1Ki')))",
        b"optional.of(self[?0].orValue(\"\\u00e9\")).hasValue() && r'\\d' != 'x' && ip('::1').isLoopback()",
    ] },
];

/// Runs the target of that name; unknown names do nothing.
pub fn run(name: &str, bytes: &[u8]) {
    if let Some(target) = TARGETS.iter().find(|target| target.name == name) {
        (target.run)(bytes);
    }
}

fn deployment() -> Option<&'static Schema> {
    Catalog::builtin().kind(&GroupVersionKind::new("apps", "v1", "Deployment"))
}

/// What is decoded is written so that it decodes to the same.
fn json_body(bytes: &[u8]) {
    let Some(schema) = deployment() else { return };
    let Ok(decoded) = json::decode(bytes, schema) else { return };
    let again = json::decode(&json::encode(&decoded.value), schema).map(|decoded| decoded.value);
    assert_eq!(again.ok().as_ref(), Some(&decoded.value), "JSON of an accepted body decodes to it");
    if let Ok(wire) = protobuf::encode(&decoded.value, schema) {
        assert!(protobuf::decode(&wire, schema).is_ok(), "protobuf of an accepted body decodes");
    }
}

/// Bytes of protobuf, or JSON that is brought into protobuf first.
fn protobuf_body(bytes: &[u8]) {
    let Some(schema) = deployment() else { return };
    let wire = match json::decode(bytes, schema) {
        Ok(decoded) => protobuf::encode(&decoded.value, schema).unwrap_or_default(),
        Err(_) => bytes.to_vec(),
    };
    let Ok(value) = protobuf::decode(&wire, schema) else { return };
    let Ok(encoded) = protobuf::encode(&value, schema) else { return };
    assert_eq!(protobuf::decode(&encoded, schema).ok(), Some(value), "what is decoded encodes to the same");
}

fn yaml_body(bytes: &[u8]) {
    let Ok(value) = yaml::parse(bytes) else { return };
    assert!(yaml::parse(&yaml::encode(&value)).is_ok(), "YAML that is written can be read");
    if let Some(schema) = deployment() {
        let _ = yaml::decode(bytes, schema);
    }
}

fn document_and_patch(bytes: &[u8]) -> Option<(Value, Value)> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((json::parse(&bytes[..at]).ok()?, json::parse(&bytes[at + 1..]).ok()?))
}

fn json_patch(bytes: &[u8]) {
    let Some((document, patch)) = document_and_patch(bytes) else { return };
    let mut patched = document.clone();
    let _ = merge::json_patch(&mut patched, &patch);
    let mut same = document.clone();
    let nothing = merge::json_patch(&mut same, &Value::List(Vec::new()));
    assert!(nothing.is_ok() && same == document, "a patch without operations changes nothing");
}

fn merge_patch(bytes: &[u8]) {
    let Some((mut document, patch)) = document_and_patch(bytes) else { return };
    merge::merge_patch(&mut document, patch.clone());
    let once = document.clone();
    merge::merge_patch(&mut document, patch);
    assert_eq!(document, once, "a merge patch done twice is done once");
}

fn strategic_merge_patch(bytes: &[u8]) {
    let (Some((document, patch)), Some(schema)) = (document_and_patch(bytes), deployment()) else { return };
    let Ok(mut document) = json::conform(&document, schema).map(|decoded| decoded.value) else { return };
    let _ = merge::strategic_merge_patch(&mut document, patch, schema);
}

/// The first object is there, the second is applied; applied again it changes nothing.
fn apply(bytes: &[u8]) {
    let (Some((live, applied)), Some(schema)) = (document_and_patch(bytes), deployment()) else { return };
    let Ok(mut live) = json::conform(&live, schema).map(|decoded| decoded.value) else { return };
    // What is applied is taken as it was sent; it must fit its type all the same.
    if json::conform(&applied, schema).map_or(true, |decoded| !decoded.strict_errors.is_empty()) {
        return;
    }
    let reset = Set::of_fields(&["status"]);
    let manager = FieldManager {
        schema,
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        reset_fields: &reset,
        versions: &(),
        now: "2024-01-01T00:00:00Z".into(),
    };
    manager.update(None, &mut live, "creator");
    let Ok(once) = manager.apply(Some(&live), &applied, "applier", true) else { return };
    let again = manager.apply(Some(&once), &applied, "applier", false);
    assert_eq!(again.ok().as_ref(), Some(&once), "what is applied again changes nothing");
}

fn selectors(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        selector.matches(|_| None);
        selector.matches(|_| Some("1"));
    }
    let _ = FieldSelector::parse(text);
}

/// Compiled, and evaluated on little values within a small budget.
fn expression(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let env = Env::new().variable("self", Type::Dyn);
    let Ok(program) = env.compile(source, &[]) else { return };
    for object in [schema::value!(["a", "1Ki", "http://x/"]), schema::value!({"b": 1}), Value::Null] {
        let variables = Bindings::new().with("self", cel::Value::from_json(&object));
        let _ = program.evaluate(&variables, &mut CostBudget::new(EXPRESSION_COST));
    }
}
