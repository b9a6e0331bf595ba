//! JSON decoding by schema: normal form, unknown and duplicate fields, Go's type errors.

use codec::json::{conform, decode, encode, parse};
use schema::{Catalog, GroupVersionKind, Schema, value};

fn kind(group: &str, version: &str, kind: &str) -> Schema {
    Catalog::builtin().kind(&GroupVersionKind::new(group, version, kind)).expect("a known kind").clone()
}

#[test]
fn normal_form_is_what_go_writes() {
    let body = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{},"creationTimestamp":null},
        "spec":{"hostNetwork":false,"terminationGracePeriodSeconds":0,"containers":[{"name":"c","resources":{"limits":{"cpu":1,"memory":"1024Mi"}},
        "env":[{"name":"X","value":""}]}]}}"#;
    let decoded = decode(body, &kind("", "v1", "Pod")).unwrap();
    let expected = value!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "env": [{"name": "X"}],
                 "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]},
        "status": {}});
    assert_eq!(decoded.value, expected);
    assert!(decoded.strict_errors.is_empty());
}

#[test]
fn always_written_fields_are_filled() {
    let role = decode(
        br#"{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1"}"#,
        &kind("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    )
    .unwrap();
    assert_eq!(role.value["rules"], schema::Value::Null);
    assert!(role.value.get("rules").is_some());
}

#[test]
fn strict_errors_name_paths_in_the_order_of_the_body() {
    let body = br#"{"metadata":{"bogus":1},"spec":{"containers":[{"name":"a","wat":{}}],"nodeSelector":{"a":"1","a":"2"}},"bogus":true,"bogus":true}"#;
    let decoded = decode(body, &kind("", "v1", "Pod")).unwrap();
    assert_eq!(
        decoded.strict_errors,
        [
            "unknown field \"metadata.bogus\"",
            "unknown field \"spec.containers[0].wat\"",
            "duplicate field \"spec.nodeSelector.a\"",
            "unknown field \"bogus\"",
            "unknown field \"bogus\"",
        ]
    );
    assert_eq!(decoded.value.str_at("spec.nodeSelector.a"), Some("2"));
}

#[test]
fn type_errors_read_as_in_go() {
    for (target, body, expected) in [
        (
            kind("", "v1", "Service"),
            r#"{"spec":{"ports":[{"port":"x"}]}}"#,
            "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            kind("", "v1", "Service"),
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Service.spec of type v1.ServiceSpec",
        ),
        (
            kind("", "v1", "Service"),
            r#"{"spec":{"selector":{"a":{}}}}"#,
            "json: cannot unmarshal object into Go struct field ServiceSpec.spec.selector of type string",
        ),
        (
            kind("", "v1", "Pod"),
            r#"{"spec":{"containers":[{"readinessProbe":{"tcpSocket":{"port":1099511627776}}}]}}"#,
            "json: cannot unmarshal number 1099511627776 into Go struct field TCPSocketAction.spec.containers.readinessProbe.ProbeHandler.tcpSocket.port of type int32",
        ),
        (
            kind("", "v1", "ConfigMap"),
            r#"{"data":{"a":1}}"#,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (kind("", "v1", "Secret"), r#"{"data":{"a":"!"}}"#, "illegal base64 data at input byte 0"),
        (
            kind("", "v1", "Pod"),
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            kind("apps", "v1", "Deployment"),
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
    ] {
        assert_eq!(decode(body.as_bytes(), &target).unwrap_err().to_string(), expected);
    }
}

#[test]
fn custom_kinds_keep_values_and_drop_unknown_fields() {
    let openapi = value!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"}, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    let schema = Schema::from_openapi(&openapi, true).unwrap();
    let body = br#"{"kind":"W","apiVersion":"x/v1","metadata":{"name":"a","bogus":1,"labels":null},"spec":{"size":"big","no":1,"any":{"x":null}}}"#;
    let decoded = decode(body, &schema).unwrap();
    let expected = value!({"kind": "W", "apiVersion": "x/v1", "metadata": {"name": "a"}, "spec": {"size": "big", "any": {"x": null}}});
    assert_eq!(decoded.value, expected);
    assert_eq!(decoded.strict_errors, ["unknown field \"metadata.bogus\"", "unknown field \"spec.no\""]);
}

#[test]
fn schemas_of_custom_resources_decode() {
    let body = br#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object","properties":{
        "a":{"type":"array","items":{"type":"string","bogus":1}},"b":{"type":"object","additionalProperties":true}}}}}]}}"#;
    let decoded = decode(body, &kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")).unwrap();
    assert_eq!(
        decoded.strict_errors,
        ["unknown field \"spec.versions[0].schema.openAPIV3Schema.properties.a.items.bogus\""]
    );
    let b = decoded.value.at("spec.versions").unwrap()[0].at("schema.openAPIV3Schema.properties.b").unwrap();
    assert_eq!(b["additionalProperties"].as_bool(), Some(true));
}

#[test]
fn conform_is_idempotent() {
    let schema = kind("apps", "v1", "Deployment");
    let patched = value!({"spec": {"replicas": null, "template": {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 2}}}]}}}});
    let once = conform(&patched, &schema).unwrap().value;
    assert_eq!(conform(&once, &schema).unwrap().value, once);
    assert_eq!(parse(&encode(&once)).unwrap(), once);
}
