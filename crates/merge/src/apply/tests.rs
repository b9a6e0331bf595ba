//! Server-side apply, as tables.

use super::*;
use proptest::prelude::*;
use schema::{Catalog, GroupVersionKind, value};

fn manager(now: &str) -> FieldManager<'static> {
    static RESET: std::sync::LazyLock<Set> = std::sync::LazyLock::new(|| Set::of_fields(&["status"]));
    FieldManager {
        schema: Catalog::builtin().kind(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap(),
        api_version: "v1",
        kind: "ConfigMap",
        subresource: "",
        reset_fields: &RESET,
        versions: &(),
        now: now.into(),
    }
}

fn config(data: Value) -> Value {
    let mut object = value!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    object.insert("data", data);
    object
}

fn names(object: &Value) -> Vec<&str> {
    object.items_at("metadata.managedFields").iter().filter_map(|e| e.str_at("manager")).collect()
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_applies_it() {
    let one =
        manager("1").apply(None, &config(value!({"a": "1", "b": "2", "c": "3"})), "one", false).unwrap();
    let both = manager("2").apply(Some(&one), &config(value!({"b": "2"})), "two", false).unwrap();
    let less = manager("3").apply(Some(&both), &config(value!({"c": "3"})), "one", false).unwrap();
    assert_eq!(less["data"], value!({"b": "2", "c": "3"}));
    let none = manager("4").apply(Some(&less), &config(value!({})), "one", false).unwrap();
    assert_eq!(none["data"], value!({"b": "2"}));
}

#[test]
fn conflicts_name_owner_and_field() {
    let one = manager("1").apply(None, &config(value!({"a": "1", "b": "1"})), "one", false).unwrap();
    let error = manager("2").apply(Some(&one), &config(value!({"a": "2"})), "two", false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    let error =
        manager("2").apply(Some(&one), &config(value!({"a": "2", "b": "2"})), "two", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b"
    );
    let forced = manager("2").apply(Some(&one), &config(value!({"a": "2"})), "two", true).unwrap();
    assert_eq!(forced["data"]["a"], Value::str("2"));
    assert_eq!(names(&forced), ["one", "two"]);
}

#[test]
fn an_untracked_object_gets_an_owner_before_its_first_apply() {
    let live = config(value!({"a": "1"}));
    let applied = manager("1").apply(Some(&live), &config(value!({"b": "1"})), "one", false).unwrap();
    assert_eq!(names(&applied), ["one", "before-first-apply"]);
}

#[test]
fn client_side_applies_of_kubectl_are_no_conflicts() {
    let mut live = config(value!({"a": "1"}));
    let last = serde_json::to_string(&live).unwrap();
    live.set_pointer(&["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"], last);
    manager("1").update(None, &mut live, "kubectl-client-side-apply");
    let changed = config(value!({"a": "2"}));
    assert!(manager("2").apply(Some(&live), &changed, "other", false).is_err());
    let applied = manager("2").apply(Some(&live), &changed, "kubectl", false).unwrap();
    assert_eq!(applied["data"]["a"], Value::str("2"));
    let annotation =
        applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
    assert!(annotation.unwrap().contains(r#""a":"2""#));
}

#[test]
fn the_oldest_updaters_become_one() {
    let mut live = config(value!({"k0": "0"}));
    manager("00").update(None, &mut live, "u0");
    for i in 1..14 {
        let mut new = live.clone();
        new["data"].as_map().unwrap();
        new.set_pointer(&["data", &format!("k{i}")], "x");
        manager(&format!("{i:02}")).update(Some(&live), &mut new, &format!("u{i}"));
        live = new;
    }
    let managers = names(&live);
    assert_eq!(managers.len(), MAX_UPDATERS);
    assert!(managers.contains(&ANCIENT), "{managers:?}");
}

#[test]
fn clients_may_reset_owners_and_times_stay_on_no_change() {
    let mut live = config(value!({"a": "1"}));
    manager("1").update(None, &mut live, "u");
    let mut same_again = live.clone();
    manager("2").update(Some(&live), &mut same_again, "u");
    assert_eq!(same_again, live);
    let mut again = live.clone();
    again.as_map_mut().unwrap().entry_map("metadata").entry_list("managedFields")[0].insert("time", "9");
    assert!(keep_times_if_unchanged(&live, &mut again));
    assert_eq!(again, live);
    let mut reset = live.clone();
    reset.set("metadata.managedFields", vec![Value::map()]);
    manager("3").update(Some(&live), &mut reset, "u");
    assert_eq!(names(&reset), Vec::<&str>::new());
}

#[test]
fn refusals() {
    let mut with_owners = config(value!({}));
    with_owners.set("metadata.managedFields", vec![Value::map()]);
    let error = manager("1").apply(None, &with_owners, "m", false).unwrap_err();
    assert_eq!(error.to_string(), "metadata.managedFields must be nil");
    let mut unknown = config(value!({}));
    unknown.insert("nope", 1);
    assert_eq!(
        manager("1").apply(None, &unknown, "m", false).unwrap_err().to_string(),
        "failed to create typed patch object (/c; /v1, Kind=ConfigMap): .nope: field not declared in schema"
    );
}

fn data() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-e]", "[0-2]", 1..5)
        .prop_map(|m| Value::Map(m.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()))
}

proptest! {
    #[test]
    fn apply_is_idempotent(a in data(), b in data(), c in data()) {
        let one = manager("1").apply(None, &config(a), "one", true).unwrap();
        let two = manager("2").apply(Some(&one), &config(b.clone()), "two", true).unwrap();
        let three = manager("3").apply(Some(&two), &config(c.clone()), "one", true).unwrap();
        let again = manager("4").apply(Some(&three), &config(c.clone()), "one", true).unwrap();
        prop_assert!(same(&three, &again));
        for (key, value) in c.entries() {
            prop_assert_eq!(&three["data"][key.as_str()], value);
        }
    }
}
