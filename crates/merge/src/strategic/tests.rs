//! Strategic merge, directive by directive.

use super::*;
use proptest::prelude::*;
use schema::{Catalog, GroupVersionKind};

fn pod() -> &'static Schema {
    Catalog::builtin().kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap()
}

fn deployment() -> &'static Schema {
    Catalog::builtin().kind(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn patched(schema: &Schema, original: &str, patch: &str) -> Result<Value> {
    let mut value = parse(original);
    strategic_merge_patch(&mut value, parse(patch), schema).map(|()| value)
}

#[test]
fn merges() {
    for (original, patch, result) in [
        // Objects by merge key; new ones before those of the server.
        (
            r#"{"spec":{"containers":[{"name":"c","image":"1"},{"name":"d","image":"1"}]}}"#,
            r#"{"spec":{"containers":[{"name":"e","image":"new"},{"name":"d","image":"2"}]}}"#,
            r#"{"spec":{"containers":[{"name":"e","image":"new"},{"name":"c","image":"1"},{"name":"d","image":"2"}]}}"#,
        ),
        (
            r#"{"spec":{"containers":[{"name":"c"},{"name":"d"}]}}"#,
            r#"{"spec":{"containers":[{"name":"d","$patch":"delete"}]}}"#,
            r#"{"spec":{"containers":[{"name":"c"}]}}"#,
        ),
        (
            r#"{"spec":{"containers":[{"name":"c"},{"name":"d"}]}}"#,
            r#"{"spec":{"containers":[{"name":"z"},{"$patch":"replace"}]}}"#,
            r#"{"spec":{"containers":[{"name":"z"}]}}"#,
        ),
        (
            r#"{"spec":{"containers":[{"name":"c","image":"1"},{"name":"d","image":"1"}]}}"#,
            r#"{"spec":{"$setElementOrder/containers":[{"name":"d"},{"name":"c"}],"containers":[{"name":"c","image":"x"}]}}"#,
            r#"{"spec":{"containers":[{"name":"d","image":"1"},{"name":"c","image":"x"}]}}"#,
        ),
        // Lists without a strategy are replaced.
        (
            r#"{"spec":{"tolerations":[{"key":"a"}]}}"#,
            r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
            r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
        ),
        // Lists of scalars.
        (
            r#"{"metadata":{"finalizers":["b.com/y","c.com/z"]}}"#,
            r#"{"metadata":{"finalizers":["a.com/x"],"$deleteFromPrimitiveList/finalizers":["b.com/y"]}}"#,
            r#"{"metadata":{"finalizers":["a.com/x","c.com/z"]}}"#,
        ),
        // Maps.
        (
            r#"{"metadata":{"labels":{"a":"1","b":"2"}}}"#,
            r#"{"metadata":{"labels":{"$patch":"replace","only":"this"}}}"#,
            r#"{"metadata":{"labels":{"only":"this"}}}"#,
        ),
        (
            r#"{"metadata":{"labels":{"a":"1","b":"2"}}}"#,
            r#"{"metadata":{"labels":{"a":null,"c":"3","d":null}}}"#,
            r#"{"metadata":{"labels":{"b":"2","c":"3"}}}"#,
        ),
        (r#"{"spec":{"nodeName":"a"}}"#, r#"{"spec":{"$patch":"delete"}}"#, r#"{"spec":{}}"#),
        // Keys to retain.
        (
            r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
            r#"{"spec":{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}}"#,
            r#"{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/x"}}]}}"#,
        ),
        // Directives in what is new are not stored.
        (
            r#"{}"#,
            r#"{"spec":{"$setElementOrder/volumes":[{"name":"v"}],"volumes":[{"name":"v","$retainKeys":["name"],"x":null}]}}"#,
            r#"{"spec":{"volumes":[{"name":"v"}]}}"#,
        ),
    ] {
        assert_eq!(patched(pod(), original, patch), Ok(parse(result)), "{patch}");
    }
}

#[test]
fn strategy_keeps_only_named_keys() {
    let original = r#"{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}"#;
    let patch = r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#;
    assert_eq!(
        patched(deployment(), original, patch),
        Ok(parse(r#"{"spec":{"strategy":{"type":"Recreate"}}}"#))
    );
}

#[test]
fn refusals() {
    let original = r#"{"spec":{"containers":[{"name":"c"}]},"metadata":{"labels":{"a":"b"}}}"#;
    for (patch, error) in [
        (
            r#"{"spec":{"containers":[{"image":"x"}]}}"#,
            StrategicError::Internal("map: map[image:x] does not contain declared merge key: name".into()),
        ),
        (
            r#"{"metadata":{"labels":{"$patch":"x"}}}"#,
            StrategicError::Internal("unknown patch type: x in map: map[$patch:x]".into()),
        ),
        (
            r#"{"spec":{"$retainKeys":["a"],"nodeName":"x"}}"#,
            StrategicError::BadPatch("invalid patch format of retainKeys".into()),
        ),
        (
            "[1,2]",
            StrategicError::BadPatch(
                "json: cannot unmarshal array into Go value of type map[string]interface {}".into(),
            ),
        ),
    ] {
        assert_eq!(patched(pod(), original, patch), Err(error), "{patch}");
    }
}

#[test]
fn misfits_are_named() {
    let value = parse(r#"{"spec":{"replicas":"three"}}"#);
    assert_eq!(check_convertible(&value, deployment().root()), Err("unrecognized type: int32".to_owned()));
    assert_eq!(check_convertible(&parse(r#"{"spec":{"replicas":3}}"#), deployment().root()), Ok(()));
}

fn pods() -> impl proptest::strategy::Strategy<Value = Value> {
    let container = ("[a-e]", "[x-z]", proptest::collection::btree_map("[A-C]", "[0-9]", 0..3)).prop_map(
        |(name, image, env)| {
            let env: Vec<Value> = env
                .into_iter()
                .map(|(k, v)| Value::Map([("name", k.as_str()), ("value", v.as_str())].into_iter().collect()))
                .collect();
            let mut c = Value::map();
            c.insert("name", name);
            c.insert("image", image);
            c.insert("env", env);
            c
        },
    );
    proptest::collection::vec(container, 0..5).prop_map(|mut list| {
        list.sort_by(|a, b| a.str_at("name").cmp(&b.str_at("name")));
        list.dedup_by(|a, b| a.str_at("name") == b.str_at("name"));
        let mut pod = Value::map();
        pod.set("spec.containers", list);
        pod
    })
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(pod_object in pods()) {
        let mut patched = pod_object.clone();
        strategic_merge_patch(&mut patched, Value::map(), pod()).unwrap();
        prop_assert_eq!(patched, pod_object);
    }

    #[test]
    fn a_patch_applied_twice_is_applied_once(pod_object in pods(), patch in pods()) {
        let mut once = pod_object;
        strategic_merge_patch(&mut once, patch.clone(), pod()).unwrap();
        let mut twice = once.clone();
        strategic_merge_patch(&mut twice, patch, pod()).unwrap();
        prop_assert_eq!(once, twice);
    }
}
